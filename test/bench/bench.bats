#!/usr/bin/env bats
# Suites of benchmarks: what rows there are and what they say; never how fast anything is.
# SPDX-License-Identifier: MIT

load ../helpers

setup() {
    STRUT=${STRUT:-build/strut}
    CSV=$BATS_TEST_TMPDIR/rows.csv
}

@test "bench layer: every type at every size, with its controls" {
    apart "$STRUT" bench layer --suite small --only 1x3072x768 --factors 2,8 --dtype f32,bf16 \
        --backward --reps 1 --csv "$CSV" --json
    [ "$code" = 0 ]
    "$STRUT" maps --json >"$BATS_TEST_TMPDIR/maps"
    python3 - "$BATS_TEST_TMPDIR/out" "$CSV" "$BATS_TEST_TMPDIR/maps" <<'PY'
import csv, json, sys
result = json.load(open(sys.argv[1]))
every = {m["name"] for m in json.load(open(sys.argv[3]))["maps"]}
rows = result["rows"]
assert result["ceilings"]["float32_gflops"] > 0 and result["ceilings"]["bfloat16_gflops"] > 0
assert {r["dtype"] for r in rows} == {"float32", "bfloat16"}
full = [r for r in rows if r["dtype"] == "float32"]
assert full[0]["name"] == "dense" and full[0]["forward"]["speedup"] == 1
for r in full:
    assert r["suite"] == "small" and r["shape"] == "1x3072x768" and r["rows"] == 1, r
for factor in (2, 8):
    size = 3072 * 768 / factor
    at = [r for r in full if r["factor"] == factor]
    specs = [r["spec"] for r in at if r["control"] == "none"]
    types = {s.split(":")[0] for s in specs if "+" not in s}
    assert types == every - {"dense", "sum", "lowrank"}, types
    sums = [s for s in specs if "+" in s]
    assert len(sums) == 1 and sums[0].endswith("+gate"), sums
    assert f"ss1:factor={factor}" in {r["name"] for r in at}
    assert f"monarch:blocks={2 * factor}" in {r["name"] for r in at}
    narrow, = [r for r in at if r["control"] == "narrow"]
    assert (narrow["spec"], narrow["in"], narrow["out"]) == ("dense", 3072 // factor, 768)
    assert narrow["parameters"] == size and narrow["macs_per_token"] == size
    low, = [r for r in at if r["control"] == "lowrank"]
    assert abs(low["parameters"] / size - 1) < 0.01, low
table = list(csv.DictReader(open(sys.argv[2])))
assert len(table) == 2 * len(rows)
for t in table:
    assert t["suite"] == "small" and t["kind"] in ("forward", "backward") and t["reps"] == "1"
    assert float(t["median_s"]) > 0 and float(t["roofline_percent"]) > 0 and not t["reason"], t
PY
    apart "$STRUT" bench layer --suite small --only 1x3072x768 --factors 2 --map ss1 \
        --map monarch:blocks=3 --no-controls --reps 1 --json
    [ "$(python3 -c 'import json,sys; print([r["name"] for r in json.load(open(sys.argv[1]))["rows"]])' \
        "$BATS_TEST_TMPDIR/out")" = "['dense', 'ss1:factor=2', 'monarch:blocks=3']" ]
}

@test "bench layer: a type that does not fit is a row that says why" {
    apart "$STRUT" bench layer --suite small --only 1x768x3072 --factors 4 --map lowrank:rank=99999 \
        --map ss1 --reps 1 --csv "$CSV"
    [ "$code" = 0 ]
    [[ $out == *"not measured: lowrank:rank=99999"*"rank=99999"* ]]
    [[ $out == *"* control of the same parameters"* ]]
    python3 - "$CSV" <<'PY'
import csv, sys
t = [t for t in csv.DictReader(open(sys.argv[1])) if t["name"] == "lowrank:rank=99999"]
assert len(t) == 1 and t[0]["kind"] == "" and t[0]["median_s"] == "" and "rank=99999" in t[0]["reason"], t
PY
}

@test "bench layer: fewer tokens where time is short, and nothing that would take too long" {
    apart "$STRUT" bench layer --only 36864x3072x768 --factors 4 --map ss1 --budget 2 --json
    [ "$code" = 0 ]
    reason=$(get rows.0.reason)
    # what is slow and busy leaves the shape out
    if [[ $reason != "left out: 144 rows would take "*" of 2 s (--budget)"* ]]; then
        [ "$(get rows.0.rows)" -lt 36864 ]
        [[ $reason == *"rows instead of 36864"*"--budget"* ]]
        [[ "$(get rows.1.reason)" == "$reason" ]]
    fi
    [[ $err == *"${reason:0:20}"* ]]
    apart "$STRUT" bench layer --suite llama --only 8192x4096x14336 --rows 1048576 --budget 1 \
        --csv "$CSV"
    [ "$code" = 0 ]
    [[ $out == *"left out: 1048576 rows would take "*" GiB, of "*" GiB free"* ]]
    [ "$(wc -l <"$CSV")" = 2 ]
    apart "$STRUT" bench layer --only 1024x1024x1024 --scale 128 --factors 4 --map ss1 --reps 1 --json
    [ "$(get rows.0.rows)" = 8 ]
    [[ "$(get rows.0.reason)" == *"--scale" ]]
}

@test "bench layer: Ctrl-C leaves the shapes that were finished, --resume adds the others" {
    python3 - "$STRUT" "$CSV" <<'PY'
import csv, os, re, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
args = [sys.argv[1], "bench", "layer", "--suite", "small", "--scale", "16", "--factors", "4", "--map", "ss1",
        "--csv", sys.argv[2]]
p = subprocess.Popen(args + ["--reps", "12", "--budget", "500"], stderr=subprocess.PIPE)
while not os.path.exists(sys.argv[2]):
    assert p.poll() is None
    time.sleep(0.01)
p.send_signal(signal.SIGINT)
err = p.communicate(timeout=120)[1].decode()
assert p.returncode == 130, (p.returncode, err)
first = open(sys.argv[2]).read()
done = {t["shape"] for t in csv.DictReader(first.splitlines())}
assert 1 <= len(done) < 8, done
assert re.search(rf"interrupted after [1-7] of 8 shapes; {4 * len(done)} rows are in .*--resume", err), err
subprocess.run(args + ["--reps", "1", "--resume"], check=True, capture_output=True)
text = open(sys.argv[2]).read()
assert text.startswith(first)
rows = [(t["shape"], t["name"]) for t in csv.DictReader(text.splitlines())]
assert len(rows) == len(set(rows)) == 8 * 4, rows
assert len({shape for shape, _ in rows}) == 8
again = subprocess.run(args + ["--reps", "1", "--resume"], check=True, capture_output=True, text=True)
assert "has 32 rows already; left of 8 shapes: 0" in again.stderr, again.stderr
assert open(sys.argv[2]).read() == text
PY
    python3 - "$STRUT" "$CSV" <<'PY' # Ctrl-C before the first shape leaves an earlier file alone
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
text = open(sys.argv[2]).read()
p = subprocess.Popen([sys.argv[1], "bench", "layer", "--suite", "llama", "--budget", "5000", "--csv",
                      sys.argv[2]], stderr=subprocess.PIPE)
time.sleep(0.5)
p.send_signal(signal.SIGINT)
err = p.communicate(timeout=120)[1].decode()
assert p.returncode in (130, -2), (p.returncode, err)
assert open(sys.argv[2]).read() == text, err
PY
    sed -i 's/cpu, /gpu, /' "$CSV"
    apart "$STRUT" bench layer --suite small --resume --csv "$CSV"
    [ "$code" = 1 ]
    [[ $err == *'measured on "gpu, '*'give another file'* ]]
    printf 'a,b\n1,2\n' >"$CSV"
    apart "$STRUT" bench layer --suite small --resume --csv "$CSV"
    [ "$code" = 1 ]
    [[ $err == *"is there and no benchmark of strut's; give another name"* ]]
    [ "$(cat "$CSV")" = $'a,b\n1,2' ]
}

@test "bench model: batches, contexts and types, with controls of the same size" {
    tiny='{"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 64'
    echo "$tiny, \"vocab_size\": 300}" >"$BATS_TEST_TMPDIR/tiny.json"
    model=("$STRUT" bench model "$BATS_TEST_TMPDIR/tiny.json" --map 'h.*.mlp.*=ss1:factor=4' --batch 1,3
        --context 8,16 --dtype f32,bf16 --train --csv "$CSV")
    apart "${model[@]}" --reps 1 --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" "$CSV" <<'PY'
import csv, json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert len(rows) == 2 * 4 * 4
shapes = {(r["dtype"], r["shape"]) for r in rows}
assert shapes == {(d, s) for d in ("float32", "bfloat16") for s in ("1x8", "1x16", "3x8", "3x16")}
for d in ("float32", "bfloat16"):
    assert {r["shape"] for r in rows if r["dtype"] == d and "decode" in r} == {"1x8"}
dense, ss1, low, narrow = rows[:4]
assert [r["control"] for r in rows[:4]] == ["none", "none", "lowrank", "narrow"]
assert dense["name"] == "dense" and not dense["maps"] and \
    ss1["maps"]["h.1.mlp.c_fc"].startswith("ss1:factor=4"), ss1
assert set(low["maps"]) == set(ss1["maps"]) and not narrow["maps"]
assert narrow["name"] == "dense, n_inner=65", narrow["name"]
assert abs(narrow["parameters"] / ss1["parameters"] - 1) < 0.005, (narrow, ss1)
assert abs(low["parameters"] / ss1["parameters"] - 1) < 0.01, (low, ss1)
table = list(csv.DictReader(open(sys.argv[2])))
assert len(table) == 2 * (4 * 2 * 4 + 4)
for t in table:
    assert float(t["median_s"]) > 0 and float(t["roofline_percent"]) > 0 and float(t["bytes_moved"]) > 0
    if t["kind"] == "decode":
        assert (t["shape"], t["batch"], t["context"]) == ("decode", "1", "33"), t
    else:
        assert t["shape"] == t["batch"] + "x" + t["context"], t
PY
    sum=$(md5sum "$CSV")
    apart "${model[@]}" --resume
    [[ $err == *"has 72 rows already; left of 8 parts: 0"* ]]
    [ "$(md5sum "$CSV")" = "$sum" ]
    # what is low rank itself needs neither
    apart "$STRUT" bench model "$BATS_TEST_TMPDIR/tiny.json" --map 'h.*.mlp.*=lowrank:rank=4' --context 8 \
        --reps 1 --json
    [ "$(get rows | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" = 2 ]
    # but serves as a control of others
    echo "$tiny, \"vocab_size\": 300, \"n_inner\": 65}" >"$BATS_TEST_TMPDIR/narrow.json"
    apart "$STRUT" bench model "$BATS_TEST_TMPDIR/tiny.json" "$BATS_TEST_TMPDIR/narrow.json" \
        --map 'h.*.mlp.*=ss1:factor=4' --context 8 --reps 1 --json
    [ "$(get rows.1.control)" = narrow ]
    [ "$(get rows.3.control)" = lowrank ]
    [ "$(get rows | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" = 4 ]
}

@test "bench model: the models of a group of experiments, dense first" {
    apart "$STRUT" bench model experiment=ssl_bench_mlp model.n_layer=1 model.vocab_size=64 model.n_embd=128 \
        model.n_head=2 --context 8 --reps 1 --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
by = {r["name"]: r for r in rows}
assert rows[0]["name"] == "dense" and not rows[0]["maps"]
assert {"ssl2x", "ssl4x", "ssl8x", "monarch8b", "lowrank8r", "narrow4x"} <= set(by), set(by)
assert {r["suite"] for r in rows} == {"ssl_bench_mlp"}
assert by["ssl4x"]["maps"]["h.0.mlp.c_fc"].startswith("ss1:factor=4")
assert by["lowrank8r"]["control"] == "lowrank" and by["narrow8x"]["control"] == "narrow"
for r in rows:
    if not r["maps"] or "lowrank" in str(r["maps"]):
        continue
    for control in ("narrow", "lowrank"):
        near = [c for c in rows if c["control"] == control
                and abs(c["parameters"] / r["parameters"] - 1) < 0.01]
        assert near, (r["name"], control)
PY
    apart "$STRUT" bench model experiment=ssl_bench_mpl
    [ "$code" = 1 ]
    [[ $err == *"no config experiment/ssl_bench_mpl"* ]]
}

@test "bench model: smaller where time is short, and nothing that would take too long" {
    apart "$STRUT" bench model gpt2 --map 'h.*.mlp.*=ss1:factor=4' --batch 32,16 --train --budget 0.1 --csv "$CSV"
    [ "$code" = 0 ]
    [[ $out == *"left out: 32 x 1024 would take "*" (--budget) and "*" free"* ]]
    [ "$(wc -l <"$CSV")" = 3 ]
    apart "$STRUT" bench model gpt2 --batch 8,x
    [ "$code" = 1 ]
    [[ $err == *'--batch: "x" is not a whole number from 1 to 65536'* ]]
    apart "$STRUT" bench model gpt2 --context 2048
    [ "$code" = 1 ]
    [[ $err == *"context 2048: expected a batch of 1 or more and 1 to 1024 tokens"* ]]
}

@test "an option of another kind is refused, with the kinds that take it" {
    for row in "map --suite gpt2:layer" "map --attention local:model, attention" "mlp --backward:map, layer" \
        "layer --in 64:map, mlp" "attention --map ss1:map, mlp, layer, model" "model --causal gpt2:attention"; do
        read -ra words <<<"${row%%:*}"
        apart "$STRUT" bench "${words[@]}"
        [ "$code" = 1 ] && [[ $err == *"bench ${words[0]} does not take ${words[1]}, which is for bench ${row#*:}"* ]]
    done
    apart "$STRUT" bench model gpt2 --glob 'h.*'
    [ "$code" = 1 ] && [[ $err == *"there is no --fit"* ]]
}

@test "bench layer: what is refused" {
    apart "$STRUT" bench layer --suite gtp2
    [ "$code" = 1 ]
    [[ $err == *'"gtp2": there are gpt2, llama, square and small; did you mean gpt2?'* ]]
    apart "$STRUT" bench layer --only 5x5
    [ "$code" = 1 ]
    [[ $err == *"no shape of the suite gpt2 is called 5x5"* ]]
    apart "$STRUT" bench layer --suite small --map lowrnak --factors 4 --budget 1
    [ "$code" = 1 ]
    [[ $err == *'did you mean "lowrank"?'* ]]
    apart "$STRUT" bench layer --factors 0.5
    [ "$code" = 1 ]
    [[ $err == *'--factors: "0.5" is not a number from 1'* ]]
    apart "$STRUT" bench layer --dtype f32,f16
    [ "$code" = 1 ]
    [[ $err == *'--dtype: "f16" is not f32 or bf16'* ]]
    apart "$STRUT" bench layer --resume
    [ "$code" = 1 ]
    [[ $err == *"give --csv FILE"* ]]
    apart "$STRUT" bench lair
    [ "$code" = 1 ]
    [[ $err == *"(did you mean layer?)"* ]]
}

@test "bench model: a classifier of images, its ways to attend, maps and controls" {
    cat >"$BATS_TEST_TMPDIR/t2t.json" <<'JSON'
{"model_type": "t2t_vit", "tokens_type": "transformer", "img_size": 32, "embed_dim": 64, "depth": 2,
 "num_heads": 1, "mlp_dim": 128, "token_dim": 8, "num_classes": 10}
JSON
    bench=("$STRUT" bench model "$BATS_TEST_TMPDIR/t2t.json")
    apart "${bench[@]}" --map 'blocks.*.mlp.*=ss1:factor=4' --attention local:window=3 --batch 3 \
        --dtype f32,bf16 --reps 1 --csv "$CSV" --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" "$CSV" <<'PY'
import csv, json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [r["dtype"] for r in rows] == ["float32"] * 5 + ["bfloat16"] * 5
dense, local, ss1, low, narrow = rows[:5]
assert [r["control"] for r in rows[:5]] == ["none", "none", "none", "lowrank", "narrow"]
assert dense["name"] == "dense" and local["name"] == "local:window=3", local
assert local["parameters"] == dense["parameters"] and local["macs_per_token"] < dense["macs_per_token"]
assert ss1["maps"]["blocks.1.mlp.fc1"].startswith("ss1:factor=4"), ss1
assert narrow["name"].startswith("dense, mlp_dim=") and \
    abs(narrow["parameters"] / ss1["parameters"] - 1) < 0.01, (narrow, ss1)
for r in rows:
    f = r["forward"]
    assert (r["batch"], r["context"], r["image_size"]) == (3, 5, 32) and "step" not in r and "decode" not in r
    assert abs(f["images_per_second"] * f["median"] / 3 - 1) < 1e-6, f
lines = open(sys.argv[2]).read().splitlines()
assert lines[0].endswith(",images_per_second") and len(lines) == 11
for t, r in zip(csv.DictReader(lines), rows):
    assert abs(float(t["images_per_second"]) / r["forward"]["images_per_second"] - 1) < 1e-6
PY
    apart "${bench[@]}" --fit 4 --reps 1
    [[ $out == *"batch 1 images of 32 pixels"*"images/s"*"monarch"* ]]
    refused() {
        apart "${bench[@]}" "${@:2}"
        [ "$code" = 1 ]
        [[ $err == *"$1"* ]]
    }
    refused "leave out --train" --train
    refused "leave out --context" --context 3
    refused 'did you mean "local"?' --attention locla
    apart "$STRUT" bench model gpt2 "$BATS_TEST_TMPDIR/t2t.json" --reps 1
    [[ $code == 1 && $err == *"t2t.json: is a T2T-ViT, which classifies images"* ]]
    sed 's/"img_size": 32/"img_size": 64/' "$BATS_TEST_TMPDIR/t2t.json" >"$BATS_TEST_TMPDIR/larger.json"
    refused "10 classes for 64 pixels to a side, the first model 2, 64 and 10 for 32" "$BATS_TEST_TMPDIR/larger.json"
    apart "${bench[@]}" gpt2 --reps 1
    [[ $code == 1 && $err == *"gpt2: is a GPT-2"* ]]
    apart "$STRUT" bench model gpt2 --attention local
    [[ $code == 1 && $err == *"bench attention --causal"* ]]
}
