#!/usr/bin/env bats
# Decomposition by a text, and structured embeddings, from the outside.
# SPDX-License-Identifier: MIT
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    tiny_model "$DIR" 4000
}

@test "--weights: the outputs' errors are printed and smaller, in either order" {
    map=(--map 'h.*.mlp.*=lowrank:rank=3')
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/w" "${map[@]}" --weights "$DIR/tokens.bin" --json
    [ "$code" = 0 ]
    [ "$(get calibration.tokens)" = 4000 ]
    [ "$(get calibration.sequential)" = false ]
    [ "$(get matrices.3.weighted)" = true ]
    first=$(get matrices.3.output_error)
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/w" "${map[@]}" --weights "$DIR/tokens.bin" --sequential \
        --calibrate-tokens 640 --force --json
    [ "$code" = 0 ]
    [ "$(get calibration.tokens)" = 640 ]
    [ "$(get calibration.sequential)" = true ]
    [ "$(get matrices.3.output_error)" != "$first" ]
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/w" "${map[@]}" --init random -w "$DIR/tokens.bin" -f
    [[ $out == *"init random takes no notice of the text"* ]]
    [[ $out == *"outputs"* ]]
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/x" "${map[@]}" --sequential
    [ "$code" = 1 ]
    [[ $err == *"--weights"* ]]
    [ ! -e "$DIR/x" ]
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/x" "${map[@]}" --weights "$DIR/tiny.json"
    [ "$code" = 1 ]
    [[ $err == *"tokenizer"* ]]
    [ ! -e "$DIR/x" ]
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/x" "${map[@]}" --weights "$DIR/none"
    [ "$code" = 1 ]
    [ ! -e "$DIR/x" ]
}

@test "wte: an embedding in factors is made, used, trained and exported" {
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/e" --map 'wte=kron:m1=12,n1=300' --json
    [ "$code" = 0 ]
    [ "$(get parameters)" = $((22464 - 300 * 24 + 300 * 12 + 2)) ]
    apart "$STRUT" info "$DIR/e"
    [[ $out == *"kron:terms=1,m1=12,n1=300"* ]]
    apart "$STRUT" perplexity "$DIR/e" "$DIR/tokens.bin" --json
    [ "$code" = 0 ]
    structured=$(get perplexity)
    "$STRUT" convert "$DIR/e" "$DIR/e_hf" --to hf -q
    apart "$STRUT" perplexity "$DIR/e_hf" "$DIR/tokens.bin" --json
    python3 -c "import sys; a, b = map(float, sys.argv[1:]); assert abs(a - b) < 1e-4 * a" \
        "$structured" "$(get perplexity)"
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/x" --map 'wte=ss1:factor=4'
    [ "$code" = 1 ]
    [[ $err == *"row look-up"* ]]
    [ ! -e "$DIR/x" ]
    apart "$STRUT" decompose "$DIR/tiny" "$DIR/stars" --map '*=lowrank:rank=3' --json
    not grep -q '"wte"' "$BATS_TEST_TMPDIR/out"
}
