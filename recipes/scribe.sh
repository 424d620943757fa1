#!/bin/sh
# The model scribe: 4.6M parameters, trained on text-to-SQL, Python functions, grade-school arithmetic and stories together, and
# then tuned for each of them alone, on the responses only. So small that four targets and their distilled copies can ship.
#
# usage: recipes/scribe.sh [data | start | drill | base | DOMAIN | cllm-DOMAIN]     (without a word: all, in this order)
#
# DOMAIN is sql, python, gsm8k or stories; cllm-DOMAIN distils its target on its own Jacobi trajectories.
. "$(dirname "$0")/lib.sh"
texts=$RUNS/scribe-data
stages=${1:-data start drill base sql python gsm8k stories cllm-sql cllm-python cllm-gsm8k cllm-stories}

# tune DOMAIN TOKENS: a fine-tune of the base; prompts do not count.
tune() {
    train "$RUNS/scribe-$1" -m "$RUNS/scribe/model.gguf" --data "$texts/$1.train.jsonl" --valid "$texts/$1.valid.jsonl" \
        --context 2048 --tokens "$2" --batch 8192 --micro 4096 --schedule cosine --lr 3e-4 --lr-end 0.05 --warmup 20 \
        --valid-every 50
}

# cllm DOMAIN TOKENS STEPS: collects what Jacobi decoding of the training prompts goes through, up to TOKENS of an output, and trains
# on it. The rate is that of the run which kept its score (docs/TRAINING.md).
cllm() {
    target=$RUNS/scribe-$1/model.gguf
    "$LOOKFAR" distill collect -m "$target" --prompts "$texts/$1.train.jsonl" --block 16 --max-tokens "$2" --parallel 24 \
        -o "$RUNS/scribe-$1.traj"
    if [ -f "$RUNS/scribe-$1-cllm/checkpoint" ]; then
        "$LOOKFAR" distill train -o "$RUNS/scribe-$1-cllm" --resume
    else
        "$LOOKFAR" distill train -o "$RUNS/scribe-$1-cllm" -m "$target" --trajectories "$RUNS/scribe-$1.traj" \
            --hold-out 0.02 --context 1024 --batch 8192 --steps "$3" --lr 6e-4 --warmup 20 --valid-every 50 --loss-bound 0.2
    fi
}

# mixed FOLDER OPTION...: a run on all domains at once, prompts included, since a schema or a question is text, too.
mixed() {
    folder=$1
    shift
    train "$folder" --data "$texts/sql.train.jsonl" --data "$texts/python.train.jsonl" \
        --data "$texts/gsm8k.train.jsonl" --data "$texts/stories.train.jsonl" \
        --valid "$texts/sql.valid.jsonl" --valid "$texts/python.valid.jsonl" \
        --valid "$texts/gsm8k.valid.jsonl" --valid "$texts/stories.valid.jsonl" \
        --train-prompt --context 2048 --micro 4096 "$@"
}

for stage in $stages; do
    case $stage in
    data)
        [ -f "$texts/tokenizer.txt" ] || $PYTHON recipes/scribe_data.py "$LOOKFAR_DATA" "$texts"
        [ -f "$texts/tokenizer.model" ] || $PYTHON recipes/tokenizer.py "$texts/tokenizer" 4096 "$texts/tokenizer.txt"
        ;;
    start)
        mixed "$RUNS/scribe-start" --init dim=256,layers=6,heads=4,kv=2,ffn=512,tied --tokenizer "$texts/tokenizer.model" \
            --tokens 4M --batch 16384 --schedule constant --lr 2e-3 --warmup 50
        ;;
    drill) # attention that finds what was said before comes suddenly, after some hundred steps
        train "$RUNS/scribe-drill" -m "$RUNS/scribe-start/model.gguf" \
            --data "$texts/drill.txt" --valid "$texts/drill_valid.txt" --context 2048 --steps 600 --batch 8192 --micro 4096 \
            --schedule constant --lr 2e-3 --warmup 20 --valid-every 50
        ;;
    base)
        mixed "$RUNS/scribe" -m "$RUNS/scribe-drill/model.gguf" --data "$texts/drill.txt:0.2" \
            --tokens 20M --batch 16384 --schedule wsd --lr 2e-3 --lr-end 0.05 --decay 0.3 --warmup 30 \
            --sample-every 250 --sample-prompt "Question:
Tom has 3 apples and buys 4 more. How many apples does he have?
Answer:
Let's think step by step.
"
        ;;
    sql) # few real questions: three passes over them for each over the plain ones
        train "$RUNS/scribe-sql" -m "$RUNS/scribe/model.gguf" --data "$texts/sql.train.jsonl:3" \
            --data "$texts/sql.drill.jsonl:0.8" --valid "$texts/sql.valid.jsonl" --context 2048 --tokens 8M --batch 8192 \
            --micro 4096 --schedule cosine --lr 1.2e-3 --lr-end 0.03 --warmup 30 --valid-every 100
        ;;
    python) tune python 2M ;;
    gsm8k) tune gsm8k 2M ;;
    stories) tune stories 1M ;;
    cllm-sql) cllm sql 128 500 ;;
    cllm-python) cllm python 256 500 ;;
    cllm-gsm8k) cllm gsm8k 256 500 ;;
    cllm-stories) cllm stories 256 500 ;;
    *)
        echo "scribe.sh: found \"$stage\", expected data, start, drill, base, a domain or cllm- and a domain" >&2
        exit 2
        ;;
    esac
done
