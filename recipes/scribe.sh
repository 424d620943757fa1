#!/bin/sh
# The model scribe: 4.6M parameters, trained on text-to-SQL, Python functions, grade-school arithmetic and stories together, and
# then tuned for each of them alone, on the responses only. So small that four targets and their distilled copies can ship.
#
# usage: recipes/scribe.sh [data | start | drill | base | more | DOMAIN | cllm-DOMAIN]     (without a word: all, in this order)
#
# DOMAIN is sql, python, gsm8k or stories; cllm-DOMAIN distils its target on its own Jacobi trajectories.
. "$(dirname "$0")/lib.sh"
texts=$RUNS/scribe-data
stages=${1:-data start drill base more sql python gsm8k stories cllm-sql cllm-python cllm-gsm8k cllm-stories}

# tune DOMAIN RATE TOKENS DATA...: a fine-tune of the base; prompts do not count. DATA is FILE[:WEIGHT] of scribe-data.
tune() {
    domain=$1 rate=$2 tokens=$3
    shift 3
    for file; do
        shift
        set -- "$@" --data "$texts/$file"
    done
    train "$RUNS/scribe-$domain" -m "$RUNS/scribe-more/model.gguf" "$@" --valid "$texts/$domain.valid.jsonl" --context 2048 \
        --tokens "$tokens" --batch 8192 --micro 4096 --schedule cosine --lr "$rate" --lr-end 0.03 --warmup 30 --valid-every 100
}

# distil FOLDER OPTION...: begins the run or goes on with it.
distil() {
    folder=$1
    shift
    if [ -f "$folder/checkpoint" ]; then
        "$LOOKFAR" distill train -o "$folder" --resume
    else
        "$LOOKFAR" distill train -o "$folder" "$@"
    fi
}

# cllm DOMAIN TOKENS STEPS DATA...: collects what Jacobi decoding of the prompts goes through, up to TOKENS of an output, and trains
# on it twice: on single blocks, then on whole outputs with noise that comes and goes. The data's own answers hold the model to
# what its target was taught.
cllm() {
    target=$RUNS/scribe-$1 tokens=$2 steps=$3
    shift 3
    for name; do
        shift
        "$LOOKFAR" distill collect -m "$target/model.gguf" --prompts "$texts/$name.jsonl" --limit 8000 --block 16 \
            --max-tokens "$tokens" --parallel 24 -o "$RUNS/$name.traj"
        set -- "$@" --trajectories "$RUNS/$name.traj" --labels "$texts/$name.jsonl"
    done
    set -- "$@" --hold-out 0.02 --context 1024 --batch 4096 --steps "$steps" --lr 1e-3 --warmup 20 --valid-every 100 --loss-bound 1
    distil "$target-cllm-1" -m "$target/model.gguf" "$@"
    distil "$target-cllm" -m "$target-cllm-1/model.gguf" --recipe progressive "$@"
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
    more) # the learning rate rises again; plain questions as well, which show what a schema is for
        mixed "$RUNS/scribe-more" -m "$RUNS/scribe/model.gguf" --data "$texts/drill.txt:0.1" --data "$texts/sql.drill.jsonl:0.25" \
            --tokens 32M --batch 16384 --schedule wsd --lr 2e-3 --lr-end 0.03 --decay 0.35 --warmup 30 --valid-every 100
        ;;
    sql) tune sql 1.2e-3 8M sql.train.jsonl:3 sql.drill.jsonl:0.8 ;; # few real questions: three passes for each over the plain ones
    python) tune python 6e-4 2M python.train.jsonl ;;
    gsm8k) tune gsm8k 1.2e-3 5M gsm8k.train.jsonl:3 gsm8k.drill.jsonl:0.8 ;;
    stories) tune stories 3e-4 1M stories.train.jsonl ;;
    cllm-sql) cllm sql 128 1000 sql.train sql.drill ;;
    cllm-python) cllm python 256 500 python.train ;;
    cllm-gsm8k) cllm gsm8k 256 500 gsm8k.train gsm8k.drill ;;
    cllm-stories) cllm stories 256 500 stories.train ;;
    *)
        echo "scribe.sh: found \"$stage\", expected data, start, drill, base, a domain or cllm- and a domain" >&2
        exit 2
        ;;
    esac
done
