#!/bin/sh
# Turns the compile lines of `make -n` on standard input into a compilation database.
here=$(pwd)
awk -v here="$here" 'BEGIN { print "[" }
    / -c -o / { gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); n = split($0, w, " ");
                printf "%s{\"directory\":\"%s\",\"command\":\"%s\",\"file\":\"%s\"}", (k++ ? ",\n" : ""), here, $0, w[n] }
    END { print "\n]" }'
