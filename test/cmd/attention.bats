#!/usr/bin/env bats
# Ways to attend on the command line: bench attention, perplexity and generate with one.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    cat >"$DIR/tiny.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2,
 "initializer_range": 0.5}
JSON
    "$STRUT" init "$DIR/tiny.json" "$DIR/tiny" --seed 3
    python3 -c "
import random, struct, sys
random.seed(4)
open(sys.argv[1], 'wb').write(struct.pack('<200H', *[random.randrange(50) for _ in range(200)]))
" "$DIR/tokens.bin"
}

@test "bench attention: full first, plan and use agree, what is not causal says so, --csv" {
    apart "$STRUT" bench attention --context 64,100 --attention local:window=8 --attention linformer:k=8 \
        --attention sblocal:window=4,features=2 --attention smyrf --causal --heads 2 --head-dim 8 --seeds 2 --budget 0.1 \
        --csv "$DIR/a.csv" --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" "$DIR/a.csv" <<'PY'
import csv, json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [r["name"] for r in rows] == ["full", "local", "linformer", "sblocal", "smyrf"] * 2
assert [r["context"] for r in rows] == [64] * 5 + [100] * 5
for r in rows:
    if r["name"] in ("linformer", "smyrf"):
        assert "no causal form" in r["reason"]
        continue
    assert r["scratch_planned"] == r["scratch_used"] and r["forward"]["median"] > 0
    assert ("error" in r) == (r["name"] != "full")
assert rows[0]["macs_per_token"] == 2 * 16 * 65 / 2
assert rows[3]["error_sd"] > 0 and rows[1]["seeds"] == 1 and rows[3]["scratch_used"] > 0
lines = list(csv.DictReader(open(sys.argv[2])))
assert len(lines) == 10 and lines[1]["spec"] == "local:window=8"
assert float(lines[3]["error"]) > 0 and lines[3]["heads"] == "2"
PY
    apart "$STRUT" bench attention --context 64,100,128 --attention local:window=8 --causal --heads 2 \
        --head-dim 8 --budget 0.1 --csv "$DIR/a.csv" --resume --json
    [[ $err == *"a.csv: has 10 rows already; left of 3 lengths: 1"* ]]
    [ "$(get rows.0.shape)" = "1x128x2x8 causal" ]
    [ "$(wc -l <"$DIR/a.csv")" = 13 ]
    apart "$STRUT" bench attention --context 64,100 --attention smyrf --attention reformer:hashes=3 \
        --heads 2 --head-dim 8 --seeds 2 --budget 0.1 --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [r["spec"] for r in rows[1:3]] == ["smyrf:hashes=2,q_cluster=1,k_cluster=1",
                                          "reformer:hashes=3,bucket=1"]
for r in rows:
    assert r["scratch_planned"] == r["scratch_used"] and r["forward"]["median"] > 0
    assert r["name"] == "full" or (r["error_sd"] > 0 and r["seeds"] == 2)
PY
    apart "$STRUT" bench attention --attention locl
    [ "$code" = 1 ]
    [[ $err == *'did you mean "local"'* ]]
}

@test "bench attention: Ctrl-C prints the lengths that were finished, and leaves them in the CSV" {
    python3 - "$STRUT" "$DIR/half.csv" <<'PY'
import csv, os, re, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
p = subprocess.Popen([sys.argv[1], "bench", "attention", "--context", "16,32768", "--attention",
                      "local:window=2", "--head-dim", "8", "--reps", "3", "--budget", "100000", "--csv",
                      sys.argv[2]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
while not os.path.exists(sys.argv[2]):
    assert p.poll() is None
    time.sleep(0.001)
p.send_signal(signal.SIGINT)
out, err = p.communicate(timeout=200)
assert p.returncode == 130, (p.returncode, err)
assert "interrupted after 1 of 2 lengths; 2 rows are in " in err and "--resume goes on" in err, err
assert "16 tokens" in out and re.search(r"^local:window=2 ", out, re.M) and "32,768" not in out, out
lines = list(csv.DictReader(open(sys.argv[2])))
assert [(t["spec"], t["context"]) for t in lines] == [("full", "16"), ("local:window=2", "16")], lines
PY
}

@test "bench attention: what time or memory do not allow is left out, and Ctrl-C is not needed" {
    apart timeout 300 "$STRUT" bench attention --context 16,4194304 --attention performer:features=4 \
        --head-dim 8 --seeds 1 --budget 1 --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [r["context"] for r in rows] == [16, 16, 4194304, 4194304]
assert all("forward" in r for r in rows[:2])
assert all("full at 4194304 tokens would take" in r["reason"] for r in rows[2:])
PY
    apart timeout 300 "$STRUT" bench attention --context 4194304 --attention local --budget 1
    [ "$code" = 0 ]
    [[ $out == *"left out: full at 4194304 tokens"* ]]
    apart timeout 300 "$STRUT" bench attention --context 4194304 --batch 65536 --heads 1024 \
        --head-dim 4096 --attention local --budget 1
    [ "$code" = 0 ]
    [[ $out == *"full at 4194304 tokens, batch 65536, 1024 x 4096 is more than can be measured"* ]]
}

@test "bench attention: a way with more scratch than there is memory is left out alone" {
    memory=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
    [ "$memory" -lt 500000000 ] || skip "the tensors would take 0.3 GB"
    batch=$((memory / (1 << 19) + 1)) # of 1,024 heads with 65,536 mixed keys and values of 4 bytes
    apart timeout 120 "$STRUT" bench attention --context 16 --batch $batch --heads 1024 --head-dim 1 \
        --attention linformer:k=65536 --attention local:window=4 --seeds 1 --reps 1 --budget 100000 --json
    [ "$code" = 0 ]
    [[ "$(get rows.1.reason)" == "left out: linformer at 16 tokens would take "*" GiB free" ]]
    [ "$(get rows.2.name)" = local ]
    [ "$(get rows.2.forward.reps)" -gt 0 ]
}

@test "bench --csv: where rows cannot go is said before anything is measured" {
    cd "$BATS_TEST_TMPDIR"
    echo "dear diary" >notes.txt
    mkdir folder
    for file in notes.txt folder gone/x.csv /dev/full; do
        apart timeout 300 "$STRUT" bench layer --suite llama --budget 500 --resume --csv "$file"
        [ "$code" = 1 ]
        [[ $err == *"$file: "* && $err != *"left out"* ]]
    done
    [ "$(cat notes.txt)" = "dear diary" ]
    apart "$STRUT" bench layer small
    [[ $err == *"did you mean --suite small"* ]]
}

@test "perplexity and generate: another attention, and what is refused" {
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --json
    full=$(get perplexity)
    [ "$(get attention)" = full ]
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --attention local:window=2 --json
    [ "$code" = 0 ]
    [ "$(get attention)" = local:window=2 ]
    [ "$(get perplexity)" != "$full" ]
    apart "$STRUT" generate "$DIR/tiny" --ids 1,2,3,4,5 --attention performer:features=8 --tokens 3 --json
    [ "$code" = 0 ]
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --attention linformer
    [ "$code" = 1 ]
    [[ $err == *"no causal form"*"later ones"* ]]
    for way in smyrf reformer; do
        apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --attention $way
        [ "$code" = 1 ]
        [[ $err == *"attention $way has no causal form"*"later ones decide"* ]]
    done
}
