#!/usr/bin/env bats
# strut train with composed configs from the outside: experiments, search path, sweeps.
# SPDX-License-Identifier: MIT

bats_require_minimum_version 1.5.0

setup() {
    load ../helpers
    cd "$BATS_TEST_TMPDIR" || exit 1
    tiny_run 8 4
}

@test "experiments are there in any folder; --info says where they are from" {
    run "$STRUT" train experiment=wt103/gpt2-ssl --info
    [ "$status" -eq 0 ]
    [[ "$output" == *"built-in:experiment/wt103/gpt2-ssl.yaml"* ]]
    mkdir -p configs/mlp
    echo 'map: ss1:factor=16' >configs/mlp/ssl.yaml
    sed -i '1i # @package model.mlp' configs/mlp/ssl.yaml
    run "$STRUT" train experiment=wt103/gpt2-ssl --info
    [[ "$output" == *"configs/mlp/ssl.yaml"* ]]
    run "$STRUT" train experiment=wt103/gpt2-ssl.yaml --cfg job --resolve
    [[ "$output" == *'map: "ss1:factor=16"'* ]]
    [[ "$output" == *"decay_steps: 22500"* ]]
    run "$STRUT" train experiment=wt103/gpt2-ssl -c job
    [[ "$output" == *'decay_steps: "${mul:'* ]]
}

@test "a mistyped group, a group in place of a config: what was meant" {
    apart "$STRUT" train experiment=ssl_bench_mpl
    [ "$code" -eq 1 ]
    [[ "$err" == *"no config experiment/ssl_bench_mpl; did you mean ssl_bench_mlp/?"* ]]
    apart "$STRUT" train experiment=wt13/gpt2-ssl
    [[ "$err" == *"did you mean wt103/?; there are: "*"owt/, "*"wt103/"* ]]
    apart "$STRUT" train experiment=ssl_bench_mlp
    [[ "$err" == *"ssl_bench_mlp, which is a group of configs; there are in it: "*"dense, "* ]]
    mkdir -p own/experiment/mine
    echo 'name: x' >own/experiment/mine/one.yaml
    apart "$STRUT" train -cd own experiment=mien/one
    [[ "$err" == *"did you mean mine/?"* ]]
    meant() {
        apart "$STRUT" train tiny.yaml "${@:2}"
        [ "$code" -ne 0 ]
        [[ "$err" == *"; did you mean $1?"* && "$err" != *"did you mean"*"did you mean"* ]]
    }
    meant "the group mlp" mpl=ssl8x
    meant "the group mlp" +mpl=ssl8x
    meant "the group mlp" model/mpl=ssl8x
    meant "the group mlp" moxdel/mlp@model=ssl8x
    meant "the group size" sizze=xl
    meant "seed" sed=1
    meant "the group experiment" expriment=wt103/gpt2-ssl
    meant "the group experiment/wt103" experiment/wt13=gpt2-ssl
    meant "the group mine" -cd own/experiment mien=one
    meant "job" --cfg jbo
    meant "defaults" --info default
    echo 'name: other' >jbo
    apart "$STRUT" train --cfg jbo
    [[ "$code" -eq 0 && "$out" == *"name: other"* ]]
    apart "$STRUT" train tiny.yaml x.y.z=1
    [[ "$err" == *"unknown key x.y.z; all keys"* ]]
}

@test "primary configs by name, from folders in their order" {
    mkdir -p a/size b
    echo 'defaults: [_self_, {size: one}]' >a/mine.yaml
    printf '# @package _global_\nmodel: {n_layer: 7}\n' >a/size/one.yaml
    echo 'name: other' >b/mine.yaml
    run "$STRUT" train -cd a -cn mine --cfg
    [[ "$output" == *"n_layer: 7"* ]]
    run "$STRUT" train -cp b -cd a -cn mine --cfg
    [[ "$output" == *"n_layer: 7"* ]]
    run "$STRUT" train --config-dir b --config-dir a --config-name mine --cfg
    [[ "$output" == *"name: other"* ]]
    run "$STRUT" train -cd nowhere
    [ "$status" -eq 1 ]
    run "$STRUT" train -cd a -cn mime --cfg
    [[ "$output" == *"did you mean mine?"* ]]
    run "$STRUT" train -cd a -cn mine tiny.yaml --cfg
    [[ "$output" == *"two primary configs"* ]]
}

@test "a folder called like a key does not make it a group" {
    "$STRUT" train tiny.yaml out=out data=. -q
    "$STRUT" train tiny.yaml out=out data=. train.steps=9 -q
    [ -s out/config.yaml ]
    mkdir -p data/sub
    cp train.bin val.bin data/
    echo 'a: 1' >data/sub/card.yaml
    "$STRUT" train tiny.yaml out=other data=data/ -q
    [ -s other/config.yaml ]
}

@test "names of options stay in their folder; unknown keys of other programs are answered" {
    run "$STRUT" train experiment=../../etc/passwd
    [ "$status" -eq 1 ]
    [[ "$output" == *"not the name of a config"* ]]
    run "$STRUT" train experiment=wt103/gpt2-sls
    [[ "$output" == *"did you mean gpt2-ssl?"* ]]
    run "$STRUT" train tiny.yaml optimizer.lr=1
    [[ "$output" == *"did you mean train.lr?"* ]]
    run "$STRUT" train tiny.yaml block_size=4
    [[ "$output" == *"did you mean train.context?"* ]]
    run "$STRUT" train tiny.yaml model/gpt2_mlp_cfg@model.mlp_cfg=fbbfly
    [[ "$output" == *"did you mean the group mlp"* ]]
    run "$STRUT" train tiny.yaml datamodule=wt103-gpt2
    [[ "$output" == *"did you mean the group dataset"* ]]
}

@test "a sweep trains each value, keeps what has ended, goes on past failures" {
    run --separate-stderr "$STRUT" train -m tiny.yaml \
        model.mlp.map=ss1:factor=2,folds=1,lowrank:rank=2 train.lr=1e-2,1e-3
    [ "$status" -eq 0 ]
    [ "$(grep -c ' done ' <<<"$output")" -eq 4 ]
    dir='multirun/tiny/map=ss1_factor=2,folds=1,lr=1e-3'
    [[ "$output" == *"$dir"* ]]
    [ -s "$dir/config.yaml" ]
    grep -q 'train.lr=1e-3' "$dir/.hydra/overrides.yaml"
    grep -q 'factor=2,folds=1' "$dir/.hydra/config.yaml"
    rm -r "$dir"
    run --separate-stderr "$STRUT" train -m tiny.yaml \
        model.mlp.map=ss1:factor=2,folds=1,lowrank:rank=2 train.lr=1e-2,1e-3,999
    [ "$status" -eq 1 ]
    [ "$(grep -c ' kept ' <<<"$output")" -eq 3 ]
    [ "$(grep -c ' done ' <<<"$output")" -eq 1 ]
    [ "$(grep -c ' failed ' <<<"$output")" -eq 2 ]
    [[ "$stderr" == *"2 of 6 jobs failed"* ]]
}

@test "an interrupted sweep goes on where it was" {
    "$STRUT" train -m tiny.yaml train.steps=200000 seed=1,2 eval.every=0 ckpt.every=0 -q 2>err &
    pid=$!
    for _ in $(seq 1200); do
        [ -e multirun/tiny/seed=1/metrics.csv ] && break
        sleep 0.05
    done
    kill -TERM $pid
    code=0
    wait $pid || code=$?
    [ "$code" -eq 143 ]
    grep -q 'goes on there' err
    [ ! -e multirun/tiny/seed=2 ]
    step=$(sed -n 's/.*"step": \([0-9]*\).*/\1/p' multirun/tiny/seed=1/ckpt/last/state.json | head -1)
    run --separate-stderr "$STRUT" train -m tiny.yaml train.steps=$((step + 2)) seed=1,2 eval.every=0 \
        ckpt.every=0
    [ "$status" -eq 0 ]
    [ "$(grep -c ' done ' <<<"$output")" -eq 2 ]
    [ "$(cut -d, -f1 multirun/tiny/seed=1/metrics.csv | sort | uniq -d | wc -l)" -eq 0 ]
}

@test "several values without -m are refused, and so is a mistake in any job before the first runs" {
    run "$STRUT" train tiny.yaml train.lr=1,2
    [ "$status" -eq 1 ]
    [[ "$output" == *"-m"* ]]
    run "$STRUT" train -m tiny.yaml train.lr=1e-3,x
    [ "$status" -eq 1 ]
    [[ "$output" == *"job 2 of 2 (train.lr=x): "*"train.lr: found x"* ]]
    run "$STRUT" train -m tiny.yaml train.lr=1e-3,2e-3 data=nowhere
    [ "$status" -eq 1 ]
    [[ "$output" == *"data.dir: nowhere is not there"* ]]
    refused() {
        apart "$STRUT" train -m tiny.yaml "${@:2}"
        [ "$code" -eq 1 ]
        [[ "$err" == "strut train: $1"* ]]
        [ ! -e multirun ]
    }
    refused "job 2 of 2 (model.mlp.map=lowrank:rank=99): model: h.0.mlp.c_fc: lowrank: rank=99" \
        model.mlp.map=ss1:factor=2,lowrank:rank=99
    refused "job 2 of 4 (train.lr=1e-3 train.context=99): command line: train.context: found 99" \
        train.lr=1e-3,2e-3 train.context=8,99
    refused "job 1 of 2 (train.groups={nrms: {lr: 1}}): " 'train.groups={nrms: {lr: 1}},{norms: {lr: 1}}'
    refused "job 2 of 2 (data.last=drop): " data.order=shuffle data.last=wrap,drop train.micro_batch=100
    "$STRUT" train tiny.yaml out=base -q
    refused "job 2 of 2 (model.mlp.map=lowrank:rank=99): command line: model.mlp.map: " init=base/ckpt/last \
        model.mlp.map=lowrank:rank=2,lowrank:rank=99
    run "$STRUT" train -m tiny.yaml train.lr=1e-3,2e-3 out=o --json
    [ "$status" -eq 0 ]
    [ -d o/lr=1e-3 ]
}

@test "a sweep says which job it is in and, once one has ended, how long all will take" {
    unset CI NO_COLOR
    python3 - "$STRUT" <<'PY'
import os, pty, re, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], [sys.argv[1], "train", "-m", "tiny.yaml", "train.steps=2000,8000,80000,7000",
                           "seed=1", "eval.every=0", "ckpt.every=0"])
text = b""
while b"job 2 of 4, train" not in text or b"job 3 of 4" not in text:
    try:
        more = os.read(fd, 65536)
    except OSError:
        break
    text += more
os.close(fd)
os.waitpid(pid, 0)
lines = [l.removeprefix("\x1b[K") for l in re.split(r"[\r\n]+", text.decode())]
assert not any("all ~" in l for l in lines if l.startswith("job 1 of 4"))
second = [re.search(r"([\d.]+) s left, all ~(?:([\d.]+) s|(\d+):(\d+))", l) for l in lines
          if l.startswith("job 2 of 4, train ")]
second = [m for m in second if m]
assert second # two more jobs of 80,000 and 7,000 steps against 8,000 of this one
for m in second:
    whole = float(m[2]) if m[2] else 60 * int(m[3]) + int(m[4])
    assert whole > 5 * float(m[1]), m[0]
PY
}
