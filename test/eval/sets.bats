#!/usr/bin/env bats
# strut perplexity on named sets: where they are found, in which flavour, what is said when they are
# not there. The sets here are small texts under the names of the real ones.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    export MODEL=test/fixtures/eval/model
    export HF_HOME="$DIR/home"
    unset STRUT_DATA HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_TOKEN \
        HF_TOKEN_PATH HUGGING_FACE_HUB_TOKEN http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY
    python3 test/hub/hub_server.py "$DIR/port" "$DIR/log" 3>&- &
    echo $! >"$DIR/pid"
    for _ in $(seq 1200); do [ -s "$DIR/port" ] && break; sleep 0.05; done
    export HF_ENDPOINT="http://127.0.0.1:$(cat "$DIR/port")"
    mkdir -p "$DIR/v1" "$DIR/raw/wikitext-2-raw"
    for name in wikitext-103-v1.test.txt wikitext-2-v1.test.txt; do
        sed 's/Piet/<unk>/' test/fixtures/eval/wiki.txt >"$DIR/v1/$name"
    done
    cp test/fixtures/eval/lambada.txt "$DIR/v1/lambada_test_plain_text.txt"
    cp test/fixtures/eval/wiki.txt "$DIR/raw/wikitext-2-raw/wiki.test.raw"
    cp test/fixtures/eval/lambada.jsonl "$DIR/raw/lambada_test.jsonl"
}
teardown_file() {
    kill "$(cat "$DIR/pid")"
}
setup() {
    : >"$DIR/log"
    rm -rf "$HF_HOME"
}
ppl() { "$STRUT" perplexity "$MODEL" "$@"; }

@test "sets: --data, \$STRUT_DATA and ./data, in this order" {
    apart ppl wiki2 --protocol krony --data "$DIR/v1" --json
    [ "$code" = 0 ]
    [ "$(get flavour)" = v1 ]
    [ "$(get path)" = "$DIR/v1/wikitext-2-v1.test.txt" ]
    STRUT_DATA="$DIR/raw" apart ppl wiki2 --protocol hf --data "$DIR/v1" --json
    [ "$code" = 0 ]
    [ "$(get path)" = "$DIR/raw/wikitext-2-raw/wiki.test.raw" ]
    mkdir "$DIR/first"
    cp "$DIR/v1/wikitext-2-v1.test.txt" "$DIR/first"
    STRUT_DATA="$DIR/v1" apart ppl wiki2 --protocol krony --data "$DIR/first" --json
    [ "$(get path)" = "$DIR/first/wikitext-2-v1.test.txt" ]
    strut=$(realpath "$STRUT")
    model=$(realpath "$MODEL")
    cd "$DIR"
    ln -sfn raw data
    apart "$strut" perplexity "$model" wiki2-raw --json
    rm data
    [ "$code" = 0 ]
    [ "$(get path)" = data/wikitext-2-raw/wiki.test.raw ]
    [ "$(get protocol)" = hf ]
}

@test "sets: a protocol's flavour is not replaced by another one in silence" {
    apart ppl wiki2 --protocol krony --data "$DIR/raw"
    [ "$code" = 1 ]
    [ -z "$out" ]
    [[ $err == *"needs the v1 flavour"*"only the raw one is there"*"--flavour raw"* ]]
    apart ppl wiki2 --protocol krony --data "$DIR/raw" --flavour raw --json
    [ "$code" = 0 ]
    [ "$(get flavour)" = raw ]
    apart ppl wiki2 --protocol lm-eval --data "$DIR/v1"
    [ "$code" = 1 ]
    [[ $err == *"needs the raw flavour"* ]]
}

@test "sets: all is wiki103, wiki2 and lambada; the running text or the last words" {
    apart ppl all --protocol krony --data "$DIR/v1" --json
    [ "$code" = 0 ]
    [ "$(get results.0.text)" = wiki103 ]
    [ "$(get results.1.text)" = wiki2 ]
    [ "$(get results.2.text)" = lambada ]
    [ "$(get results.2.protocol)" = krony ]
    [ "$(get gelu)" = tanh ]
    apart ppl all --protocol krony --data "$DIR/v1"
    [ "$(grep -c '^perplexity ' <<<"$out")" = 3 ]
    apart ppl lambada_openai --data "$DIR/raw" --json
    [ "$code" = 0 ]
    [ "$(get protocol)" = lm-eval ]
    [ "$(get items)" = 13 ]
    apart ppl lambada_openai --data "$DIR/raw" --limit 2
    [[ $out == *"accuracy"*"items       2,"* ]]
}

@test "sets: names that are none get a suggestion and a failure" {
    for name in wiki1 wiki13 lambda al; do
        apart ppl $name --data "$DIR/v1"
        [ "$code" = 1 ]
        [ -z "$out" ]
        [[ $err == *"no set of that name"*"did you mean"*"sets: wiki103"* ]]
    done
    apart ppl "$DIR/none.txt"
    [ "$code" = 1 ]
    [[ $err == *"none.txt"* ]]
    apart ppl wiki2 --protocol openia --data "$DIR/v1"
    [ "$code" = 1 ]
    [[ $err == *"did you mean openai?"* ]]
}

@test "sets: what is nowhere is fetched when asked for, never else, and found offline later" {
    apart ppl wiki2-raw
    [ "$code" = 1 ]
    [[ $err == *"--data DIR"*"--download (from Salesforce/wikitext)"* ]]
    [ ! -s "$DIR/log" ]
    HF_HUB_OFFLINE=1 apart ppl wiki2-raw --download
    [ "$code" = 1 ]
    [[ $err == *"HF_HUB_OFFLINE"* ]]
    [ ! -s "$DIR/log" ]
    apart ppl wiki2-raw --download --protocol lm-eval --json
    [ "$code" = 0 ]
    grep -q "^hub GET /datasets/Salesforce/wikitext/resolve/" "$DIR/log"
    fetched=$(get nll)
    : >"$DIR/log"
    HF_HUB_OFFLINE=1 apart ppl wiki2-raw --protocol lm-eval --json
    [ "$code" = 0 ]
    [ "$(get nll)" = "$fetched" ]
    [[ $(get path) == "$HF_HOME"/hub/datasets--Salesforce--wikitext/snapshots/*/wikitext-2-raw-v1/* ]]
    [ ! -s "$DIR/log" ]
    apart ppl test/fixtures/eval/wiki.txt --form wikitext --protocol lm-eval --json
    [ "$(get nll)" = "$fetched" ]
}

@test "models: a name in the Hub's cache is a model, as transformers takes it" {
    d=$HF_HOME/hub/models--org--tiny
    commit=0123456789abcdef0123456789abcdef01234567
    mkdir -p "$d/refs" "$d/snapshots/$commit"
    printf %s $commit >"$d/refs/main"
    cp "$MODEL"/* "$d/snapshots/$commit"
    apart "$STRUT" perplexity org/tiny wiki2-raw --data "$DIR/raw" --json
    [ "$code" = 0 ]
    [ "$(get model)" = org/tiny ]
    apart "$STRUT" info org/tinny
    [ "$code" = 1 ]
    apart "$STRUT" perplexity org/tinny wiki2-raw --data "$DIR/raw"
    [ "$code" = 1 ]
    [[ $err == *"strut fetch"* ]]
    [ ! -s "$DIR/log" ]
}

@test "perplexity: options that a protocol does not have are refused" {
    apart ppl wiki2 --data "$DIR/raw" --protocol lm-eval --agg window
    [ "$code" = 1 ]
    [[ $err == *"averages by words"* ]]
    apart ppl wiki2 --data "$DIR/raw" --protocol hf --eos
    [ "$code" = 1 ]
    [[ $err == *"fly does"* ]]
    apart ppl wiki2 --data "$DIR/raw" --gelu relu
    [ "$code" = 2 ]
    python3 -c "import sys; sys.stdout.buffer.write(bytes(200))" >"$DIR/zeros.bin"
    for protocol in openai lm-eval; do
        apart ppl "$DIR/zeros.bin" --protocol $protocol
        [ "$code" = 1 ]
        [[ $err == *"needs the text"* ]]
    done
}
