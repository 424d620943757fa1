#!/bin/sh
# Records the golden files again from the reference implementations, and compares lookfar with those live: what
# `make oracle` runs once build/lookfar and the tests are built. VENV names the virtual environment (.venv).
# Fails when a comparison does, or when git sees that a recorded result has changed.
set -eu
cd "$(dirname "$0")/../.."
export LOOKFAR_DATA="${LOOKFAR_DATA:-../shared/data}"
venv=${VENV:-.venv}
sh tests/oracle/setup.sh "$venv"
failed=0

oracle() { # oracle SCRIPT ARGUMENT...
    echo "== $*"
    script=tests/oracle/$1
    shift
    "$venv/bin/python" "$script" "$@" || { echo "== FAILED: $script"; failed=1; }
}

oracle quant.py
oracle grammar.py record
oracle grammar.py check build/tests/test_grammar
oracle train_golden.py --check
oracle consistency_golden.py --check
oracle check_convert.py live build/lookfar
oracle chat.py --record
if [ -d "$LOOKFAR_DATA" ]; then
    oracle families.py
    oracle check_gguf.py record "$LOOKFAR_DATA"
    oracle check_safetensors.py record "$LOOKFAR_DATA"
    oracle tokenizer_compare.py --record
    oracle eval_golden.py "$LOOKFAR_DATA"

    dumps=$(mktemp -d)
    trap 'rm -rf "$dumps"' EXIT
    for model in "$LOOKFAR_DATA"/models/hf/*/; do
        for level in scalar avx2 native; do
            build/lookfar run -q -m "$model" -p "Once upon a time" --cache-type f32 --cpu-mask $level \
                --dump-logits "$dumps/$level.f32"
        done
        oracle compare_logits.py --model "$model" --prompt "Once upon a time" "$dumps"/*.f32
    done
else
    echo "oracle: $LOOKFAR_DATA is not there; without real data only the tiny models are compared"
    oracle families.py --check
fi

if [ -n "$(git status --porcelain tests/golden)" ]; then
    git status --short tests/golden
    echo "oracle: recorded results have changed"
    failed=1
fi
exit $failed
