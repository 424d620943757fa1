#!/bin/sh
# What each choice of a distillation is worth (arXiv 2403.00835, tables 4 to 6), on the SQL target of recipes/scribe.sh: the same few
# steps with one choice changed at a time, then the same held-out questions. Ends with a Markdown table; the numbers are in
# $RUNS/ablations/*.jsonl. All counts, so nothing else on the machine matters.
#
# usage: recipes/ablations.sh [STEPS [QUESTIONS]]
. "$(dirname "$0")/lib.sh"
steps=${1:-200} questions=${2:-100}
texts=$RUNS/scribe-data out=$RUNS/ablations target=$RUNS/scribe-sql/model.gguf
mkdir -p "$out"

# trajectories NAME BLOCK LIMIT AUGMENT
trajectories() {
    "$LOOKFAR" distill collect -q -m "$target" --prompts "$texts/sql.train.jsonl" --block "$2" --limit "$3" --augment "$4" \
        --max-tokens 128 --parallel 24 -o "$out/$1.traj"
}

# ablation NAME TRAJECTORIES N OPTION...: N is the rows of a pass with which it is scored.
ablation() {
    name=$1 file=$2 n=$3
    shift 3
    [ ! -f "$out/$name.jsonl" ] || return 0
    echo "$name" >&2
    [ -f "$out/$name/checkpoint" ] || "$LOOKFAR" distill train -q -o "$out/$name" -m "$target" --trajectories "$out/$file.traj" \
        --hold-out 0.02 --context 1024 --batch 4096 --steps "$steps" --lr 1e-3 --warmup 20 --valid-every "$steps" \
        --measure 0 "$@"
    "$LOOKFAR" distill train -q -o "$out/$name" --resume --export
    "$LOOKFAR" eval -q -m "$out/$name/model.gguf" --teacher "$target" --domain spider --data "$LOOKFAR_DATA" --samples "$questions" \
        -n "$n" --json "$out/$name.part" >/dev/null
    mv "$out/$name.part" "$out/$name.jsonl"
}

trajectories n16 16 3000 0.5
trajectories n8 8 3000 0.5
trajectories n32 32 3000 0.5
trajectories few 16 300 0.5
trajectories plain 16 3000 0
ablation base n16 16
ablation n8 n8 8
ablation n32 n32 32
ablation weight-0.1 n16 16 --weight-ar 0.1
ablation weight-10 n16 16 --weight-ar 10
ablation local n16 16 --local
ablation few-prompts few 16
ablation no-augmentation plain 16
ablation answers n16 16 --labels "$texts/sql.train.jsonl"
ablation synthetic n16 16 --synthetic 0.5
ablation progressive n16 16 --recipe progressive
ablation next-token n16 16 --recipe ar
$PYTHON recipes/ablations.py "$out"/*.jsonl
