#!/bin/sh
# Format, include arrows, headers that compile alone, static analysis. Prints what is wrong and fails if anything is.
cd "$(dirname "$0")/.." || exit 1
bad=0
fail() {
    echo "lint: $*"
    bad=1
}
sources=$(find include src app bench tests fuzz -name '*.[ch]')

unformatted=$(for f in $sources; do clang-format --dry-run -Werror "$f" 2>/dev/null || echo "  $f"; done)
[ -z "$unformatted" ] || fail "make format would change
$unformatted"

sh tools/layers.sh || fail "a room reaches where it may not (tools/layers.txt)"

# A header states all it needs. Those of src/kernel/x86 are for files with their own instruction flags, and bodies for files
# that say which version of them they want.
for header in $(find include src bench tests -name '*.h' ! -path 'src/kernel/x86/*' ! -name '*_body.h'); do
    cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -Iinclude -Isrc -x c "$header" ||
        fail "$header does not compile alone"
done
cc -x c++ -std=c++11 -Wall -Wextra -pedantic -Werror -fsyntax-only include/lookfar.h ||
    fail "include/lookfar.h is not C++"

cppcheck --quiet -j "$(nproc)" --std=c11 --inline-suppr --error-exitcode=1 \
    --enable=warning,performance,portability --suppress=missingIncludeSystem \
    --suppress=normalCheckLevelMaxBranches -Iinclude -Isrc src app bench || fail "cppcheck"

if grep -nE '[[:space:]]+$' $sources; then fail "space at the end of a line"; fi

[ $bad -eq 0 ] && echo "lint: clean"
exit $bad
