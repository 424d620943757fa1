#!/bin/sh
# The model novella: 15M parameters, multi-head attention, trained on novels at 2,048 tokens and then at 16,384 with the base of
# the rotary frequencies raised; and novella-draft, 1M parameters with the same tokenizer.
#
# usage: recipes/novella.sh [data | prose | drill | base | long | draft | cllm]     (without a word: all but cllm, in this order)
. "$(dirname "$0")/lib.sh"
texts=$RUNS/novella-data
stages=${1:-data prose drill base long draft}

prompt="It was late in the evening when"

for stage in $stages; do
    case $stage in
    data)
        [ -f "$texts/probe.jsonl" ] || $PYTHON recipes/novella_data.py "$LOOKFAR_DATA" "$texts"
        [ -f "$texts/tokenizer.model" ] || $PYTHON recipes/tokenizer.py "$texts/tokenizer" 4096 "$texts/tokenizer.txt"
        ;;
    prose) # one epoch is 8.4M tokens of novels, 0.3M of stories and 0.6M that ask to look back
        train "$RUNS/novella-prose" --init dim=384,layers=8,heads=6,ffn=1024,tied --tokenizer "$texts/tokenizer.model" \
            --data "$texts/train.txt" --data "$texts/stories.txt:0.5" --data "$texts/retrieval-2k.txt:0.3" \
            --valid "$texts/valid.txt" --context 2048 --steps 660 --batch 16384 --micro 4096 \
            --schedule constant --lr 1.5e-3 --warmup 100 --sample-every 250 --sample-prompt "$prompt"
        ;;
    drill) # attention that finds what was said before comes suddenly, after some 350 steps
        train "$RUNS/novella-drill" -m "$RUNS/novella-prose/model.gguf" \
            --data "$texts/drill.txt" --valid "$texts/drill_valid.txt" --context 2048 --steps 507 --batch 8192 --micro 4096 \
            --schedule constant --lr 1.2e-3 --warmup 20 --valid-every 100
        ;;
    base)
        train "$RUNS/novella" -m "$RUNS/novella-drill/model.gguf" \
            --data "$texts/train.txt" --data "$texts/stories.txt:0.3" --data "$texts/drill.txt:0.4" \
            --data "$texts/retrieval-2k.txt" --valid "$texts/valid.txt" --context 2048 --tokens 9.8M --batch 8192 --micro 4096 \
            --schedule wsd --lr 1.2e-3 --lr-end 0.05 --decay 0.3 --warmup 30 --sample-every 500 --sample-prompt "$prompt"
        ;;
    long)
        train "$RUNS/novella-long" -m "$RUNS/novella/model.gguf" --rope-base 160000 \
            --data "$texts/train.txt" --data "$texts/retrieval-16k.txt:0.5" --data "$texts/drill.txt:0.05" \
            --valid "$texts/valid.txt" --context 16384 --tokens 3.38M --batch 16384 --micro 16384 \
            --schedule cosine --lr 6e-4 --lr-end 0.05 --warmup 10 --valid-every 50 --valid-tokens 131072 \
            --sample-every 1000 --sample-prompt "$prompt"
        ;;
    draft)
        train "$RUNS/novella-draft" --init dim=128,layers=4,heads=4,ffn=352,tied --tokenizer "$texts/tokenizer.model" \
            --data "$texts/train.txt" --data "$texts/stories.txt:0.5" --data "$texts/retrieval-2k.txt:0.3" \
            --valid "$texts/valid.txt" --context 2048 --tokens 16M --batch 16384 --micro 4096 \
            --schedule wsd --lr 4e-3 --lr-end 0.05 --decay 0.25 --warmup 100
        ;;
    cllm) # for Jacobi drafting over a long context (docs/SPEED.md); it does not ship
        "$LOOKFAR" distill collect -m "$RUNS/novella-long/model.gguf" --prompts "$texts/prompts.jsonl" --block 16 --max-tokens 64 \
            --parallel 24 -o "$RUNS/novella.traj"
        if [ -f "$RUNS/novella-cllm/checkpoint" ]; then
            "$LOOKFAR" distill train -o "$RUNS/novella-cllm" --resume
        else
            "$LOOKFAR" distill train -o "$RUNS/novella-cllm" -m "$RUNS/novella-long/model.gguf" --trajectories "$RUNS/novella.traj" \
                --hold-out 0.02 --context 2048 --batch 8192 --steps 300 --lr 6e-4 --warmup 20 --valid-every 100 --loss-bound 0.5
        fi
        ;;
    *)
        echo "novella.sh: found \"$stage\", expected data, prose, drill, base, long, draft or cllm" >&2
        exit 2
        ;;
    esac
done
