#!/usr/bin/env bats
# What commands leave at a power cut: rig/disk.c is loaded before the program and judges the order in
# which it writes, syncs, renames and removes.
# SPDX-License-Identifier: MIT
load ../helpers

setup() {
    STRUT=${STRUT:-$PWD/build/strut}
    ST_DISK_JUDGE=${ST_DISK_JUDGE:-$PWD/build/libdisk_judge.so}
    export LSAN_OPTIONS=suppressions=$BATS_TEST_DIRNAME/lsan.supp:print_suppressions=0
    cd "$BATS_TEST_TMPDIR" || exit 1
}
# judged LEAST COMMAND...: runs it; what it did in the wrong order fails, as do fewer renames by it
# and the processes it starts.
judged() {
    local least=$1
    shift
    rm -f log
    ST_DISK_LOG=log ST_DISK_UNDER=$PWD LD_PRELOAD=$ST_DISK_JUDGE "$@" >/dev/null
    cat log
    not grep -v '^renames ' log || return 1
    [ "$(awk '/^renames / { n += $2 } END { print n + 0 }' log)" -ge "$least" ]
}
strut() {
    # The sanitizers' library would otherwise insist on being the first.
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 judged "$1" "$STRUT" "${@:2}"
}

@test "the judge sees what is renamed too early" {
    echo a >a
    run judged 1 python3 -c 'import os; os.rename("a", "b")'
    [ "$status" != 0 ]
    [[ $output == *"early a"*"unsynced ."* ]]
    judged 1 python3 -c '
import os
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
sync("b"), os.rename("b", "c"), sync(".")'
}

@test "models, token files, runs and pages appear in order" {
    python3 -c '
import random
random.seed(1)
print(" ".join(random.choice(["one", "two", "three", "four"]) for _ in range(9000)))' >text
    strut 1 tokenizer --vocab 270 --out tok text -q
    strut 2 prepare --tokenizer tok --out data text -q
    cat >tiny.json <<'JSON'
{"model_type": "gpt2", "vocab_size": 270, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
JSON
    strut 1 init tiny.json tiny
    strut 1 decompose tiny small --map 'h.*.mlp.*=lowrank:rank=3' -q
    strut 1 convert small hf --to hf -q
    strut 4 train data=data init=tiny train.steps=4 train.micro_batch=2 eval.every=2 eval.batches=1 \
        ckpt.every=2 out=run -q
    strut 4 train run/config.yaml train.steps=6 -q
    strut 1 report run -o page.html -q
}
