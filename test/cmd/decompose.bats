#!/usr/bin/env bats
# strut decompose and init from the outside: presets, inits, what is printed and refused.
# SPDX-License-Identifier: MIT
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    # GPT-2's width, so that layouts fit; one block, small vocabulary
    cat >"$DIR/wide.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 32, "n_positions": 16, "n_embd": 768, "n_layer": 1, "n_head": 12}
JSON
    "$STRUT" init "$DIR/wide.json" "$DIR/wide" --seed 3
}
# An expression over r, the JSON object that the last command printed.
check() {
    python3 -c "
import json, sys
r = json.load(open(sys.argv[1]))
assert $1, r" "$BATS_TEST_TMPDIR/out"
}
# Two config.json with the same maps.
same() {
    python3 -c "
import json, sys
a, b = (json.load(open(p))['strut'] for p in sys.argv[1:])
assert a == b, (a, b)" "$1" "$2"
}

@test "a preset in decompose, init and a configuration is the same layout" {
    apart "$STRUT" decompose "$DIR/wide" "$DIR/a" --preset krony-81m --json
    [ "$code" = 0 ]
    check 'r["parameters_before"] - r["parameters"] == 2 * (2359296 - 589828)'
    check 'all(m["init"] == "vl" and m["alpha"] == 1 for m in r["matrices"])'
    check 'all(abs(m["energy"] - 0.25) < 0.01 for m in r["matrices"])' # isotropy: F / (m2 n2)
    check 'abs(r["energy"] + r["error"] ** 2 - 1) < 1e-6'
    "$STRUT" init "$DIR/wide.json" "$DIR/b" -p krony-81m -q
    same "$DIR/a/config.json" "$DIR/b/config.json"
    head -c 4096 /dev/zero >"$DIR/train.bin"
    cp "$DIR/train.bin" "$DIR/val.bin"
    apart "$STRUT" train model.preset="$DIR/wide.json" model.map_preset=krony-81m data="$DIR" \
        train.steps=1 train.micro_batch=1 eval.every=0 out="$DIR/run"
    [ "$code" = 0 ] || { echo "$err"; false; }
    same "$DIR/a/config.json" "$DIR/run/ckpt/last/config.json"
}

@test "random is what init makes with the same seed; by glob, the last one counts" {
    "$STRUT" init "$DIR/wide.json" "$DIR/fresh" -p krony-95m --seed 7 -q -f
    "$STRUT" decompose "$DIR/wide" "$DIR/random" -p krony-95m --init random --seed 7 -q -f
    python3 - "$DIR/fresh" "$DIR/random" <<'PY'
import json, struct, sys
def read(d):
    f = open(d + "/model.safetensors", "rb")
    n, = struct.unpack("<Q", f.read(8))
    head = json.loads(f.read(n))
    data = f.read()
    return {k: data[slice(*v["data_offsets"])] for k, v in head.items() if k != "__metadata__"}
a, b = map(read, sys.argv[1:])
names = [k for k in a if ".mlp.c_" in k and not k.endswith("bias")]
assert len(names) == 4 and all(a[k] == b[k] for k in names)
PY
    apart "$STRUT" decompose "$DIR/wide" "$DIR/mixed" -p krony-95m --init vl-norm \
        --init '*.c_proj=prune:second=0.1' --json
    [ "$code" = 0 ]
    check '[m["init"] for m in r["matrices"]] == ["vl-norm", "prune:second=0.1"]'
    check 'abs(r["matrices"][0]["alpha"] - 2 ** 0.5) < 0.02'
    check 'r["matrices"][1]["alpha"] == 1'
}

@test "what only Kronecker sums have is refused without one; skipping all is said" {
    for option in "--gauge balanced" "--scalars 1,2"; do
        # shellcheck disable=SC2086
        apart "$STRUT" decompose "$DIR/wide" "$DIR/none" -m 'h.*.mlp.*=lowrank:rank=2' $option
        [ "$code" = 1 ]
        [[ $err == *"is about Kronecker sums, and no matrix becomes one (of "* ]]
        [ ! -e "$DIR/none" ]
    done
    apart "$STRUT" decompose "$DIR/wide" "$DIR/none" -m 'h.*.mlp.*=lowrank:rank=2' --skip 'h.*'
    [ "$code" = 0 ]
    [[ $err == *"warning: nothing to decompose"* ]]
}

@test "scalars and gauges" {
    apart "$STRUT" decompose "$DIR/wide" "$DIR/s" -p krony-92m-4s --scalars .55,.25,.15,.05 --json
    [ "$code" = 0 ]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/s2" -p krony-92m-4 --scalars 1,1,1,1
    [ "$code" = 1 ]
    [[ $err == *"without learned scalars"* ]]
    [ ! -e "$DIR/s2" ]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/s2" -p krony-92m-4s --scalars 1,x
    [[ $err == *'"x" is not a number'* ]]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/s2" -p krony-92m-4s --scalars 1e39,1,1,1
    [ "$code" = 1 ]
    [[ $err == *"scalar 1e+39 of term 0; float32 holds up to"* ]]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/s2" -p krony-81m --calibrate-tokens 100
    [ "$code" = 1 ]
    [[ $err == *"--calibrate-tokens is about a text; give --weights TEXT as well"* ]]
    # finite, but what comes of it is not
    apart "$STRUT" decompose "$DIR/wide" "$DIR/s2" -p krony-92m-4s --scalars 3e38,3e38,3e38,3e38 \
        --init prune:second=1000000
    [ "$code" = 1 ]
    [[ $err == *"numbers too large for float32"* ]]
    [ ! -e "$DIR/s2" ]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/g" -p krony-81m --gauge balanced --json
    check 'all(abs(m["energy"] - 0.25) < 0.01 for m in r["matrices"])'
}

@test "folding, grouping and permuting: reported, and the model still computes the same" {
    # what is exact (all terms) shows that nothing but weights changed
    apart "$STRUT" decompose "$DIR/wide" "$DIR/moved" -f --fold-norms --group-hidden --json \
        -m 'h.*.mlp.c_fc=kron:m1=768,n1=1536,terms=2' -m 'h.*.mlp.c_proj=kron:m1=1536,n1=768,terms=2'
    [ "$code" = 0 ]
    check 'r["changes"] == {"folded": True, "hidden": [{"layer": 0, "group": 2}]}'
    check 'r["energy"] > 1 - 1e-9'
    python3 -c "
import random, struct, sys
random.seed(4)
open(sys.argv[1], 'wb').write(struct.pack('<500H', *[random.randrange(32) for _ in range(500)]))
" "$DIR/tokens.bin"
    apart "$STRUT" perplexity "$DIR/wide" "$DIR/tokens.bin" --json
    before=$(jq .nll "$BATS_TEST_TMPDIR/out")
    apart "$STRUT" perplexity "$DIR/moved" "$DIR/tokens.bin" --json
    check "abs(r['nll'] - $before) < 1e-5"
    apart "$STRUT" decompose "$DIR/wide" "$DIR/searched" -p krony-95m --permute residual --json
    check 'r["changes"]["residual"]["energy"] > r["changes"]["residual"]["energy_before"] + 0.01'
    check 'abs(r["changes"]["residual"]["energy"] - r["energy"]) < 1e-5'
    apart "$STRUT" decompose "$DIR/wide" "$DIR/x" -p krony-95m --permute hidden
    [ "$code" = 1 ] && [[ $err == *"hidden units: none of the new MLPs"* ]]
    [ ! -e "$DIR/x" ]
}

@test "what does not exist is refused before any work" {
    apart "$STRUT" decompose "$DIR/wide" "$DIR/x" --preset krony-81
    [ "$code" = 1 ]
    [[ $err == *'did you mean "krony-81m"?'* ]]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/x" -p krony-81m --init prun
    [ "$code" = 1 ]
    [[ $err == *'h.0.mlp.c_fc: init: kron has no init "prun", did you mean "prune"?'* ]]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/x" -p krony-81m --init 'h.9.*=vl'
    [ "$code" = 1 ]
    [[ $err == *"init h.9.*=vl: matches none that change, of 2 matrices"* ]]
    apart "$STRUT" decompose "$DIR/wide" "$DIR/x"
    [ "$code" = 1 ]
    [[ $err == *"--preset krony-81m"* ]]
    [ ! -e "$DIR/x" ]
}

@test "maps lists inits and layouts" {
    apart "$STRUT" maps
    [[ $out == *"krony-92m-4 "*"92,983,392"* ]]
    [[ $out == *"init prune"* ]]
    apart "$STRUT" maps --json
    check 'len(r["presets"]) > 30 and r["presets"][0]["maps"][0].startswith("h.*.mlp.c_fc=kron:")'
}

@test "8 and 4 bits, rounded by what matrices are fed" {
    cat >"$DIR/small.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 40, "n_positions": 16, "n_embd": 64, "n_layer": 2, "n_head": 2}
JSON
    "$STRUT" init "$DIR/small.json" "$DIR/small" --seed 3 --quiet
    python3 -c "
import struct, sys
sys.stdout.buffer.write(struct.pack('<4000H', *[i * i * 7 % 40 for i in range(4000)]))" >"$DIR/text.bin"
    apart "$STRUT" decompose "$DIR/small" "$DIR/q4" --quantize q4 --weights "$DIR/text.bin" --json --quiet
    [ "$code" = 0 ]
    check 'len(r["quantized"]["matrices"]) == 8 and r["quantized"]["left"] == []'
    check 'all(0 < m["error"] <= m["nearest"] for m in r["quantized"]["matrices"])'
    "$STRUT" convert "$DIR/q4" "$DIR/q4.again/" --quiet
    cmp "$DIR/q4/model.safetensors" "$DIR/q4.again/model.safetensors"
    apart "$STRUT" decompose "$DIR/small" "$DIR/q8" --quantize q8:h.*.mlp.* --map 'h.0.mlp.*=lowrank:rank=32' --quiet
    [ "$code" = 0 ]
    apart "$STRUT" info "$DIR/q8" --json --quiet
    check 'set(r["stored"]) == {"Q8_0", "F32"}'
    apart "$STRUT" decompose "$DIR/q8" "$DIR/again" --quantize q4:h.9.* --quiet
    [ "$code" = 1 ]
    [[ $err == *"read as floats"*"matches none of"* ]]
}
