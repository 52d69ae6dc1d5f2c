#!/bin/sh
# GPT-2 124M on a GPU: parity of every operation with ref, the same under compute-sanitizer, where a
# training step's time goes, and tokens a second of training beside PyTorch, in turn, as a table:
#   bench/gpu/gpt2.sh TABLE.tsv [BUILD]     BUILD: folder of the program and tests, build if not given
# The peer is any command that prints tokens a second of its training alone: $PEER, if it is set.
set -eu
table=$1
build=${2:-build}
here=$(cd "$(dirname "$0")/../.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
commit=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)

"$build/parity_test" cuda
for tool in memcheck racecheck initcheck synccheck; do
    compute-sanitizer --error-exitcode 1 --tool "$tool" "$build/parity_test" cuda 9 >"$room/log" ||
        { grep -m 5 Error "$room/log" || true; echo "$tool: see above" >&2; }
done

python3 - "$room" <<'PY'
import random, struct, sys
random.seed(0)
weight = [1 / (i + 1) ** 1.1 for i in range(50257)]
for name, n in (("train", 1 << 21), ("val", 1 << 16)):
    with open(f"{sys.argv[1]}/{name}.bin", "wb") as f:
        f.write(struct.pack(f"<{n}H", *random.choices(range(50257), weight, k=n)))
PY
echo "# $device; commit $commit; bench/gpu/gpt2.sh $table" >"$table"
printf 'what\tround\ttokens_per_second\n' >>"$table"

# train NAME STEPS WORD...: a run of its own, whose result is printed as JSON
train() {
    name=$1 steps=$2
    shift 2
    rm -rf "$room/run"
    "$build/strut" train data="$room" out="$room/run" device=cuda dtype=bfloat16 \
        model.vocab_size=50257 train.micro_batch=32 train.dropout=0 train.steps="$steps" \
        train.warmup=5 eval.every=0 ckpt.every=0 log.every=10 "$@" --json >"$room/json"
    printf '%s\t%s\t%s\n' "$name" "$round" \
        "$(python3 -c 'import json,sys; print("%.0f" % json.load(sys.stdin)["tokens_per_second"])' \
            <"$room/json")" >>"$table"
}
for round in 1 2 3; do
    train dense 60
    train ss1-4x 60 model.mlp.map=ss1:factor=4 model.attn.map=ss1:factor=4
    [ -z "${PEER:-}" ] || printf 'peer\t%s\t%s\n' "$round" "$(sh -c "$PEER")" >>"$table"
done
cat "$table"
round=profile
rm -rf "$room/run"
"$build/strut" train data="$room" out="$room/run" device=cuda dtype=bfloat16 \
    model.vocab_size=50257 train.micro_batch=32 train.dropout=0 train.steps=12 train.warmup=5 \
    eval.every=0 ckpt.every=0 --profile --quiet
