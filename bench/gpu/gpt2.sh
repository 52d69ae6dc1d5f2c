#!/bin/sh
# GPT-2 124M on a GPU: parity of every operation with ref and the same under compute-sanitizer, where a
# training step's time goes, and tokens a second of training, of forward with loss and of decoding,
# beside PyTorch where it is installed, as a table:
#   bench/gpu/gpt2.sh TABLE.tsv [BUILD]     BUILD: folder of the program and tests, build if not given
# CHECK=no leaves the checks out; ROUNDS is how often each is timed (3). A training run's rate is the
# median of its windows of ten steps, the first one, with its start, left out.
set -eu
table=$1
build=${2:-build}
here=$(cd "$(dirname "$0")/../.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
commit=${COMMIT:-$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)}

if [ "${CHECK:-yes}" = yes ]; then
    "$build/parity_test" cuda
    "$build/chain_test"
    "$build/relay_test"
    "$build/decode_test"
    for tool in memcheck racecheck initcheck synccheck; do
        for test in "parity_test cuda 9" chain_test; do
            # shellcheck disable=SC2086 # a test and its arguments
            compute-sanitizer --error-exitcode 1 --tool "$tool" "$build"/$test >"$room/log" ||
                { grep -m 5 Error "$room/log" || true; echo "$tool of $test: see above" >&2; }
        done
    done
fi

python3 - "$room" <<'PY'
import random, struct, sys
random.seed(0)
weight = [1 / (i + 1) ** 1.1 for i in range(50257)]
for name, n in (("train", 1 << 21), ("val", 1 << 16)):
    with open(f"{sys.argv[1]}/{name}.bin", "wb") as f:
        f.write(struct.pack(f"<{n}H", *random.choices(range(50257), weight, k=n)))
PY
echo "# $device; GPT-2 124M, bfloat16; commit $commit; bench/gpu/gpt2.sh $table" >"$table"
printf 'what\tround\ttokens_per_second\n' >>"$table"

# run WORD...: a training run of its own
run() {
    rm -rf "$room/run"
    "$build/strut" train data="$room" out="$room/run" device=cuda dtype=bfloat16 \
        model.vocab_size=50257 train.micro_batch=32 train.dropout=0 train.warmup=5 eval.every=0 \
        ckpt.every=0 log.every=10 "$@"
}
# train NAME WORD...: its rate
train() {
    name=$1
    shift
    run train.steps=60 --quiet "$@"
    printf '%s\t%s\t%s\n' "$name" "$round" "$(python3 - "$room/run/metrics.jsonl" <<'PY'
import json, statistics, sys
rows = [json.loads(x) for x in open(sys.argv[1])]
print("%.0f" % statistics.median([r["tokens_per_second"] for r in rows if "step_ms" in r][1:]))
PY
)" >>"$table"
}
# model SIZE WORD...: what `bench model` says about forward or decoding
model() {
    kind=$1
    shift
    "$build/strut" bench model gpt2 --dtype bf16 --no-controls --device cuda --budget 8 --quiet \
        --json "$@" >"$room/json"
    python3 - "$room/json" "$kind" "$round" >>"$table" <<'PY'
import json, sys
for r in json.load(open(sys.argv[1]))["rows"]:
    print(f'{sys.argv[2]}, {r["name"]}\t{sys.argv[3]}\t{r[sys.argv[2]]["tokens_per_second"]:.0f}')
PY
}
small='*=ss1:factor=4'
for round in $(seq "${ROUNDS:-3}"); do
    train "train, dense"
    train "train, ss1 4x" model.mlp.map=ss1:factor=4 model.attn.map=ss1:factor=4
    model decode --map "h.$small" --context 512
done
round=1
model forward --batch 32 --map "h.$small"
"$build/strut" init gpt2 "$room/gpt2" --dtype bf16 --quiet
"$build/strut" generate "$room/gpt2" --ids 1,2,3 --tokens 900 --ignore-eos --temperature 0 \
    --dtype bf16 --device cuda --json --quiet >"$room/json"
python3 - "$room/json" >>"$table" <<'PY'
import json, sys
speed = json.load(open(sys.argv[1]))["decode"]["tokens_per_second"]
print(f"generate, dense, logits to the host\t1\t{speed:.0f}")
PY
if python3 -c 'import torch' 2>/dev/null; then
    python3 "$here/bench/gpu/gpt2_peer.py" train forward decode >>"$table"
fi
cat "$table"
run train.steps=14 --profile --quiet
