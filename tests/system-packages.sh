#!/bin/sh
# Install the system packages for the purposes named (build, demo, test) that are missing.
#
#   system-packages.sh build demo
#
# As root, or with a sudo that asks nothing, it installs them; else it prints the one command to run
# and ends with 1. SYSTEM_PACKAGES=no skips it, for machines that have the programs from elsewhere.
set -eu
list=$(dirname "$0")/system-packages.txt
[ "${SYSTEM_PACKAGES:-yes}" != no ] || exit 0

wanted=$(awk -v purposes=" $* " '$1 !~ /^#/ && NF && index(purposes, " " $2 " ") { print $1 }' "$list")
if ! command -v dpkg-query >/dev/null; then
    echo "this is no Debian: please see to it that these are there, then use SYSTEM_PACKAGES=no:" $wanted >&2
    exit 1
fi
missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo env"
else
    echo "some system packages are missing; please run this, then make again:" >&2
    echo "  sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing system packages:$missing"
quiet=$(mktemp)
trap 'rm -f "$quiet"' EXIT
apt="$as_root DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300"
if ! { $apt update && $apt install -y --no-install-recommends $missing; } >"$quiet" 2>&1; then
    tail -n 20 "$quiet" >&2
    echo "error: apt-get could not install:$missing" >&2
    exit 1
fi
