#!/bin/sh
# The model scribe: 15M parameters, trained on text-to-SQL, Python functions, grade-school arithmetic and stories together, and
# then tuned for each of them alone, on the responses only.
#
# usage: recipes/scribe.sh [data | base | sql | python | gsm8k | stories]     (without a word: all of them, in this order)
. "$(dirname "$0")/lib.sh"
texts=$RUNS/scribe-data
stages=${1:-data base sql python gsm8k stories}

# tune DOMAIN TOKENS: a fine-tune of the base; prompts do not count.
tune() {
    train "$RUNS/scribe-$1" -m "$RUNS/scribe/model.gguf" --data "$texts/$1.train.jsonl" --valid "$texts/$1.valid.jsonl" \
        --context 2048 --tokens "$2" --batch 8192 --micro 4096 --schedule cosine --lr 3e-4 --lr-end 0.05 --warmup 20 \
        --valid-every 50
}

for stage in $stages; do
    case $stage in
    data)
        [ -f "$texts/tokenizer.txt" ] || $PYTHON recipes/scribe_data.py "$LOOKFAR_DATA" "$texts"
        [ -f "$texts/tokenizer.model" ] || $PYTHON recipes/tokenizer.py "$texts/tokenizer" 4096 "$texts/tokenizer.txt"
        ;;
    base)
        train "$RUNS/scribe" --init dim=384,layers=8,heads=6,ffn=1024,tied --tokenizer "$texts/tokenizer.model" \
            --data "$texts/sql.train.jsonl" --data "$texts/python.train.jsonl" \
            --data "$texts/gsm8k.train.jsonl" --data "$texts/stories.train.jsonl" \
            --valid "$texts/sql.valid.jsonl" --valid "$texts/python.valid.jsonl" \
            --valid "$texts/gsm8k.valid.jsonl" --valid "$texts/stories.valid.jsonl" \
            --train-prompt --context 2048 --tokens 26M --batch 16384 --micro 4096 \
            --schedule wsd --lr 1.5e-3 --lr-end 0.05 --decay 0.25 --warmup 100 \
            --sample-every 250 --sample-prompt "Question:
Tom has 3 apples and buys 4 more. How many apples does he have?
Answer:
Let's think step by step.
"
        ;;
    sql) tune sql 4M ;;
    python) tune python 4M ;;
    gsm8k) tune gsm8k 4M ;;
    stories) tune stories 2M ;;
    *)
        echo "scribe.sh: found \"$stage\", expected data, base, sql, python, gsm8k or stories" >&2
        exit 2
        ;;
    esac
done
