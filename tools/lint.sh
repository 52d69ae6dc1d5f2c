#!/bin/sh
# Style and structure: room borders, sizes, formatting, shell scripts, spelling. Tools that are
# not installed are named and skipped (`tools/setup.sh lint` installs them); findings fail the run.
cd "$(dirname "$0")/.." || exit 2
bad=0
skipped=""
have() { command -v "$1" >/dev/null 2>&1 || { skipped="$skipped $1" && false; }; }

tools/check_layers.sh || bad=1

tools/sizes.sh -q || bad=1

# No line over 100 columns, no tab in C.
sources=$(find src test \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null)
# shellcheck disable=SC2086
[ -z "$sources" ] || awk 'length($0) > 100 { print FILENAME ":" FNR ": " length($0) " columns"; b = 1 }
    /\t/ { print FILENAME ":" FNR ": tab"; b = 1 } END { exit b }' $sources || bad=1
for f in $sources; do
    head -n 40 "$f" | grep -q 'SPDX-License-Identifier: MIT' ||
        { echo "$f: no SPDX line at its head" && bad=1; }
done

# shellcheck disable=SC2086
if have clang-format && [ -n "$sources" ]; then
    clang-format --dry-run -Werror $sources >/tmp/strut-format.$$ 2>&1 || {
        grep -E 'error:' /tmp/strut-format.$$ | cut -d: -f1 | sort | uniq -c |
            sed 's/$/: not as .clang-format wants it (clang-format -i FILE)/'
        bad=1
    }
    rm -f /tmp/strut-format.$$
fi
if have shellcheck; then
    for f in tools/*.sh bench/*.sh configs/*/*.sh .ci/run; do
        [ ! -e "$f" ] || shellcheck "$f" || bad=1
    done
fi
if have codespell; then
    codespell -q 3 -S 'test/fixtures,test/fuzz/corpus,*/imagenet_classes.txt' \
        -L 'nd,fo,te,ue,ba,lod,thi,trian,modle,mapp,whats,widnow,stap,gaurd' src test tools doc README.md \
        CONTRIBUTING.md 2>/dev/null || bad=1
fi
[ -z "$skipped" ] || echo "lint: skipped, not installed:$skipped"
[ $bad = 0 ] && echo "lint: clean"
exit $bad
