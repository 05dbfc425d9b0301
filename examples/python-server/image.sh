#!/bin/sh
# Makes python.oci (an OCI image layout) beside this script: Debian's Python and server.py. Any other way to a
# container image does as well (docker build, buildah, kaniko); this one needs neither Docker nor a daemon.
#   apt-get install mmdebstrap umoci
set -eu
here=$(cd "$(dirname -- "$0")" && pwd)
out=${1:-$here/python.oci}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Packages are unpacked, not configured: nothing here needs their scripts, and it takes seconds.
mmdebstrap --quiet --variant=extract --include=python3,base-files bookworm "$work/root.tar"
umoci init --layout "$work/oci"
umoci new --image "$work/oci:latest"
umoci raw add-layer --image "$work/oci:latest" "$work/root.tar"
umoci insert --rootless --image "$work/oci:latest" "$here/server.py" /app/server.py
umoci config --image "$work/oci:latest" --config.user 65534:65534 --config.workingdir /app \
  --config.env PYTHONDONTWRITEBYTECODE=1 --config.entrypoint /usr/bin/python3 --config.cmd /app/server.py
umoci gc --layout "$work/oci"
rm -rf "$out"
mv "$work/oci" "$out"
