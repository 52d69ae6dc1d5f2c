#!/usr/bin/env bats
# Commands on a tiny model: what they print, --json and its keys, files that appear whole or not at
# all, bad input.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    tiny_model "$DIR"
}

@test "init: the folder, its counts, the same seed the same bytes" {
    [ -s "$DIR/tiny/config.json" ]
    [ -s "$DIR/tiny/model.safetensors" ]
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/again" --seed 3 --json
    [ "$code" = 0 ]
    # wte 300*24, wpe 32*24, two blocks of 12*24^2 + 13*24, ln_f 2*24
    [ "$(get parameters)" = 22464 ]
    [ "$(get embedding_parameters)" = 7968 ]
    cmp "$DIR/tiny/model.safetensors" "$DIR/again/model.safetensors"
    "$STRUT" init "$DIR/tiny.json" "$DIR/other" --seed 4
    not cmp -s "$DIR/tiny/model.safetensors" "$DIR/other/model.safetensors"
}

@test "init: an existing folder is kept unless --force" {
    "$STRUT" init "$DIR/tiny.json" "$DIR/kept"
    sum=$(cksum <"$DIR/kept/model.safetensors")
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/kept" --seed 9
    [ "$code" = 1 ]
    [ -z "$out" ]
    [[ $err == *"--force"* ]]
    [ "$(cksum <"$DIR/kept/model.safetensors")" = "$sum" ]
    "$STRUT" init "$DIR/tiny.json" "$DIR/kept" --seed 9 --force
    [ "$(cksum <"$DIR/kept/model.safetensors")" != "$sum" ]
}

@test "init: maps by glob, unknown names and specs refused" {
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/maps" --map '*=lowrank:rank=2' \
        --map 'h.*.mlp.c_fc=monarch:blocks=4' --json
    [ "$code" = 0 ]
    [ "$(get 'maps' | python3 -c 'import json,sys; m=json.load(sys.stdin); print(m["h.1.mlp.c_proj"], m["h.0.mlp.c_fc"], m["lm_head"])')" = \
        "lowrank:rank=2 monarch:blocks=4 dense" ]
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/x" --map 'h.*.mlp.*=monarh:blocks=4'
    [ "$code" = 1 ]
    [[ $err == *"monarch"* ]]
    apart "$STRUT" init gpt2-lrage "$DIR/x"
    [ "$code" = 1 ]
    [[ $err == *"did you mean gpt2-large?"* ]]
    [ ! -e "$DIR/x" ]
}

@test "info: a model, its file, a shard, a config; the keys that are promised" {
    apart "$STRUT" info "$DIR/tiny" --json
    [ "$code" = 0 ]
    [ -z "$err" ]
    [ "$(get kind)" = model ]
    [ "$(get parameters)" = 22464 ]
    [ "$(get embedding_parameters)" = 7968 ]
    [ "$(get bytes)" = 89856 ]
    # weights 2*12*24^2 + 24*300; attention 2 * 24 * (1 + ... + 32) / 32 keys on average, twice
    [ "$(get weight_macs_per_token)" = 21024 ]
    [ "$(get macs_per_token)" = $((21024 + 2 * 2 * 24 * 33 / 2)) ]
    [ "$(get maps | tr -d '"{}' | tr ',' '\n' | wc -l)" = 10 ]
    for kind in "shard:tokens.bin" "config:tiny.json" "safetensors:tiny/model.safetensors"; do
        apart "$STRUT" info "$DIR/${kind#*:}" --json
        [ "$(get kind)" = "${kind%%:*}" ]
        apart "$STRUT" info "$DIR/${kind#*:}"
        [ "$code" = 0 ]
        [ -n "$out" ]
    done
    # GPT-2's published sizes
    for size in gpt2:124439808 gpt2-medium:354823168 gpt2-large:774030080 gpt2-xl:1557611200; do
        apart "$STRUT" info "${size%:*}" --json
        [ "$(get parameters)" = "${size#*:}" ]
    done
    apart "$STRUT" info "$DIR/nothing"
    [ "$code" = 1 ]
    [[ $err == *"no such file"* ]]
    apart "$STRUT" info "$DIR"
    [ "$code" = 1 ]
    [[ $err == *"neither a model"* ]]
}

@test "info: a pipe in place of config.json, Ctrl-C ends the waiting" {
    mkdir "$DIR/pipe"
    mkfifo "$DIR/pipe/config.json"
    cp "$DIR/tiny/model.safetensors" "$DIR/pipe/"
    python3 - "$STRUT" "$DIR/pipe" <<'PY'
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
p = subprocess.Popen([sys.argv[1], "info", sys.argv[2]], stderr=subprocess.PIPE)
time.sleep(0.5)
p.send_signal(signal.SIGINT)
err = p.communicate(timeout=60)[1].decode()
assert p.returncode in (130, -2), (p.returncode, err)
PY
}

@test "info: a broken model is named" {
    cp -r "$DIR/tiny" "$DIR/cut"
    head -c 50000 "$DIR/tiny/model.safetensors" >"$DIR/cut/model.safetensors"
    apart "$STRUT" info "$DIR/cut" --json
    [ "$code" = 1 ]
    [ -z "$out" ]
    [[ $err == *"$DIR/cut/model.safetensors"* ]]
    sed -i 's/"n_embd": *24/"n_embd": 36/' "$DIR/cut/config.json"
    cp "$DIR/tiny/model.safetensors" "$DIR/cut/"
    apart "$STRUT" info "$DIR/cut"
    [ "$code" = 1 ]
}

@test "decompose: energy and error, fewer parameters, the result works" {
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/small" --map 'h.*.mlp.*=lowrank:rank=4' --json
    [ "$code" = 0 ]
    [ "$(get matrices | tr '{' '\n' | grep -c '"energy"')" = 4 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
r = json.load(open(sys.argv[1]))
assert r["parameters"] == 22464 - 4 * (24 * 96 - 4 * 120), r["parameters"]
for m in r["matrices"]:
    assert 0.0 < m["energy"] < 1.0 and abs(m["error"] ** 2 + m["energy"] - 1) < 1e-9, m
PY
    apart "$STRUT" generate "$DIR/small" --ids 1,2,3 --tokens 3 --json
    [ "$code" = 0 ]
    apart "$STRUT" decompose "$DIR/small" "$DIR/dense" --map '*=dense'
    [ "$code" = 0 ]
    [[ $out == *"lowrank"* ]] || [[ $out == *"dense"* ]]
    apart "$STRUT" info "$DIR/dense" --json
    [ "$(get parameters)" = 22464 ]
}

@test "decompose: nothing asked for, a missing model, a full folder: nothing is written" {
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/none"
    [ "$code" = 1 ]
    [[ $err == *"--map GLOB=SPEC"* ]]
    apart "$STRUT" decompose "$DIR/nowhere" "$DIR/none" --map '*=dense'
    [ "$code" = 1 ]
    [[ $err == *"$DIR/nowhere"* ]]
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/tiny" --map 'h.*.mlp.*=lowrank:rank=4'
    [ "$code" = 1 ]
    [ ! -e "$DIR/none" ]
    [ -z "$(find "$DIR" -maxdepth 1 -name '*tmp*')" ]
}

@test "perplexity: the promised keys, protocols, limits" {
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --json
    [ "$code" = 0 ]
    [ "$(get tokens)" = 500 ]
    [ "$(get scored)" = 484 ]
    [ "$(get windows)" = 16 ]
    [ "$(get protocol)" = hf ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, math, sys
r = json.load(open(sys.argv[1]))
assert abs(math.log(r["perplexity"]) - r["nll"]) < 1e-9
assert 4.0 < r["nll"] < 9.0
PY
    first=$(get nll)
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --protocol krony --json
    [ "$(get protocol)" = krony ]
    [ "$(get nll)" != "$first" ]
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --stride 16 --json
    [ "$(get scored)" = 499 ]
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin"
    [ "$code" = 0 ]
    [[ $out == *"perplexity"*"windows     16 of 32 tokens, stride 32"* ]]
}

@test "perplexity: ids beyond the vocabulary, a text without tokenizer, an empty and an odd file" {
    printf '\377\377\001\000' >"$DIR/big.bin"
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/big.bin" --json
    [ "$code" = 1 ]
    [ -z "$out" ]
    [[ $err == *"id 65535, the model's vocabulary has 300"* ]]
    echo text >"$DIR/text.txt"
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/text.txt"
    [ "$code" = 1 ]
    [[ $err == *"no tokenizer"* ]]
    : >"$DIR/empty.bin"
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/empty.bin"
    [ "$code" = 1 ]
    printf 'abc' >"$DIR/odd.bin"
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/odd.bin"
    [ "$code" = 1 ]
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --protocol hff
    [ "$code" = 1 ]
    [[ $err == *"did you mean hf?"* ]]
    apart "$STRUT" perplexity "$DIR/tiny" "$DIR/tokens.bin" --context 33
    [ "$code" = 1 ]
    [[ $err == *"the model's 32"* ]]
}

@test "generate: ids and text, the seed decides, greedy does not need it" {
    apart "$STRUT" generate "$DIR/tiny" --ids 1,2,3 --tokens 40 --ignore-eos --json
    [ "$code" = 0 ]
    ids=$(get ids)
    [ "$(get prompt_ids)" = "[1, 2, 3]" ]
    [ "$(echo "$ids" | tr ',' '\n' | wc -l)" = 40 ]
    get text >/dev/null
    apart "$STRUT" generate "$DIR/tiny" --ids 1,2,3 --tokens 40 --ignore-eos --json --seed 1337
    [ "$(get ids)" = "$ids" ]
    apart "$STRUT" generate "$DIR/tiny" --ids 1,2,3 --tokens 40 --ignore-eos --json --seed 2
    [ "$(get ids)" != "$ids" ]
    apart "$STRUT" generate "$DIR/tiny" --ids 1,2,3 --tokens 9 -t 0 --seed 5 --json
    ids=$(get ids)
    apart "$STRUT" generate "$DIR/tiny" --ids 1,2,3 --tokens 9 -t 0 --seed 6 --json --device ref
    [ "$(get ids)" = "$ids" ]
}

@test "generate: bad prompts" {
    apart "$STRUT" generate "$DIR/tiny" --ids 1,,2
    [ "$code" = 1 ]
    [[ $err == *'--ids: "" is not a token id'* ]]
    apart "$STRUT" generate "$DIR/tiny" --ids 1,300
    [ "$code" = 1 ]
    [[ $err == *"id 300, the model's vocabulary has 300"* ]]
    apart "$STRUT" generate "$DIR/tiny" --prompt hello
    [ "$code" = 1 ]
    [[ $err == *"no tokenizer"* ]]
    apart "$STRUT" generate "$DIR/tiny" --prompt hello --ids 1
    [ "$code" = 1 ]
    [[ $err == *"one of --prompt"* ]]
    apart "$STRUT" generate "$DIR/tiny" --ids 1 --top-p 1.5
    [ "$code" = 2 ]
}

@test "bench map: dense first, every type, --csv" {
    apart "$STRUT" bench map --in 64 --out 128 --rows 32 --fit 4 --backward --reps 3 --json \
        --csv "$DIR/maps.csv"
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" "$DIR/maps.csv" <<'PY'
import csv, json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert rows[0]["spec"] == "dense" and rows[0]["forward"]["speedup"] == 1.0
assert {r["spec"].split(":")[0] for r in rows} >= {"lowrank", "blockdiag", "monarch", "kron", "ss1"}
assert rows[0]["parameters"] == 64 * 128 and rows[0]["macs_per_token"] == 64 * 128
for r in rows:
    for kind in ("forward", "backward"):
        t = r[kind]
        assert 0 < t["p10"] <= t["median"] <= t["p90"] and t["reps"] == 3, t
for r in rows[1:]:
    assert abs(r["parameters"] - 64 * 128 / 4) < 0.15 * 64 * 128 / 4, r
table = list(csv.DictReader(open(sys.argv[2])))
assert len(table) == 2 * len(rows)
assert {t["what"] for t in table} == {"forward", "backward"}
assert table[0]["spec"] == "dense" and float(table[0]["median_s"]) > 0
for t in table:
    assert t["kind"] == t["what"] and t["control"] == "none" and float(t["speedup_p10"]) > 0, t
    assert float(t["roofline_percent"]) > 0 and float(t["peak_gflops"]) > 0, t
    assert abs(float(t["bytes_moved"]) / float(t["median_s"]) / 1e9 / float(t["gbytes_per_s"]) - 1) < 1e-6
    assert t["cores"] and t["date"] and t["machine"] and t["version"]
f = {t["spec"]: t for t in table if t["kind"] == "forward"}
assert float(f["dense"]["bytes_moved"]) == 4 * (64 * 128 + 32 * 64 + 32 * 128), f["dense"]
PY
    STRUT_COMMIT=abc apart "$STRUT" bench map --in 8 --out 8 --rows 1 --map dense --reps 1 --json
    [ "$(get commit)" = abc ]
    apart "$STRUT" bench map --in 48 --out 96 --map lowrank:rank=0
    [ "$code" = 1 ]
    apart "$STRUT" bench mqp
    [ "$code" = 1 ]
    [[ $err == *"did you mean map?"* ]]
}

@test "bench mlp: forward and step, dense first" {
    apart "$STRUT" bench mlp --in 64 --out 128 --rows 40 --map ss1:factor=2 --map lowrank --reps 1 --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [r["spec"].split(":")[0] for r in rows] == ["dense", "ss1", "lowrank"]
assert [r["inner"] for r in rows] == [128] * 3
assert rows[0]["macs_per_token"] == 2 * 64 * 128 and rows[1]["macs_per_token"] == 64 * 128
assert rows[0]["parameters"] == 2 * rows[1]["parameters"]
for r in rows:
    macs = {k: r[k]["gflops"] * r[k]["median"] for k in ("forward", "step")}
    assert abs(macs["step"] - 3 * macs["forward"]) < 1e-3 * macs["step"], macs
PY
    apart "$STRUT" bench mlp --rows 8 more
    [ "$code" = 1 ]
    [[ $err == *"mlp takes options only: more"* ]]
}

@test "bench model: dense, the model, a map, every type" {
    apart "$STRUT" bench model "$DIR/tiny" --map 'h.*.mlp.*=lowrank:rank=2' --fit 4 --train --reps 3 \
        --context 16 --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert rows[0]["name"] == "dense" and rows[0]["parameters"] == 22464
assert rows[1]["maps"]["h.0.mlp.c_fc"] == "lowrank:rank=2"
assert len(rows) >= 6
for r in rows:
    for kind in ("forward", "step", "decode"):
        assert r[kind]["tokens_per_second"] > 0, r
PY
    apart "$STRUT" bench model
    [ "$code" = 1 ]
    [[ $err == *"which model?"* ]]
}

@test "bench model --preset: a row per layout" {
    cat >"$DIR/wide.json" <<'JSON'
{"model_type": "gpt2", "n_layer": 1, "n_head": 12, "n_embd": 768, "n_positions": 8, "vocab_size": 64}
JSON
    apart "$STRUT" bench model "$DIR/wide.json" --preset krony-81m -p krony-95m --context 8 --reps 1 \
        --no-controls --json
    [ "$code" = 0 ]
    python3 - "$BATS_TEST_TMPDIR/out" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
assert [r["name"] for r in rows] == ["dense", "krony-81m", "krony-95m"]
assert rows[0]["parameters"] - rows[1]["parameters"] == 2 * (768 * 3072 - 589828)
assert rows[0]["parameters"] - rows[2]["parameters"] == 2 * (768 * 3072 - 1179650)
assert rows[1]["macs_per_token"] < rows[2]["macs_per_token"] < rows[0]["macs_per_token"]
PY
    apart "$STRUT" bench model "$DIR/wide.json" --preset krony-18m
    [ "$code" = 1 ]
    [[ $err == *"did you mean"* ]]
}

@test "Ctrl-C: exit 130 and nothing half-written; a termination signal: 143" {
    "$STRUT" bench map --reps 100000 --budget 1000 --in 64 --out 64 >"$BATS_TEST_TMPDIR/out" 2>&1 &
    pid=$!
    sleep 0.5
    kill -TERM "$pid"
    code=0
    wait "$pid" || code=$?
    [ "$code" = 143 ]
    # Background jobs of a shell ignore SIGINT, so this one is started by something that does not.
    code=$(python3 - "$STRUT" <<'PY'
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
for wait in (3, 9, 27, 81): # three rounds, of 0.1 s each, or more time on a busy machine
    p = subprocess.Popen([sys.argv[1], "bench", "map", "--reps", "100000", "--budget", "1000", "--in",
                          "64", "--out", "64"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(wait)
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=60)[0].decode()
    if "monarch" in out and p.returncode == 130:
        break
assert "monarch" in out and "vs dense" in out, out # the rounds that were done
print(p.returncode)
PY
)
    [ "$code" = 130 ]
}

@test "init: Ctrl-C ends it while weights are drawn" {
    # 1.6 billion weights: half a minute of two processors and 6 GiB, of which little is touched
    echo '{"model_type": "gpt2", "vocab_size": 32, "n_positions": 16, "n_embd": 1024, "n_layer": 128,
           "n_head": 16}' >"$BATS_TEST_TMPDIR/large.json"
    python3 - "$STRUT" "$BATS_TEST_TMPDIR" <<'PY'
import os, resource, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
p = subprocess.Popen([sys.argv[1], "init", sys.argv[2] + "/large.json", sys.argv[2] + "/large"],
                     stderr=subprocess.PIPE)
def worked(): # seconds of processors
    fields = open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
while worked() < 1:
    assert p.poll() is None
    time.sleep(0.01)
p.send_signal(signal.SIGINT)
err = p.communicate(timeout=300)[1]
assert p.returncode == 130, p.returncode
assert b"interrupted; nothing was written" in err, err
used = resource.getrusage(resource.RUSAGE_CHILDREN)
assert used.ru_utime + used.ru_stime < 12, used # of some 60
assert os.listdir(sys.argv[2]) == ["large.json"], os.listdir(sys.argv[2])
PY
}

@test "progress: redrawn on a terminal, plain lines in a log, nothing with --quiet" {
    unset CI NO_COLOR
    cat >"$BATS_TEST_TMPDIR/terminal.py" <<'PY'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(dict(a.split("=") for a in sys.argv[1].split()) if sys.argv[1] else {})
    os.execv(sys.argv[2], sys.argv[2:])
text = b""
while True:
    try:
        more = os.read(fd, 65536)
    except OSError:
        break
    if not more:
        break
    text += more
sys.stdout.buffer.write(text)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
    bench=("$STRUT" bench map --in 32 --out 32 --rows 8 --map lowrank --reps 5)
    python3 "$BATS_TEST_TMPDIR/terminal.py" TERM=xterm "${bench[@]}" >"$BATS_TEST_TMPDIR/tty"
    grep -q $'\r\e\[K' "$BATS_TEST_TMPDIR/tty"
    grep -q '100% \[####################\] 5 of 5 rounds' "$BATS_TEST_TMPDIR/tty"
    for plain in TERM=dumb "TERM=xterm NO_COLOR=1" "TERM=xterm CI=1"; do
        python3 "$BATS_TEST_TMPDIR/terminal.py" "$plain" "${bench[@]}" >"$BATS_TEST_TMPDIR/tty"
        not grep -q $'\e' "$BATS_TEST_TMPDIR/tty"
        grep -q '100% 5 of 5 rounds' "$BATS_TEST_TMPDIR/tty"
    done
    apart "${bench[@]}"
    [[ $err == "bench 100% 5 of 5 rounds, "*"/s" ]]
    apart "${bench[@]}" --quiet
    [ -z "$err" ]
    [ -n "$out" ]
}
