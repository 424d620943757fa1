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

# collect MODEL ROUND LIMIT TOKENS FILE...: what Jacobi decoding of LIMIT prompts of each file goes through with the model, up to TOKENS
# of an output.
collect() {
    model=$1 round=$2 limit=$3 tokens=$4
    shift 4
    for file; do
        "$LOOKFAR" distill collect -m "$model/model.gguf" --prompts "$texts/$file" --limit "$limit" --block 16 \
            --max-tokens "$tokens" --parallel 24 -o "$RUNS/$file-$round.traj"
    done
}

# cllm DOMAIN LIMIT TOKENS ROUNDS FILE...: round 1 on the target's trajectories; each further one on those and on the trajectories of the
# model so far, whose guesses it will meet. The target's own outputs keep its score.
cllm() {
    target=$RUNS/scribe-$1 limit=$2 tokens=$3 rounds=$4
    shift 4
    from=$target anchors=
    for round in $(seq "$rounds"); do
        collect "$from" "$round" "$limit" "$tokens" "$@"
        files=$anchors
        for file; do files="$files --trajectories $RUNS/$file-$round.traj"; done
        [ -n "$anchors" ] || anchors=$files
        folder=$target-cllm-$round
        if [ -f "$folder/checkpoint" ]; then
            "$LOOKFAR" distill train -o "$folder" --resume
        else # shellcheck disable=SC2086 # $files are words
            "$LOOKFAR" distill train -o "$folder" -m "$from/model.gguf" $files --weight-ar 2 --hold-out 0.02 --context 1024 \
                --batch 8192 --steps 1000 --lr 1e-3 --warmup 20 --loss-bound 1 --measure 64
        fi
        # The end of the schedule is wanted, not the best of 64 prompts.
        "$LOOKFAR" distill train -q -o "$folder" --resume --export
        from=$folder
    done
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
    cllm-sql) cllm sql 8000 128 4 sql.train.jsonl sql.drill.jsonl ;;
    cllm-python) cllm python 3000 256 2 python.train.jsonl ;;
    cllm-gsm8k) cllm gsm8k 6000 256 2 gsm8k.train.jsonl gsm8k.drill.jsonl ;;
    cllm-stories) cllm stories 6000 256 1 stories.train.jsonl ;;
    *)
        echo "scribe.sh: found \"$stage\", expected data, start, drill, base, a domain or cllm- and a domain" >&2
        exit 2
        ;;
    esac
done
