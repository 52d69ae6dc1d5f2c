#!/usr/bin/env bats
# Training, distillation, evaluation and calibration on many shards are those on one file of the same
# tokens.
# SPDX-License-Identifier: MIT

setup() {
    STRUT=${STRUT:-build/strut}
    case $STRUT in /*) ;; *) STRUT=$PWD/$STRUT ;; esac
    cd "$BATS_TEST_TMPDIR" || return 1
    python3 - <<'PY'
import os, random, struct
random.seed(1)
ids = [random.randrange(300) for _ in range(2000)]
def put(path, ids):
    with open(path, "wb") as f:
        f.write(struct.pack(f"<{len(ids)}H", *ids))
os.makedirs("one")
os.makedirs("many")
put("one/train.bin", ids)
put("one/val.bin", ids[:400])
for i, (a, b) in enumerate(((0, 700), (700, 701), (701, 2000))):
    put(f"many/edu_train_{i:06}.bin", ids[a:b])
put("many/edu_val_000000.bin", ids[:150])
put("many/edu_val_000001.bin", ids[150:400])
PY
    cat >c.yaml <<'YAML'
model: {n_layer: 1, n_embd: 16, n_head: 2, n_positions: 32, vocab_size: 300}
train: {steps: 6, decay_steps: 6, warmup: 2, micro_batch: 4, context: 32}
eval: {every: 3, batches: 2}
log: {tensorboard: false, every: 1}
YAML
}

@test "a folder of shards trains as one file, and goes on exactly" {
    "$STRUT" train c.yaml data=one out=a
    "$STRUT" train c.yaml data=many out=b
    cmp a/ckpt/last/model.safetensors b/ckpt/last/model.safetensors
    for steps in 3 6; do # the second goes on where the first ended
        "$STRUT" train c.yaml "data.train=many/edu_train_*.bin" "data.val=many/edu_val_*.bin" out=c \
            train.steps=$steps
    done
    [ "$(grep -c '"lr"' c/metrics.jsonl)" = 6 ]
    cmp a/ckpt/last/model.safetensors c/ckpt/last/model.safetensors
}

@test "a teacher teaches from shards as from one file, and goes on exactly" {
    "$STRUT" train c.yaml data=one out=t train.steps=2
    teach=("$STRUT" train c.yaml model.n_layer=1 distill=t/ckpt/last distill.hidden=0.5 seed=5)
    "${teach[@]}" data=one out=a
    "${teach[@]}" data=many out=b
    cmp a/ckpt/last/model.safetensors b/ckpt/last/model.safetensors
    for steps in 3 6; do
        "${teach[@]}" "data.train=many/edu_train_*.bin" "data.val=many/edu_val_*.bin" out=c train.steps=$steps
    done
    cmp a/ckpt/last/model.safetensors c/ckpt/last/model.safetensors
    grep -q '"kl"' b/metrics.jsonl
    "$STRUT" train c.yaml data=many out=plain seed=5 # and the teacher is heeded
    if cmp -s b/ckpt/last/model.safetensors plain/ckpt/last/model.safetensors; then return 1; fi
}

@test "perplexity takes the validation shards of a folder, a pattern, or all" {
    "$STRUT" train c.yaml data=one out=a
    ppl() { "$STRUT" perplexity a/ckpt/last "$1" --json 2>/dev/null | grep '"nll"'; }
    [ "$(ppl one/val.bin)" = "$(ppl many)" ]
    [ "$(ppl one/val.bin)" = "$(ppl 'many/edu_val_*.bin')" ]
    [ "$(ppl one/train.bin)" = "$(ppl 'many/edu_train_*.bin')" ]
    [ "$(ppl one/train.bin)" != "$(ppl many)" ]
}
