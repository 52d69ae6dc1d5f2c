#!/usr/bin/env bats
# strut generate --prompts: files of prompts, several at a time, against each by itself.
# SPDX-License-Identifier: MIT
load ../helpers

setup_file() {
    export STRUT=${STRUT:-build/strut} DIR=$BATS_FILE_TMPDIR
    printf 'the cat sat on the mat; the dog did not. %.0s' $(seq 20) >"$DIR/text"
    echo '{"model_type": "gpt2", "vocab_size": 300, "n_positions": 64, "n_embd": 24, "n_layer": 2,
        "n_head": 3, "initializer_range": 0.3}' >"$DIR/tiny.json"
    "$STRUT" tokenizer "$DIR/text" --out "$DIR/words" --vocab 300 --quiet
    "$STRUT" init "$DIR/tiny.json" "$DIR/m" --seed 3 --tokenizer "$DIR/words" --quiet
    printf 'the cat\nthe dog did not sit on\n\nmat\r\non the mat' >"$DIR/p.txt"
}

@test "a prompt a line: the texts of one call each" {
    apart "$STRUT" generate "$DIR/m" --prompts "$DIR/p.txt" --batch 3 -n 9 -t 0 --device cpu --json -q
    [ "$code" = 0 ] && [ "$(get batch)" = 3 ]
    i=0
    for prompt in 'the cat' 'the dog did not sit on' mat 'on the mat'; do
        [ "$(get results.$i.prompt)" = "$prompt" ]
        [ "$(get results.$i.text)" = "$("$STRUT" generate "$DIR/m" -p "$prompt" -n 9 -t 0 --device cpu -q)" ]
        i=$((i + 1))
    done
    cp "$BATS_TEST_TMPDIR/out" "$DIR/plain"
    printf '{"q": "the cat"}\n{"q": "the dog did not sit on"}\n{"q": "mat"}\n{"q": "on the mat"}\n' >"$DIR/p.jsonl"
    apart "$STRUT" generate "$DIR/m" --prompts "$DIR/p.jsonl" --field q -n 9 -t 0 --device cpu --json -q
    python3 -c "
import json, sys
a, b = (json.load(open(p))['results'] for p in sys.argv[1:])
assert a == b" "$DIR/plain" "$BATS_TEST_TMPDIR/out"
}

@test "as text: every prompt with what follows, a line between" {
    apart "$STRUT" generate "$DIR/m" --prompts "$DIR/p.txt" -n 2 -t 0 --device cpu
    [ "$code" = 0 ] && [[ $out == "the cat"*$'\n\n'"the dog did not sit on"* ]]
    [[ $err == *"[done; prompt: "* ]]
}

@test "refused: other prompts beside, --batch alone, a file without any" {
    apart "$STRUT" generate "$DIR/m" --prompts "$DIR/p.txt" -p x
    [ "$code" = 1 ] && [[ $err == *"--prompts does not go with --prompt"* ]]
    apart "$STRUT" generate "$DIR/m" -p x --batch 3
    [ "$code" = 1 ] && [[ $err == *"--batch goes with --prompts"* ]]
    : >"$DIR/none"
    apart "$STRUT" generate "$DIR/m" --prompts "$DIR/none"
    [ "$code" = 1 ] && [[ $err == *"$DIR/none: there is no prompt"* ]]
    apart "$STRUT" generate "$DIR/m" --prompts "$DIR/nothere"
    [ "$code" = 1 ] && [[ $err == *"nothere"* ]]
}
