#!/usr/bin/env bats
# strut train from the outside: files, exit codes, signals, what is printed where.
# SPDX-License-Identifier: MIT

bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_FILE_TMPDIR" || exit 1
    # The tokens 0 .. 31 as uint16, again and again.
    printf "$(printf '\\%03o\\000' $(seq 0 31))" >block
    for _ in $(seq 40); do cat block; done >more
    for _ in $(seq 30); do cat more; done >train.bin
    cat >tiny.yaml <<'YAML'
data: .
model: {n_layer: 1, n_head: 2, n_embd: 16, n_positions: 16, vocab_size: 32}
train: {steps: 8, micro_batch: 2, warmup: 2, lr: 1e-2, dropout: 0}
eval: {every: 4, batches: 2}
ckpt: {every: 4}
log: {every: 1}
YAML
}

setup() {
    load ../helpers
    cd "$BATS_TEST_TMPDIR" || exit 1
    cp "$BATS_FILE_TMPDIR"/{train.bin,tiny.yaml} .
    cp train.bin val.bin
}

@test "a run leaves its files and prints where the best model is" {
    run --separate-stderr "$STRUT" train tiny.yaml
    [ "$status" -eq 0 ]
    [[ "$output" == *"runs/tiny/ckpt/best"* ]]
    for f in config.yaml metrics.csv metrics.jsonl ckpt/last/model.safetensors \
        ckpt/last/config.json ckpt/best/state.json; do [ -s "runs/tiny/$f" ]; done
    [ "$(wc -l <runs/tiny/metrics.csv)" -eq 12 ] # head, 8 steps, 3 validations
}

@test "--json prints one object on standard output" {
    run --separate-stderr "$STRUT" train tiny.yaml --json
    [ "$status" -eq 0 ]
    echo "$output" | python3 -c '
import json, sys
r = json.load(sys.stdin)
assert r["step"] == 8 and len(r["curve"]["loss"]) == 8, r
assert r["validation"]["step"] == [0, 4, 8] and r["best"]["val_loss"] > 0'
}

@test "the stored configuration goes on with the run" {
    "$STRUT" train tiny.yaml train.steps=4 out=r -q >/dev/null
    run "$STRUT" train r/config.yaml train.steps=8
    [ "$status" -eq 0 ]
    [ "$(grep -c '^8,' r/metrics.csv)" -eq 2 ]
}

@test "a typo names file, line and the key that was meant" {
    sed -i 's/warmup/warm_up/' tiny.yaml
    run --separate-stderr "$STRUT" train tiny.yaml
    [ "$status" -eq 1 ]
    [ -z "$output" ]
    [[ "$stderr" == *"tiny.yaml:3:"*"train.warm_up"*"did you mean train.warmup"* ]]
    [ ! -e runs ]
}

@test "two files, no data, no such file: refused" {
    run "$STRUT" train tiny.yaml other.yaml
    [ "$status" -eq 1 ]
    run "$STRUT" train model.n_layer=1 model.n_embd=16 model.n_head=2 model.vocab_size=32
    [ "$status" -eq 1 ]
    [[ "$output" == *"data=FOLDER"* ]]
    # before weights are drawn, which is what a warm start follows
    apart "$STRUT" train train.warmstart.path=nowhere
    [[ "$err" == *"data=FOLDER"* && "$err" != *nowhere* ]]
    run "$STRUT" train nowhere.yaml
    [ "$status" -eq 1 ]
    [[ "$output" == *"nowhere.yaml"* ]]
}

# SIGTERM: a shell starts background jobs with SIGINT ignored.
@test "a signal saves, says how to go on, and the end is the same" {
    "$STRUT" train tiny.yaml train.steps=3000 ckpt.every=0 eval.every=0 out=cut -q >/dev/null 2>err &
    pid=$!
    for _ in $(seq 1200); do
        [ -e cut/metrics.csv ] && [ "$(wc -l <cut/metrics.csv)" -gt 20 ] && break
        sleep 0.05
    done
    kill -TERM $pid
    code=0
    wait $pid || code=$?
    [ "$code" -eq 143 ]
    grep -q 'run the same command again' err
    [ -s cut/ckpt/last/state.json ]
    step=$(sed -n 's/.*"step": \([0-9]*\).*/\1/p' cut/ckpt/last/state.json | head -1)
    [ "$step" -ge 19 ]
    "$STRUT" train tiny.yaml train.steps=$((step + 5)) ckpt.every=0 eval.every=0 out=cut \
        -q >/dev/null
    [ "$(wc -l <cut/metrics.csv)" -eq $((step + 6)) ]
    [ "$(cut -d, -f1 cut/metrics.csv | sort | uniq -d | wc -l)" -eq 0 ]
}

@test "too much memory and a ranking without validations are said" {
    apart "$STRUT" train tiny.yaml train.micro_batch=1000000 train.context=16 ckpt.top_k=2 \
        eval.every=0 model.n_head=16 model.n_layer=40 model.n_embd=4096 --dry-run
    [[ "$err" == *"warning: training wants "*" GiB are free to use"*"train.micro_batch"* ||
        "$err" == *"out of memory"* ]]
    apart "$STRUT" train tiny.yaml ckpt.top_k=2 eval.every=0
    [ "$code" -eq 0 ]
    [[ "$err" == *"warning: ckpt.top_k = 2 keeps nothing: there are no validations"* ]]
    [[ "$err" != *"training wants"* ]]
}

@test "messages name what was given, and what to go on from" {
    apart "$STRUT" train tiny.yaml model.mlp.map=butterfyl
    [ "$code" -eq 1 ]
    [[ "$err" == *"train: model: h.0.mlp.c_fc: "*"did you mean"*"butterfly"* ]]
    apart "$STRUT" init t2t-vit-7 new --image-size 17
    [[ "$err" == *"init: t2t-vit-7: img_size is 17, expected a multiple of 16"* ]]
    "$STRUT" train tiny.yaml -q
    echo '{' >runs/tiny/ckpt/last/state.json
    apart "$STRUT" train tiny.yaml train.steps=9
    [ "$code" -eq 1 ]
    [[ "$err" == *"last/state.json: not valid JSON"*"; ckpt.resume=runs/tiny/ckpt/best goes on"* ]]
}

@test "without a ckpt/best the run says why" {
    apart "$STRUT" train tiny.yaml ckpt.best_below=1e-9 train.steps=2
    [ "$code" -eq 0 ]
    [[ "$err" == *"no ckpt/best: no validation loss was below ckpt.best_below = 1e-09 (the last is "* ]]
    apart "$STRUT" train tiny.yaml ckpt.best=false ckpt.best_below=1e-9 train.steps=2 out=r2
    [[ "$err" != *"no ckpt/best"* ]]
    apart "$STRUT" train tiny.yaml ckpt.best=false train.steps=2 eval.every=1 out=r4
    [ "$code" -eq 0 ] && [[ "$out" == *"at step 2, not kept"* ]]
    apart "$STRUT" train tiny.yaml eval.every=0 train.steps=2 out=r3
    [ "$code" -eq 0 ] && [[ "$err" == *"no ckpt/best: nothing was validated (eval.every=0)"* ]]
}

@test "--keys lists every key; --cfg prints what would be used" {
    run "$STRUT" train --keys
    [ "$status" -eq 0 ]
    [[ "$output" == *"train.tokens_per_step"* ]]
    run "$STRUT" train tiny.yaml train.lr=0.5 --cfg
    [ "$status" -eq 0 ]
    [[ "$output" == *"lr: 0.5"* ]]
    [ ! -e runs ]
    for kind in '' job; do # and is a config itself
        mkdir -p shown
        "$STRUT" train tiny.yaml train.lr=0.5 --cfg $kind >shown/tiny.yaml
        "$STRUT" train shown/tiny.yaml --cfg >again.yaml
        "$STRUT" train tiny.yaml train.lr=0.5 --cfg | cmp - again.yaml
    done
}

@test "numbers that overflow are named by their step and tensor" {
    for dtype in float32 bfloat16; do
        apart "$STRUT" train tiny.yaml train.steps=9 train.warmup=0 train.lr=1000 train.clip=0 \
            train.weight_decay=100 eval.every=0 dtype=$dtype out=nan-$dtype
        [ "$code" = 1 ]
        [[ $err =~ "step "[2-9]": the loss is "-?(nan|inf)" and the gradient norm "-?(nan|inf)", expected finite" ]]
        [[ $err =~ "the largest weight, "[0-9.e+]+", is in "[a-z0-9_.]+"; training stopped before the update" ]]
    done
}
