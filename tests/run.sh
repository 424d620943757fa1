#!/bin/sh
# Runs test programs one after the other and prints what fails, the programs' times, and last the line
# "N passed, N failed, N skipped" over all of them.  Usage: tests/run.sh PROGRAM...
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

count() { # the number in cmocka's closing line of the given kind, or 0
    sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$log" | tail -n 1 | grep . || echo 0
}

for program in "$@"; do
    start=$(date +%s)
    "$program" >"$log" 2>&1
    code=$?
    p=$(count PASSED) f=$(count FAILED) s=$(count SKIPPED)
    # a program that died before its closing line is a failure of its own
    if [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ "$code" -eq 0 ] && [ "$((p + s))" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    echo "$(basename "$program"): $p passed, $f failed, $s skipped ($(($(date +%s) - start)) s)"
    grep '^skipped:' "$log" | sort -u
    if [ "$f" -ne 0 ]; then
        grep -v '^\[ *\(RUN\|OK\) *\]' "$log" | head -n 100
        echo "(exit status $code)"
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
