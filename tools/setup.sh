#!/bin/sh
# Installs the Debian packages that are missing for the groups given: build, test, lint, fuzz, oracle, serve.
# Elsewhere than on Debian it names them and leaves the rest to the compiler, which says what is missing.
set -eu

packages_of() {
    case $1 in
    build) echo gcc libc6-dev libjansson-dev libmicrohttpd-dev libpcre2-dev libutf8proc-dev libdnnl-dev libsqlite3-dev ;;
    test) echo libcmocka-dev pkg-config g++ ;;
    lint) echo clang-format cppcheck g++ ;;
    fuzz) echo clang libclang-rt-14-dev libomp-dev ;;
    oracle) echo python3 python3-venv ;;
    serve) echo python3 python3-venv chromium chromium-driver ;;
    *) echo "setup: found group \"$1\", expected build, test, lint, fuzz, oracle or serve" >&2; exit 2 ;;
    esac
}

is_installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'
}

wanted=""
for group in "$@"; do
    wanted="$wanted $(packages_of "$group")"
done
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "setup: not a Debian system; what is needed is called there:$wanted" >&2
    exit 0
fi
missing=""
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: found neither root nor sudo; install these Debian packages first:$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "installing$missing"
$as_root apt-get update -qq || echo "setup: going on with the package lists that are here" >&2
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
