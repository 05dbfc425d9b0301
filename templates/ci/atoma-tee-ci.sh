#!/bin/sh
# Builds a project in CI, for any CI that has a POSIX shell: build, compare with the committed measurements, sign, verify,
# push, record. Fails with what differs, in the log, in the job's summary and as annotations. Copy it into your repository.
#
#   atoma-tee-ci.sh [PROJECT]            everything else by environment variables, so that nothing is quoted twice:
#
#   ATOMA_TEE             the command (default: atoma-tee)
#   ATOMA_CI_EXPECTED     committed measurements (default: PROJECT/measurements.json)
#   ATOMA_CI_OUT          output directory (default: PROJECT/dist)
#   ATOMA_CI_SIGN_KEY     path of the build key (a secret file, 0600): signs the manifest
#   ATOMA_CI_SAVE_INPUTS  directory for an archive of the inputs, so that anybody can rebuild without a network
#   ATOMA_CI_REBUILD      1: build once more in a clean directory, and compare every byte
#   ATOMA_CI_SEALED       sealed model to push, to the reference ...
#   ATOMA_CI_PUSH         REGISTRY/REPOSITORY:TAG, with the manifest and its signature attached
#   ATOMA_CI_RECORD       file to append to: one line of JSON per build, commit and measurements
#   ATOMA_CI_SUMMARY      file for a summary in Markdown (default: GITHUB_STEP_SUMMARY)
#
# Exit codes are atoma-tee's: 3 where the measurements are not the committed ones.
set -eu

project=${1:-.}
tee=${ATOMA_TEE:-atoma-tee}
expected=${ATOMA_CI_EXPECTED:-$project/measurements.json}
out=${ATOMA_CI_OUT:-$project/dist}
summary=${ATOMA_CI_SUMMARY:-${GITHUB_STEP_SUMMARY:-/dev/null}}
manifest=$out/build.intoto.json

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

say() { printf '%s\n' "$*"; }
# A log quotes files of the project: on GitHub a line of theirs that begins with "::" would be a command to the runner.
show() {
  if [ "${GITHUB_ACTIONS:-}" = true ]; then sed 's/::/: :/g; s/##\[/# #[/g' "$1"; else cat "$1"; fi
}
summarise() { printf '%s\n' "$*" >>"$summary"; }
# The fence is longer than any that the text can hold at the start of a line.
fence() {
  printf '\n``````````text\n' >>"$summary"
  cut -c 1-2000 "$1" | head -n 400 | sed 's/``````````/` ` ` ` `/g' >>"$summary"
  printf '``````````\n\n' >>"$summary"
}
# A line that GitHub shows beside a file; "%" and line ends would be read as something else.
annotate() {
  [ "${GITHUB_ACTIONS:-}" = true ] || return 0
  file=$(printf '%s' "$expected" | sed 's/%/%25/g; s/:/%3A/g; s/,/%2C/g')
  printf '%s' "$1" | tr -d '\r' | sed 's/%/%25/g' | tr '\n' ' ' |
    sed "s|^|::error file=$(printf '%s' "$file" | sed 's/[&|\\]/\\&/g'),title=enclave measurement::|"
  printf '\n'
}

if [ ! -f "$expected" ]; then
  say "no $expected: build once, look at dist/measurements.json, and commit it as that file" >&2
  annotate "there are no committed measurements to compare with"
  exit 2
fi

# What was asked for, as arguments; "$@" is the only list that a POSIX shell has.
set -- build "$project" --out "$out" --check "$expected"
[ -z "${ATOMA_CI_SIGN_KEY:-}" ] || set -- "$@" --sign "$ATOMA_CI_SIGN_KEY"
[ -z "${ATOMA_CI_SAVE_INPUTS:-}" ] || set -- "$@" --save-inputs "$ATOMA_CI_SAVE_INPUTS"

code=0
"$tee" "$@" --no-color >"$work/log" 2>"$work/err" || code=$?
show "$work/log"
show "$work/err" >&2
if [ "$code" -ne 0 ]; then
  summarise "### Enclave: not built (exit $code)"
  if grep -q ERR_BUILD_CHECK "$work/err"; then
    summarise "The measurements are not the ones in \`$expected\`. If the change is meant, build, and commit the new file."
    fence "$work/log"
    grep -E '^(nitro|gramine) (pcr[0-9]|mr|isv|nitro|gramine)[a-z]*: expected ' "$work/log" | head -n 10 >"$work/lines" || true
    while IFS= read -r line; do annotate "$line"; done <"$work/lines"
  else
    annotate "$(grep '^error:' "$work/err" | head -n 1)"
  fi
  fence "$work/err"
  exit "$code"
fi

# The manifest against its artifacts, its signature, and, if asked for, its inputs.
set -- verify "$manifest"
[ ! -f "${ATOMA_CI_SIGN_KEY:-/nonexistent}.pub" ] || set -- "$@" --key "$ATOMA_CI_SIGN_KEY.pub"
[ "${ATOMA_CI_REBUILD:-}" != 1 ] || set -- "$@" --rebuild --project "$project"
"$tee" "$@" --no-color >"$work/verdict" || code=$?
tail -n 1 "$work/verdict"
if [ "$code" -ne 0 ]; then
  show "$work/verdict"
  summarise "### Enclave: built, and not verified (exit $code)"
  fence "$work/verdict"
  annotate "$(tail -n 1 "$work/verdict")"
  exit "$code"
fi

if [ -n "${ATOMA_CI_PUSH:-}" ]; then
  "$tee" push "${ATOMA_CI_SEALED:?names the sealed model to push}" "$ATOMA_CI_PUSH" --manifest "$manifest" --no-color
fi

if [ -n "${ATOMA_CI_RECORD:-}" ]; then
  "$(dirname "$0")/record-measurement.sh" "$out/measurements.json" "$ATOMA_CI_RECORD"
fi

summarise "### Enclave: the committed measurements"
fence "$work/log"
