#!/usr/bin/env bats
# Grounds taken away at any moment: processes killed, disks full, signals. A few of each; `make faults`
# sets STRUT_FAULTS to many, at moments of their own.
# SPDX-License-Identifier: MIT
load ../helpers

setup_file() {
    export STRUT=${STRUT:-build/strut}
    case $STRUT in /*) ;; *) STRUT=$PWD/$STRUT ;; esac
    export FAULTS=${STRUT_FAULTS:-2}
    cd "$BATS_FILE_TMPDIR" || return 1
    python3 -c "
import random
random.seed(1)
print(' '.join(random.choice(['one', 'two', 'three', 'four']) for _ in range(9000)))" >text
    "$STRUT" tokenizer text --vocab 270 --out tok --quiet
    "$STRUT" prepare --tokenizer tok --out data text --quiet
    cat >run.yaml <<'YAML'
data: data
model: {n_layer: 1, n_embd: 32, n_head: 2, n_positions: 32}
train: {steps: 300, micro_batch: 4, ema: 0.9}
eval: {every: 7, batches: 1}
ckpt: {every: 5}
device: cpu
YAML
    WHOLE=$(python3 -c "
import subprocess, time
start = time.time()
subprocess.run(['$STRUT', 'train', 'run.yaml', 'out=whole', '--quiet'], check=True, stdout=subprocess.DEVNULL)
print(time.time() - start)")
    export WHOLE # seconds
}
setup() {
    cd "$BATS_FILE_TMPDIR" || return 1
    rm -rf run part
}
# Nothing temporary lies in a folder.
tidy() {
    [ -z "$(find "$1" -name '*.strut-*')" ] || { find "$1" -name '*.strut-*' && return 1; }
}
# A moment before the run would have ended, other ones each time: from the number of the turn.
moment() {
    python3 -c "import sys; k = int(sys.argv[1]); print(0.02 + (k * 0.6180339887 % 1) * 0.7 * $WHOLE)" "$1"
}

@test "a run killed at any moment goes on to the same weights" {
    local k cut=0
    for k in $(seq "$FAULTS"); do
        rm -rf run
        for turn in 1 2 3; do
            timeout -s KILL "$(moment $((3 * k + turn)))" "$STRUT" train run.yaml out=run --quiet >log 2>&1 ||
                cut=$((cut + 1))
        done
        "$STRUT" train run.yaml out=run --quiet >log 2>&1 || { cat log && return 1; }
        cmp run/ckpt/last/model.safetensors whole/ckpt/last/model.safetensors
        "$STRUT" info run >/dev/null
        tidy run
    done
    echo "$cut of $((3 * FAULTS)) were killed"
    [ "$cut" -gt 0 ]
}

@test "a run that is asked to end does, and goes on to the same weights" {
    local k signals=(INT TERM HUP)
    for k in $(seq "$FAULTS"); do
        rm -rf run
        code=0
        timeout -k 60 -s "${signals[k % 3]}" "$(moment "$k")" "$STRUT" train run.yaml out=run --quiet \
            >log 2>&1 || code=$?
        [ "$code" -lt 137 ] || [ "$code" = 143 ] || { echo "$code" && cat log && return 1; }
        "$STRUT" train run.yaml out=run --quiet >log 2>&1
        cmp run/ckpt/last/model.safetensors whole/ckpt/last/model.safetensors
        tidy run
    done
}

@test "a file that may not grow is an error, and leaves what was there" {
    local k size kib
    size=$(stat -c %s whole/ckpt/last/model.safetensors)
    for k in $(seq "$FAULTS"); do
        rm -rf part
        kib=$((size * k / (FAULTS + 1) / 1024))
        code=0
        (ulimit -f "$kib" && exec "$STRUT" convert whole/ckpt/last part/ --to hf --quiet >log 2>&1) || code=$?
        [ "$code" = 1 ]
        grep -q "File too large" log
        [ ! -e part ]
        code=0
        (ulimit -f "$kib" && exec "$STRUT" prepare --tokenizer tok --out data -f text --quiet >log 2>&1) || code=$?
        [ "$code" -le 1 ]
        "$STRUT" perplexity whole/ckpt/last data/val.bin --quiet >/dev/null
        [ -z "$(find . -maxdepth 1 -name '*.strut-*')" ]
    done
}

@test "a reader that loses its file says so" {
    local k
    for k in $(seq "$FAULTS"); do
        rm -rf run part
        cp -r data part
        "$STRUT" train run.yaml data=part out=run --quiet >log 2>&1 &
        pid=$!
        sleep "$(moment "$k")"
        truncate -s 64 part/train.bin
        code=0
        wait "$pid" || code=$?
        [ "$code" -le 1 ] || { echo "$code" && cat log && return 1; }
        [ "$code" = 0 ] || grep -q "part/train.bin" log
    done
}
