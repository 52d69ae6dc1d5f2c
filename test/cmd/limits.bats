#!/usr/bin/env bats
# Small limits of memory and stack are named or raised: nothing hangs, nothing crashes.
# SPDX-License-Identifier: MIT
load ../helpers

setup() {
    STRUT=${STRUT:-build/strut}
    case $STRUT in /*) ;; *) STRUT=$PWD/$STRUT ;; esac
    ! grep -qa __asan_init "$STRUT" || skip "a sanitizer takes memory and stack of its own"
    cd "$BATS_TEST_TMPDIR" || return 1
    words=(train data=t.bin val=t.bin out=r model.n_layer=1 model.n_embd=192 model.n_head=2
        model.n_positions=128 model.vocab_size=300 train.steps=2 train.micro_batch=4 eval.every=1
        eval.batches=1 ckpt.every=1 device=cpu --quiet)
    words[1]=data.train=t.bin words[2]=data.val=t.bin
    python3 -c "
import struct
open('t.bin', 'wb').write(struct.pack('<4000H', *[i * i % 300 for i in range(4000)]))"
}

@test "a limit of memory that the libraries do not fit in is said at once" {
    local named=0
    for kib in 60000 100000 150000 200000 250000 258000 263000 266000 300000 400000; do
        code=0
        (ulimit -d $kib && exec timeout 30 "$STRUT" help >out 2>err) || code=$?
        [ $code = 0 ] || grep -q "ulimit -d and ulimit -v" err
        [ $code -le 1 ] || { echo "$kib: $code" && return 1; }
        named=$((named + code))
    done
    [ "$named" -ge 5 ] && [ "$code" = 0 ]
}

@test "a small stack becomes the usual one where that is allowed, and is named where it is not" {
    (ulimit -S -s 64 && "$STRUT" "${words[@]}")
    [ -d r/ckpt/last ]
    rm -r r
    code=0
    (ulimit -s 64 && "$STRUT" "${words[@]}" 2>err) || code=$?
    cat err
    [ "$code" = 1 ]
    grep -q "the stack may have 64 KiB (ulimit -s), expected at least 512; raise it: ulimit -s 8192" err
    [ ! -e r ]
    (ulimit -s 512 && "$STRUT" "${words[@]}" && "$STRUT" perplexity r/ckpt/last t.bin --quiet)
}
