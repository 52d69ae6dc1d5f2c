#!/usr/bin/env bats
# A type that only CONTRIBUTING.md describes, in the program: known everywhere by its row alone, and
# refused by name where it cannot be.
load ../../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    cat >"$DIR/tiny.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 60, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3,
 "initializer_range": 0.3}
JSON
    "$STRUT" init "$DIR/tiny.json" "$DIR/m" --seed 3 --quiet --map 'h.*.mlp.*=repeat:times=4'
}
greedy() {
    apart "$STRUT" generate "$1" --ids 1,2,3,4 --tokens 8 --temperature 0 --json --quiet
    [ "$code" = 0 ]
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["ids"])' "$BATS_TEST_TMPDIR/out"
}

@test "a new type is explained, suggested, timed" {
    apart "$STRUT" maps repeat
    [ "$code" = 0 ]
    [[ $out == *"one matrix, its outputs repeated"*"times"* ]]
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/no" --map 'h.*=repaet:times=4' --quiet
    [ "$code" != 0 ]
    [[ $err == *'did you mean "repeat"?'* ]]
    apart "$STRUT" bench map --in 48 --out 96 --fit 4 --reps 1 --json --quiet
    [ "$code" = 0 ]
    [[ $out == *repeat:times=4* ]]
}

@test "a new type is stored, read, made from dense and made dense" {
    want=$(greedy "$DIR/m")
    apart "$STRUT" convert "$DIR/m" "$DIR/again" --to strut --quiet
    [ "$code" = 0 ]
    [ "$(greedy "$DIR/again")" = "$want" ]
    apart "$STRUT" convert "$DIR/m" "$DIR/hf" --to hf --quiet
    [ "$code" = 0 ]
    [ "$(greedy "$DIR/hf")" = "$want" ]
    apart "$STRUT" decompose "$DIR/hf" "$DIR/back" --map 'h.*.mlp.*=repeat:times=4' --quiet
    [ "$code" = 0 ]
    [ "$(greedy "$DIR/back")" = "$want" ]
}

@test "hf-code has no class for it: refused by name, nothing written" {
    apart "$STRUT" convert "$DIR/m" "$DIR/code" --to hf-code --quiet
    [ "$code" != 0 ]
    [[ $err == *"h.0.mlp.c_fc: is of type repeat, for which modeling_strut.py has no class"* ]]
    [[ $err == *"--to hf makes it dense"* ]]
    [ ! -e "$DIR/code" ]
    [ -z "$(find "$DIR" -name '*code*')" ]
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/sum" --quiet \
        --map 'h.1.mlp.c_proj=lowrank:rank=2+repeat:times=4'
    [ "$code" = 0 ]
    apart "$STRUT" convert "$DIR/sum" "$DIR/code" --to hf-code --quiet
    [ "$code" != 0 ]
    [[ $err == *"h.1.mlp.c_proj: is of type repeat"* ]]
    [ ! -e "$DIR/code" ]
    # nor has fly a layer for it, alone or in a sum
    for from in m sum; do
        apart "$STRUT" convert "$DIR/$from" "$DIR/fly.pt" --to fly --quiet
        [ "$code" != 0 ]
        [[ $err == *"fly cannot hold this model"*repeat* ]]
    done
}
