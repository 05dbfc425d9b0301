#!/bin/sh
# Installs what the tests compare us with and no npm package gives. Only what is missing, on Debian and its kin, as root or through
# password-less sudo; elsewhere it says what is missing and the tests concerned are skipped. In CI (CI=true) a missing package is an error.
set -eu

# One per line: package, the program or file by which it is recognised, what for.
packages='
cpio                    /usr/bin/cpio  reads the ramdisks that we write
faketime                faketime       builds under another clock
qemu-system-x86         qemu-system-x86_64  boots the images that we build
gpgv                    /usr/bin/gpgv  checks the signature of a package index
docker-registry         docker-registry  a registry to fetch container images from
skopeo                  skopeo         fills it, and writes the files of docker save
umoci                   umoci          makes container images
buildah                 buildah        makes them in its own way
apache2-utils           htpasswd       passwords of that registry
gcc                     gcc            builds the small kernel, with what follows
make                    make           the same
flex                    flex           the same
bison                   bison          the same
bc                      bc             the same
libelf-dev              /usr/include/gelf.h  the same
xz-utils                xz             the same
tmux                    tmux           a terminal to ask questions in
python3-jinja2          /usr/lib/python3/dist-packages/jinja2  renders what our templates render
debian-archive-keyring  /usr/share/keyrings/debian-archive-keyring.gpg  the keys for that
'

lacking() {
  echo "$packages" | while read -r package mark _; do
    [ -z "$package" ] || [ -e "$mark" ] || command -v "$mark" >/dev/null || echo "$package"
  done
}

missing=$(lacking | xargs)
[ -n "$missing" ] || exit 0

as_root=''
[ "$(id -u)" = 0 ] || as_root='sudo -n'
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
  echo "installing for the tests: $missing" >&2
  apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >/dev/null; }
  # shellcheck disable=SC2086 # a list of words
  { apt update && apt install -y --no-install-recommends $missing; } || true
  missing=$(lacking | xargs)
  [ -n "$missing" ] || exit 0
fi

echo "missing, so some tests are skipped: $missing (apt-get install $missing)" >&2
[ "${CI:-}" != true ] || exit 1
