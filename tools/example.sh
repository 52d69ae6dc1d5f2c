#!/bin/sh
# SPDX-License-Identifier: MIT
# example.sh OUT: the files of CONTRIBUTING.md's worked example, under OUT by their paths in the tree. A
# block that opens with "```LANGUAGE file=PATH" is that file, one with "append=PATH" is added at the end
# of the tree's file of that name. Files that are as they should be are not touched.
set -eu
cd "$(dirname "$0")/.."
out=$1
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
awk -v out="$fresh" '
    /^```[a-z]* (file|append)=/ {
        split($2, word, "=")
        path = out "/" word[2]
        folder = path
        sub("/[^/]*$", "", folder)
        system("mkdir -p " folder)
        if (word[1] == "append") {
            while ((getline line < word[2]) > 0) print line >path
            close(word[2])
        }
        on = 1
        blocks++
        next
    }
    /^```$/ { if (on) close(path); on = 0 }
    on { print >path }
    END { if (!blocks || on) { print "example.sh: CONTRIBUTING.md has no whole example" >"/dev/stderr"; exit 1 } }
' CONTRIBUTING.md
(cd "$fresh" && find . -type f) | while read -r file; do
    mkdir -p "$out/$(dirname "$file")"
    cmp -s "$fresh/$file" "$out/$file" || cp "$fresh/$file" "$out/$file"
done
