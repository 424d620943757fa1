#!/bin/sh
# Makes the virtual environment of the reference implementations, .venv in the checkout or the folder given, from
# requirements.txt. Does nothing when it is up to date. Needs Debian's python3-venv and about 6 GB of disk: the torch
# of PyPI brings its GPU libraries along.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../.venv}

cmp -s "$here/requirements.txt" "$venv/requirements.txt" && exit 0
python3 -m venv "$venv"
"$venv/bin/pip" install --disable-pip-version-check --quiet -r "$here/requirements.txt"
cp "$here/requirements.txt" "$venv/requirements.txt"
