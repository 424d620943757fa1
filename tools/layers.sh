#!/bin/sh
# Prints every include of src/ that goes against the arrows of tools/layers.txt and fails if there is one.
cd "$(dirname "$0")/.."
grep -rHo '^#include "[a-z0-9_]*/' src --include='*.[ch]' |
    sed -n 's|^src/\([a-z0-9_]*\)/[^:]*:#include "\([a-z0-9_]*\)/|& \1 \2|p' |
    awk 'NR == FNR { sub(":", "", $1); room[$1] = 1; for (i = 2; i <= NF; i++) ok[$1, $i] = 1; next }
         { from = $(NF - 1); to = $NF }
         !(from in room) { print "room without arrows: src/" from; bad = 1; next }
         from != to && !((from, to) in ok) { print "include against the arrows: " $0; bad = 1 }
         END { exit bad }' tools/layers.txt -
