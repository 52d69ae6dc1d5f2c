#!/usr/bin/env bats
# Training from a model with other maps: dense to structured, structured to dense, one type to another.
# SPDX-License-Identifier: MIT
load ../helpers

setup_file() {
    export STRUT=${STRUT:-$PWD/build/strut}
    cd "$BATS_FILE_TMPDIR" || exit 1
    printf "$(printf '\\%03o\\000' $(seq 0 31))" >block
    for _ in $(seq 100); do cat block; done >train.bin
    cp train.bin val.bin
    cat >tiny.yaml <<'YAML'
data: .
model: {n_layer: 2, n_head: 2, n_embd: 16, n_positions: 16, vocab_size: 32}
train: {steps: 4, micro_batch: 2, warmup: 1, lr: 1e-2, dropout: 0}
eval: {every: 0}
ckpt: {every: 0}
log: {every: 1}
YAML
    "$STRUT" train tiny.yaml out=dense -q >/dev/null
}
setup() {
    cd "$BATS_FILE_TMPDIR" || exit 1
}
# start OUT KEY=VALUE...: a step of size 0, whose checkpoint is what training starts with.
start() {
    "$STRUT" train tiny.yaml train.steps=1 train.lr=0 out="$1" "${@:2}" -q >/dev/null
}
# tensors A B: do two model folders hold the same numbers (to 1e-6)?
tensors() {
    python3 - "$1/model.safetensors" "$2/model.safetensors" <<'PY'
import json, struct, sys
def read(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    head, body = json.loads(raw[8:8 + n]), raw[8 + n:]
    head.pop("__metadata__", None)
    return {k: struct.unpack("<%df" % ((v["data_offsets"][1] - v["data_offsets"][0]) // 4),
                             body[slice(*v["data_offsets"])]) for k, v in head.items()}
a, b = read(sys.argv[1]), read(sys.argv[2])
assert a.keys() == b.keys(), a.keys() ^ b.keys()
for k in a:
    assert len(a[k]) == len(b[k]) and max(abs(x - y) for x, y in zip(a[k], b[k])) < 1e-6, k
PY
}

@test "dense to structured is what decompose makes" {
    apart "$STRUT" train tiny.yaml train.steps=1 train.lr=0 out=d2s init=dense/ckpt/last \
        model.mlp.map=monarch:blocks=4
    [ "$code" = 0 ]
    [[ $err == *"4 matrices, dense -> monarch:blocks=4: "*" % of the energy is kept"* ]]
    [[ $err == *"optimiser starts anew"* ]]
    "$STRUT" decompose dense/ckpt/last want --map 'h.*.mlp.*=monarch:blocks=4' -q -f
    tensors d2s/ckpt/last want
    not tensors dense/ckpt/last want
}

@test "there and back is the projection, in dense form" {
    start to init=dense/ckpt/last 'model.mlp.map=lowrank:rank=3+butterfly:size=4,factors=1,block=4'
    start back init=to/ckpt/last model.mlp.map=dense
    "$STRUT" convert to/ckpt/last want2 --to dense -q --force
    tensors back/ckpt/last want2
}

@test "one type becomes another by way of the dense matrix" {
    start m init=dense/ckpt/last model.mlp.map=monarch:blocks=2
    start s init=m/ckpt/last model.mlp.map=ss1:factor=2
    "$STRUT" convert m/ckpt/last flat --to dense -q --force
    "$STRUT" decompose flat want3 --map 'h.*.mlp.*=ss1:factor=2' -q -f
    tensors s/ckpt/last want3
}

@test "training goes on, resumes, and refuses other maps then" {
    "$STRUT" train tiny.yaml train.steps=2 out=go init=dense/ckpt/last model.mlp.map=monarch:blocks=4 \
        -q >/dev/null
    apart "$STRUT" train tiny.yaml train.steps=4 out=go init=dense/ckpt/last \
        model.mlp.map=monarch:blocks=4
    [ "$code" = 0 ]
    [[ $err != *"of their energy"* ]]
    "$STRUT" train tiny.yaml train.steps=4 out=once init=dense/ckpt/last \
        model.mlp.map=monarch:blocks=4 -q >/dev/null
    cmp go/ckpt/last/model.safetensors once/ckpt/last/model.safetensors
    apart "$STRUT" train tiny.yaml train.steps=6 out=go init=dense/ckpt/last ckpt.resume=yes \
        model.mlp.map=ss1:factor=2
    [ "$code" = 1 ]
    [[ $err == *"model.mlp.map"*"other matrices than the checkpoint"*"out=FOLDER"* ]]
}

@test "other model keys still have to be the model's own" {
    apart "$STRUT" train tiny.yaml out=x init=dense/ckpt/last model.n_layer=3
    [ "$code" = 1 ]
    [[ $err == *"model.n_layer"*"leave the key out"* ]]
    apart "$STRUT" train tiny.yaml out=x init=dense/ckpt/last model.mlp.map=monarch:blocks=99
    [ "$code" = 1 ]
    [[ $err == *"model.mlp.map"*"1..16"* ]]
}

@test "'*' takes what can be replaced and says what it left and why" {
    apart "$STRUT" decompose dense/ckpt/last star --map '*=butterfly:size=16,factors=1,block=2' -f
    [ "$code" = 0 ]
    [[ $err == *"left as they are: wte, lm_head ("*"embeddings"* ]]
    [[ $out == *"h.0.mlp.c_fc"* ]]
    cat >odd.json <<'JSON'
{"model_type": "gpt2", "vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2,
 "n_inner": 20}
JSON
    "$STRUT" init odd.json odd -q -f
    apart "$STRUT" decompose odd star --map '*=butterfly:size=8,factors=1,block=2' -f --skip h.0.attn.c_proj
    [ "$code" = 0 ]
    [[ $err == *"left as it is: h.0.mlp.c_fc ("*"divides both 16 and 20"* ]]
    [[ $err == *"left as it is: h.0.mlp.c_proj ("* ]]
    [[ $out == *"h.0.attn.c_attn"* ]]
    [[ $out != *"h.0.attn.c_proj"* ]]
    apart "$STRUT" decompose odd star --map '*=butterfly:size=64,factors=1,block=2' -f
    [ "$code" = 1 ]
    [[ $err == *"no matrix can be replaced"* ]]
    apart "$STRUT" decompose odd star --map 'h.*=butterfly:size=8,factors=1,block=2' -f
    [ "$code" = 1 ]
}
