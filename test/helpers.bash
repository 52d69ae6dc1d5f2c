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
# tiny_model DIR [TOKENS]: a GPT-2 in DIR/tiny (DIR/tiny.json) and so many tokens for it in DIR/tokens.bin,
# small ids more often than large ones.
tiny_model() {
    cat >"$1/tiny.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 300, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 2,
 "initializer_range": 0.3}
JSON
    "$STRUT" init "$1/tiny.json" "$1/tiny" --seed 3
    python3 -c "
import random, struct, sys
random.seed(4)
n = int(sys.argv[2])
ids = [min(random.randrange(300), random.randrange(300)) for _ in range(n)]
open(sys.argv[1], 'wb').write(struct.pack(f'<{n}H', *ids))
" "$1/tokens.bin" "${2:-500}"
}
# tiny_run STEPS EVERY: train.bin and val.bin (the tokens 0 .. 31 as uint16, again and again) and a
# tiny.yaml that trains on them, here.
tiny_run() {
    printf "$(printf '\\%03o\\000' $(seq 0 31))" >block
    for _ in $(seq 50); do cat block; done >train.bin
    cp train.bin val.bin
    cat >tiny.yaml <<YAML
data: .
model: {n_layer: 1, n_head: 2, n_embd: 16, n_positions: 16, vocab_size: 32}
train: {steps: $1, micro_batch: 2, warmup: $(($1 / 4)), lr: 1e-2, dropout: 0}
eval: {every: $2, batches: 2}
YAML
}
