#!/bin/sh
# Installs the Debian packages that are missing, for the groups given: build test lint fuzz oracle plot.
set -eu
packages=""
need() { # need PACKAGE: unless it is installed
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed' || packages="$packages $1"
}
for group in "$@"; do
    case $group in
    build) for p in gcc libc6-dev libjansson-dev libpcre2-dev libutf8proc-dev; do need $p; done ;;
    test) need libcmocka-dev ;;
    lint) for p in clang-format cppcheck; do need $p; done ;;
    fuzz) for p in clang libclang-rt-14-dev; do need $p; done ;;
    oracle) for p in python3 python3-venv; do need $p; done ;;
    plot) need gnuplot-nox ;;
    *) echo "setup: found group \"$group\", expected build, test, lint, fuzz, oracle or plot" >&2; exit 2 ;;
    esac
done
[ -n "$packages" ] || exit 0
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: these Debian packages are missing, and neither root nor sudo is here:$packages" >&2; exit 1; }
    as_root=sudo
fi
echo "installing$packages"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
