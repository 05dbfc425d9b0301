#!/bin/sh
# Records which commit has which measurements: one line of JSON per commit, appended to a file.
#
#   record-measurement.sh MEASUREMENTS RECORD [COMMIT]
#   grep PCR0 RECORD                                       # the commits of a measurement
#   git log --format=%H -S PCR0 -- measurements.json       # the same, from the history of the committed file
#
# MEASUREMENTS: measurements.json, or what `atoma-tee build --json` printed. Registers are all hex digits and small numbers:
# they are taken out by their names.
set -eu

measurements=$1
record=$2
commit=${3:-$(git rev-parse HEAD)}
case $commit in
  *[!0-9a-f]* | '') printf 'expected a commit id, found "%s"\n' "$commit" >&2; exit 2 ;;
esac

registers=$(
  grep -oE '"(pcr[0-9]+|mrenclave|mrsigner|isvprodid|isvsvn)" *: *("[0-9a-f]+"|[0-9]+)' "$measurements" |
    tr -d ' ' | paste -sd, -
)
[ -n "$registers" ] || { printf 'no measurement in %s\n' "$measurements" >&2; exit 2; }
line="{\"commit\":\"$commit\",\"measurement\":{$registers}}"
# A build that ran twice is one build.
if [ -f "$record" ] && grep -qxF "$line" "$record"; then exit 0; fi
printf '%s\n' "$line" >>"$record"
