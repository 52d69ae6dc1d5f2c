#!/usr/bin/env bats
# strut tokenizer and strut prepare as a user meets them.

setup() {
    STRUT=${STRUT:-build/strut}
    T=$(mktemp -d)
    for i in 1 2 3 4 5 6 7 8 9; do cat LICENSE; done >"$T/a.txt"
    sed 's/[\\"]//g; s/.*/{"body": "&"}/' LICENSE >"$T/b.jsonl"
    TOK=test/fixtures/text/license-400.json
}
teardown() {
    rm -rf "$T"
}
# Runs with the two outputs apart: $out, $err, $code.
apart() {
    code=0
    "$@" >"$T/out" 2>"$T/err" || code=$?
    out=$(cat "$T/out")
    err=$(cat "$T/err")
}

@test "tokenizer, then prepare with it" {
    apart "$STRUT" tokenizer --vocab 300 --out "$T/tok" "$T/a.txt"
    [ "$code" = 0 ]
    [[ $out == *"300 tokens"* ]]
    apart "$STRUT" prepare --tokenizer "$T/tok" --out "$T/data" "$T/a.txt"
    [ "$code" = 0 ]
    [ "$(ls "$T/data" | tr '\n' ' ')" = "merges.txt meta.json special_tokens_map.json tokenizer.json tokenizer_config.json train.bin val.bin vocab.json " ]
    [[ $out == *train.bin*val.bin* ]]
}

@test "--json prints one object with the counts, and the files have them" {
    apart "$STRUT" prepare --json --tokenizer "$TOK" --out "$T/data" --field body "$T/b.jsonl" "$T/a.txt"
    [ "$code" = 0 ]
    number() { sed -n "s/^  \"$1\": \([0-9]*\),*$/\1/p" "$T/out"; }
    [ "$(number tokens)" = $(($(number train_tokens) + $(number val_tokens))) ]
    [ "$(stat -c %s "$T/data/train.bin")" = $((2 * $(number train_tokens))) ]
    [ "$(stat -c %s "$T/data/val.bin")" = $((2 * $(number val_tokens))) ]
    [ "$(number documents)" = $(($(grep -c '": "[^"]' "$T/b.jsonl") + 1)) ]
    apart "$STRUT" tokenizer --json --vocab 260 --out "$T/tok" --field body "$T/b.jsonl"
    [ "$code" = 0 ]
    [ "$(number vocab_size)" = 260 ]
}

@test "the same text packed gives the same shards" {
    "$STRUT" prepare -q -t "$TOK" -o "$T/plain" "$T/a.txt"
    tar -C "$T" -cf "$T/a.tar" a.txt
    gzip -k "$T/a.tar" "$T/a.txt"
    for x in a.tar a.tar.gz a.txt.gz; do
        "$STRUT" prepare -q -f -t "$TOK" -o "$T/packed" "$T/$x"
        cmp "$T/plain/train.bin" "$T/packed/train.bin"
        cmp "$T/plain/val.bin" "$T/packed/val.bin"
    done
    "$STRUT" prepare -q -f -t "$TOK" -o "$T/packed" /dev/stdin <"$T/a.txt.gz"
    cmp "$T/plain/train.bin" "$T/packed/train.bin"
}

@test "what is missing is asked for by name" {
    apart "$STRUT" prepare --out "$T/data" "$T/a.txt"
    [ "$code" != 0 ]
    [[ $err == *--tokenizer* ]]
    apart "$STRUT" prepare --tokenizer "$TOK" "$T/a.txt"
    [ "$code" != 0 ]
    [[ $err == *--out* ]]
    apart "$STRUT" tokenizer --out "$T/tok" "$T/a.txt"
    [ "$code" != 0 ]
    [[ $err == *--vocab* ]]
    apart "$STRUT" prepare --tokenizer "$TOK" --out "$T/data"
    [ "$code" = 2 ]
    apart "$STRUT" prepare --tokenizer "$TOK" --out "$T/data" --val-fraction 1.5 "$T/a.txt"
    [ "$code" = 2 ]
    [ ! -e "$T/data" ]
}

@test "errors name the file and the line, and leave nothing" {
    echo '{"body": 3}' >>"$T/b.jsonl"
    lines=$(wc -l <"$T/b.jsonl")
    apart "$STRUT" prepare -t "$TOK" -o "$T/data" --field body --strict "$T/b.jsonl"
    [ "$code" = 1 ]
    [[ $err == *"b.jsonl:$lines: "*"not a string"* ]]
    [ "$(ls -A "$T" | tr '\n' ' ')" = "a.txt b.jsonl err out " ]
}

@test "Ctrl-C, while waiting for text, leaves nothing, and the same command then works" {
    mkfifo "$T/pipe"
    env --default-signal=INT "$STRUT" prepare -t "$TOK" -o "$T/data" "$T/pipe" 2>"$T/err" &
    pid=$!
    exec 9>"$T/pipe"
    for i in 1 2 3 4; do cat "$T/a.txt" >&9; done
    for _ in $(seq 600); do
        ls -A "$T" | grep -q '^.data.strut-' && break
        sleep 0.1
    done
    sleep 0.5
    kill -INT "$pid"
    code=0
    wait "$pid" || code=$?
    exec 9>&-
    [ "$code" = 130 ]
    rm "$T/pipe"
    [ "$(ls -A "$T" | tr '\n' ' ')" = "a.txt b.jsonl err " ]
    "$STRUT" prepare -q -t "$TOK" -o "$T/data" "$T/a.txt"
    [ -s "$T/data/val.bin" ]
}

@test "after kill -9 the next run clears up" {
    mkfifo "$T/pipe"
    "$STRUT" prepare -t "$TOK" -o "$T/data" "$T/pipe" 2>"$T/err" &
    pid=$!
    exec 9>"$T/pipe"
    cat "$T/a.txt" >&9
    for _ in $(seq 600); do
        ls -A "$T" | grep -q '^.data.strut-' && break
        sleep 0.1
    done
    kill -9 "$pid"
    wait "$pid" || true
    exec 9>&-
    [ ! -e "$T/data" ]
    "$STRUT" prepare -q -t "$TOK" -o "$T/data" "$T/a.txt"
    [ "$(ls -A "$T" | grep -c strut)" = 0 ]
}

@test "recipes by name, with GPT-2's tokenizer where it is found" {
    R=test/fixtures/recipes
    apart "$STRUT" prepare owt -t "$TOK" -o "$T/owt" $R/openwebtext.tar.xz
    [ "$code" = 0 ]
    cmp "$T/owt/train.bin" $R/owt-train.bin
    cmp "$T/owt/val.bin" $R/owt-val.bin
    apart "$STRUT" prepare shakespeare_char -o "$T/char" $R/input.txt
    [ "$code" = 0 ]
    cmp "$T/char/meta.pkl" $R/meta.pkl
    apart env -u STRUT_DATA HOME="$T" HF_HOME="$T" "$STRUT" prepare shakespeare -o "$T/bpe" $R/input.txt
    [ "$code" = 1 ]
    [[ $err == *"GPT-2's tokenizer is not in"*"--tokenizer DIR"* ]]
    mkdir "$T/gpt2"
    cp "$TOK" "$T/gpt2/tokenizer.json"
    apart env STRUT_DATA="$T" "$STRUT" prepare shakespeare -o "$T/bpe" $R/input.txt
    [ "$code" = 1 ]
    [[ $err == *"400 ids, GPT-2's has 50257"* ]]
    hub="$T/hub/models--gpt2"
    commit=607a30d783dfa663caf39e06633721c8d4cfcd7e
    mkdir -p "$hub/refs" "$hub/snapshots/$commit"
    printf $commit >"$hub/refs/main"
    cp "$TOK" "$hub/snapshots/$commit/tokenizer.json"
    apart env -u STRUT_DATA HF_HOME="$T" "$STRUT" prepare shakespeare -o "$T/bpe" $R/input.txt
    [ "$code" = 1 ]
    [[ $err == *"snapshots/$commit: a tokenizer of 400 ids"* ]]
    [ ! -e "$T/bpe" ]
}

@test "a recipe says where its text is to be had, and what it decides itself" {
    apart "$STRUT" prepare owt -t "$TOK" -o "$T/data"
    [ "$code" = 1 ]
    [[ $err == *openwebtext.tar.xz* ]]
    apart "$STRUT" prepare shakespear -t "$TOK" -o "$T/data" "$T/a.txt"
    [ "$code" = 1 ]
    [[ $err == *'did you mean "shakespeare"'* ]]
    apart "$STRUT" prepare shakespeare --split tokens -t "$TOK" -o "$T/data" "$T/a.txt"
    [ "$code" = 1 ]
    [[ $err == *"--split: the recipe shakespeare says that itself"* ]]
    apart "$STRUT" prepare wikitext --form nothing -t "$TOK" -o "$T/data" "$T/a.txt"
    [ "$code" = 1 ]
    [[ $err == *"articles|krony|fly|fly-eos"* ]]
    apart "$STRUT" prepare --form fly -t "$TOK" -o "$T/data" "$T/a.txt"
    [ "$code" = 1 ]
    [[ $err == *"--form belongs to"* ]]
    apart "$STRUT" prepare --split-by doc -t "$TOK" -o "$T/data" "$T/a.txt"
    [ "$code" = 2 ]
    [[ $err == *"did you mean --split"* ]]
    [ ! -e "$T/data" ]
    # what has a recipe's name is still read, by its path
    here=$PWD strut=$(realpath "$STRUT")
    mkdir "$T/owt" && cp "$T/a.txt" "$T/owt"
    cd "$T"
    apart "$strut" prepare -t "$here/$TOK" -o "$T/data" ./owt
    cd "$here"
    [ "$code" = 0 ]
}
