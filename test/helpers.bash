# What the shell tests share.
# shellcheck shell=bash disable=SC2034 # the tests read out, err and code
# Runs with the two outputs apart: $out, $err, $code.
apart() {
    code=0
    "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || code=$?
    out=$(cat "$BATS_TEST_TMPDIR/out")
    err=$(cat "$BATS_TEST_TMPDIR/err")
}
# "! command" would not fail a test.
not() {
    if "$@"; then return 1; fi
}
# get KEY.KEY...: a field of the JSON object that the last command printed.
get() {
    python3 -c "
import json, sys
v = json.load(open(sys.argv[1]))
for k in sys.argv[2].split('.'):
    v = v[int(k)] if isinstance(v, list) else v[k]
print(json.dumps(v) if not isinstance(v, str) else v)
" "$BATS_TEST_TMPDIR/out" "$1"
}
