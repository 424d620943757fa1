#!/bin/sh
# Format, include arrows, header self-containment, static analysis. Prints what is wrong and fails if anything is.
cd "$(dirname "$0")/.."
bad=0
sources=$(find include src app bench tests fuzz -name '*.[ch]')

clang-format --dry-run -Werror $sources 2>&1 | grep -E 'error|warning' | head -n 20
clang-format --dry-run -Werror $sources >/dev/null 2>&1 || { echo "lint: run make format"; bad=1; }

sh tools/layers.sh || bad=1

for h in $(find include src -name '*.h' ! -path 'src/kernel/x86/*'); do
    cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -fsyntax-only -Iinclude -Isrc -x c "$h" 2>&1 | grep -v 'pragma once' || true
    cc -std=c11 -D_GNU_SOURCE -fsyntax-only -Iinclude -Isrc -x c "$h" 2>/dev/null || { echo "lint: $h does not compile alone"; bad=1; }
done
cc -x c++ -std=c++11 -Wall -Wextra -pedantic -Werror -fsyntax-only include/lookfar.h || bad=1

cppcheck --quiet --std=c11 --inline-suppr --error-exitcode=1 --enable=warning,performance,portability \
    --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches -Iinclude -Isrc src app bench || bad=1

# shapes of text that no tool above sees
if grep -nE '[[:space:]]+$' $sources | head -n 5 | grep .; then echo "lint: trailing space"; bad=1; fi
[ $bad -eq 0 ] && echo "lint: clean"
exit $bad
