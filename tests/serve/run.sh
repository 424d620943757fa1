#!/bin/sh
# What `make test-serve` runs once build/lookfar is there: sh tests/serve/run.sh MODEL. VENV names the virtual environment
# (.venv-serve in the checkout), which is made from requirements.txt; OPENAI_SPEC the openapi.json of github.com/openai/openai-openapi, if
# it is there. Not run by this, because they take long: check_load.py and soak.py.
set -eu
cd "$(dirname "$0")/../.."
venv=${VENV:-.venv-serve}
wanted=tests/serve/requirements.txt
if ! cmp -s $wanted "$venv/requirements.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --disable-pip-version-check --quiet -r $wanted
    cp $wanted "$venv/requirements.txt"
fi
[ -n "$1" ] || { echo "test-serve: no model here; give one: make test-serve MODEL=PATH"; exit 1; }
failed=0
for check in check_client check_page check_schema check_forms check_openai; do
    "$venv/bin/python" tests/serve/$check.py build/lookfar "$1" || { echo "== FAILED: $check"; failed=1; }
done
exit $failed
