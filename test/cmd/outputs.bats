#!/usr/bin/env bats
# What commands write over, and names that are no UTF-8, in every place where a user can put one.
# SPDX-License-Identifier: MIT

bats_require_minimum_version 1.5.0

setup() {
    load ../helpers
    export LSAN_OPTIONS=suppressions=$BATS_TEST_DIRNAME/lsan.supp:print_suppressions=0
    cd "$BATS_TEST_TMPDIR" || exit 1
    cat >c.json <<'JSON'
{"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 300, "n_positions": 16}
JSON
    "$STRUT" init c.json m -q >/dev/null
    mkdir books
    for i in 1 2 3; do seq 1 900 >books/$i.txt; done
    odd=$(printf 'a\377b')
}

refused() { # the files of FOLDER stay as they are while the command is refused
    local folder=$1 was
    shift
    was=$(cat "$folder"/* | cksum)
    run "$STRUT" "$@"
    [ "$status" -eq 1 ] || { echo "$output" && return 1; }
    [ "$(cat "$folder"/* | cksum)" = "$was" ]
}

@test "an input of the same run is never written over" {
    refused m generate m --ids 1,2 -n 1 --logits m/model.safetensors
    refused m generate m --ids 1,2 -n 1 --logits m/model.safetensors -f
    refused m convert m m --to strut -f
    refused m convert m m/model.safetensors -f
    refused m decompose m m --map '*=lowrank:rank=2' -f
    refused books tokenizer --vocab 300 -o books -f books
    "$STRUT" tokenizer --vocab 300 -o tok books -q >/dev/null
    refused books prepare --tokenizer tok -o books -f books
    refused tok prepare --tokenizer tok -o tok -f books
    ln -s books link
    refused books tokenizer --vocab 300 -o link -f books
}

@test "a file or folder of another kind is not written over, an older result is with --force" {
    "$STRUT" tokenizer --vocab 300 -o tok books -q >/dev/null
    refused m prepare --tokenizer tok -o m -f books
    refused books init c.json books -f
    echo thesis >thesis.html
    refused . report runs -o thesis.html -f
    "$STRUT" generate m --ids 1,2 -n 1 --logits l -q >/dev/null
    refused . generate m --ids 1,2 -n 1 --logits l
    "$STRUT" generate m --ids 1,2 -n 1 --logits l -f -q >/dev/null
    "$STRUT" prepare --tokenizer tok -o data books -q >/dev/null
    refused data prepare --tokenizer tok -o data books
    "$STRUT" prepare --tokenizer tok -o data -f books -q >/dev/null
    "$STRUT" convert m m.gguf -q >/dev/null
    refused . convert m m.gguf
    "$STRUT" convert m m.gguf -f -q >/dev/null
    refused . convert m thesis.html --to gguf -f
}

@test "names that are no UTF-8 train, and one such run does not cost the report" {
    "$STRUT" tokenizer --vocab 300 -o tok books -q >/dev/null
    "$STRUT" prepare --tokenizer tok -o "$odd" books -q >/dev/null
    cp -r m "m$odd"
    cat >t.yaml <<YAML
model: {n_layer: 1, n_head: 2, n_embd: 16, n_positions: 16}
train: {steps: 2, micro_batch: 2}
eval: {batches: 1}
YAML
    cp t.yaml "$odd.yaml"
    cp t.yaml x=y.yaml
    "$STRUT" train "$odd.yaml" "data=$odd" "name=$odd" -q
    "$STRUT" train t.yaml "data=$odd" "out=runs/${odd}2" -q
    "$STRUT" train x=y.yaml "data=$odd" "init=m$odd" out=runs/plain -q
    "$STRUT" train -m t.yaml "data=$odd" "name=$odd,b" -q
    "$STRUT" train t.yaml --cfg job "name=$odd" >/dev/null
    run "$STRUT" train t.yaml "data=$odd" out=runs/map "model.mlp.map=$odd"
    [ "$status" -eq 1 ] && [[ "$output" == *"unknown matrix type"* ]]
    run "$STRUT" report runs -o page.html
    [ "$status" -eq 0 ] && [[ "$output" == *"3 runs"* ]]
}

@test "a limit on address space leaves room for small models" {
    ! grep -qa __asan_init "$STRUT" || skip "a sanitizer reserves address space"
    export OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2
    (ulimit -v 8000000 && "$STRUT" info m >/dev/null &&
        "$STRUT" generate m --ids 1 -n 1 --device cpu >/dev/null)
}

@test "pipes are not waited for, a shard that is cut meanwhile is named" {
    mkfifo pipe.bin pipe
    for word in pipe pipe.bin; do
        run timeout 20 "$STRUT" info "$word"
        [ "$status" -eq 1 ] && [[ "$output" == *"plain file"* ]]
    done
    cat >t.yaml <<YAML
model: {n_layer: 1, n_head: 2, n_embd: 16, n_positions: 16, vocab_size: 300}
train: {steps: 1000000, micro_batch: 2}
eval: {batches: 1, every: 0}
YAML
    head -c 400000 /dev/zero >val.bin
    run timeout 20 "$STRUT" train t.yaml data.train=pipe.bin data.val=val.bin out=r
    [ "$status" -eq 1 ] && [[ "$output" == *"not a plain file"* ]]
    cp val.bin cut.bin
    "$STRUT" train t.yaml data.train=cut.bin data.val=val.bin out=r >log 2>&1 &
    until [ -s r/metrics.jsonl ]; do sleep 0.1; done
    : >cut.bin
    local code=0
    wait $! || code=$?
    [ "$code" -eq 1 ]
    grep -q "cut.bin: could not be read on" log
}

@test "names in files do not speak to the terminal" {
    python3 -c '
import json, struct
head = json.dumps({"a\x1b[31mb\nc": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
open("esc.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + bytes(8))'
    run "$STRUT" info esc.safetensors
    [ "$status" -eq 0 ] && [[ "$output" == *"a?[31mb?c"* ]] && [[ "$output" != *$'\033'* ]]
}

@test "a run whose folder is taken away saves its weights and ends" {
    head -c 400000 /dev/zero >train.bin
    cp train.bin val.bin
    cat >t.yaml <<YAML
data: .
model: {n_layer: 1, n_head: 2, n_embd: 16, n_positions: 16, vocab_size: 300}
train: {steps: 1000000, micro_batch: 2}
eval: {batches: 1, every: 0}
ckpt: {every: 0}
YAML
    for how in 'rm r/metrics.jsonl' 'mv r moved'; do
        "$STRUT" train t.yaml out=r >log 2>&1 &
        until [ -s r/metrics.jsonl ]; do sleep 0.1; done
        sleep 0.2
        $how
        local code=0
        wait $! || code=$?
        [ "$code" -eq 1 ]
        grep -q "r: was removed or renamed" log || { tail -3 log && return 1; }
        [ -s r/ckpt/last/model.safetensors ]
        rm -r r
    done
}

@test "what a kill has left behind a finished run goes when it is looked at again" {
    head -c 400000 /dev/zero >train.bin
    cp train.bin val.bin
    cat >t.yaml <<YAML
data: .
model: {n_layer: 1, n_head: 2, n_embd: 16, n_positions: 16, vocab_size: 300}
train: {steps: 8, micro_batch: 2}
eval: {batches: 1, every: 4}
ckpt: {every: 2, keep: 2}
YAML
    "$STRUT" train t.yaml out=r -q >/dev/null
    ls r/ckpt >before
    cp r/checkpoints.json whole.json
    cp -r r/ckpt/step-8 r/ckpt/step-4
    cp -r r/ckpt/step-8 r/ckpt/.last.strut-999999-0
    echo '{' >r/checkpoints.json
    echo 1 >r/.config.yaml.strut-999999-0
    "$STRUT" train t.yaml out=r -q >/dev/null
    ls r/ckpt | diff before -
    cmp r/checkpoints.json whole.json
    [ -z "$(find r -name '.*strut-*')" ]
}
