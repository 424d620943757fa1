#!/bin/sh
# Fuzzes one parser: fuzz/run.sh PROGRAM SECONDS. Seeds come from fuzz/seeds/NAME; what is found new goes to
# build/fuzz/corpus/NAME, a crashing input to build/fuzz/crash-NAME-*.
set -eu
name=$(basename "$1" | sed 's/^fuzz_//')
corpus=build/fuzz/corpus/$name
mkdir -p "$corpus"
seeds=$(ls -d "fuzz/seeds/$name" 2>/dev/null || true)
echo "fuzzing $name for $2 s"
"$1" "$corpus" $seeds -max_total_time="$2" -max_len=65536 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/crash-$name-" >"build/fuzz/$name.log" 2>&1 || { tail -n 40 "build/fuzz/$name.log"; exit 1; }
grep -E 'stat::number_of_executed_units|DONE' "build/fuzz/$name.log" | tail -n 2
