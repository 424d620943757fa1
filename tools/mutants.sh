#!/bin/sh
# Plants the bugs of tests/mutants, one after the other, in a copy of the tree, and runs the tests that are to see them. Prints what was
# seen and fails if a mutant survives, does not apply or does not build.  Usage: tools/mutants.sh [PATCH...]
#
# A patch begins with a line that says what is wrong and one, "tests: NAME...", of the test programs of which at least one must fail.
cd "$(dirname "$0")/.." || exit 1
copy=build/mutants
[ $# -gt 0 ] || set -- tests/mutants/*.patch

LOOKFAR_STEPS=${LOOKFAR_STEPS:-20000} # of test_schedule: what it sees at all it sees soon
export LOOKFAR_STEPS

# The copy has the objects that are built, with their times: only what a patch touches is compiled again.
rm -rf "$copy" && mkdir -p "$copy/build" || exit 1
cp -a Makefile include src app bench tests tools "$copy" || exit 1
[ ! -d build/obj ] || cp -a build/obj "$copy/build"

bad=0
survived() {
    echo "mutants: $1: $2"
    bad=1
}
for patch in "$@"; do
    name=$(basename "$patch" .patch)
    tests=$(sed -n '2s/^tests: //p' "$patch")
    log=$copy/$name.log
    targets=$(for t in $tests; do echo "build/tests/$t"; done)
    case $tests in *test_serve*) targets="$targets build/lookfar" ;; esac # which the server's tests start
    if ! patch -s -p1 -d "$copy" <"$patch"; then
        survived "$name" "does not apply"
        continue
    fi
    if ! make -s -C "$copy" $targets >"$log" 2>&1; then
        survived "$name" "does not build: $log"
    else
        seen=
        for t in $tests; do
            (cd "$copy" && timeout 300 "build/tests/$t") >>"$log" 2>&1
            case $? in
            0) ;;
            124) echo "$name: $t: no end after 300 seconds" ;; # on a busy machine that says nothing
            *) seen="$seen $t" ;;
            esac
        done
        if [ -n "$seen" ]; then echo "$name: seen by$seen"; else survived "$name" "survives $tests"; fi
    fi
    patch -s -R -p1 -d "$copy" <"$patch"
done
[ $bad -eq 0 ] && echo "mutants: all seen"
exit $bad
