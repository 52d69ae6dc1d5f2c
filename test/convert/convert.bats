#!/usr/bin/env bats
# strut convert: formats by name, what is printed, every command on every readable form.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    cat >"$DIR/tiny.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 300, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 3,
 "initializer_range": 0.3}
JSON
    printf 'the cat sat on the mat; the dog did not. %.0s' $(seq 20) >"$DIR/text"
    "$STRUT" tokenizer "$DIR/text" --out "$DIR/words" --vocab 300 --quiet
    "$STRUT" init "$DIR/tiny.json" "$DIR/m" --seed 3 --tokenizer "$DIR/words" --quiet
    "$STRUT" init "$DIR/tiny.json" "$DIR/k" --seed 3 --quiet \
        --map 'h.*.mlp.c_fc=kron:terms=2,m1=12,n1=32,scalars=1' \
        --map 'h.*.mlp.c_proj=kron:terms=2,m1=32,n1=12,scalars=1'
}
# get KEY.KEY...: a field of the JSON object that the last command printed.
get() {
    python3 - "$BATS_TEST_TMPDIR/out" "$1" <<'PY'
import json, sys
v = json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."):
    v = v[k]
print(v if isinstance(v, str) else json.dumps(v))
PY
}
greedy() {
    apart "$STRUT" generate "$@" --ids 1,2,3,4 --tokens 12 --temperature 0 --json --quiet
    [ "$code" = 0 ]
    get ids
}

@test "every format: the same greedy text, the same facts" {
    want=$(greedy "$DIR/m")
    for to in strut hf hf-code pt safetensors nanogpt llmc; do
        apart "$STRUT" convert "$DIR/m" "$DIR/as-$to" --to $to --quiet
        [ "$code" = 0 ]
        [[ $out == "$DIR/as-$to: hf to $to, "*" parameters in float32"* ]]

        [ "$(greedy "$DIR/as-$to")" = "$want" ]
        apart "$STRUT" info "$DIR/as-$to" --json --quiet
        [ "$(get parameters)" = 22464 ]
    done
    want=$(greedy "$DIR/k")
    for to in strut hf-code pt safetensors krony hf; do
        apart "$STRUT" convert "$DIR/k" "$DIR/k-$to" --to $to --quiet --json
        [ "$code" = 0 ]
        if [ $to = hf ]; then
            [ "$(get densified)" = '["h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.1.mlp.c_fc", "h.1.mlp.c_proj"]' ]
        else
            [ "$(get densified)" = '[]' ]
        fi
        heads=; [ $to != krony ] || heads="--heads 3"
        [ "$(greedy "$DIR/k-$to" $heads)" = "$want" ]
    done
}

@test "the tokenizer goes with the model, or one that is named" {
    apart "$STRUT" convert "$DIR/m" "$DIR/hf" --to hf --json
    [ "$(get tokenizer)" = true ]
    cmp "$DIR/words/tokenizer.json" "$DIR/hf/tokenizer.json"
    apart "$STRUT" generate "$DIR/hf" --prompt 'the cat' --tokens 3 --quiet
    [ "$code" = 0 ]
    apart "$STRUT" convert "$DIR/m" "$DIR/x.pt" --to nanogpt --json
    [ "$(get tokenizer)" = false ]
    [[ $err == *"nanogpt has no place for the tokenizer"* ]]
    [[ $(get notes) == *"no place for the tokenizer"* ]]
    apart "$STRUT" generate "$DIR/x.pt" --prompt 'the cat' --tokens 3 --quiet
    [ "$code" = 1 ] && [[ $err == *"--tokenizer names one"* ]]
    apart "$STRUT" generate "$DIR/x.pt" --prompt 'the cat' --tokens 3 --quiet --tokenizer "$DIR/words"
    [ "$code" = 0 ]
    apart "$STRUT" convert "$DIR/x.pt" "$DIR/back" --to hf --tokenizer "$DIR/words" --json
    [ "$(get tokenizer)" = true ]
    apart "$STRUT" convert "$DIR/k" "$DIR/k.gguf" --to gguf
    [[ $err == *"--tokenizer adds one"* ]]
    apart "$STRUT" convert "$DIR/k" "$DIR/k.gguf" --to gguf --force --tokenizer "$DIR/words" --quiet
    [ "$code" = 0 ]
    [ -z "$err" ]
    [ "$(head -c 4 "$DIR/k.gguf")" = GGUF ]
    [[ $(tr -d '\0' <"$DIR/k.gguf" | grep -ao 'general.name.*general.file') == *k?*general.file ]]
}

@test "there and back: the same bytes" {
    for to in pt safetensors nanogpt llmc hf-code; do
        "$STRUT" convert "$DIR/m" "$DIR/there-$to" --to $to --quiet
        "$STRUT" convert "$DIR/there-$to" "$DIR/again-$to" --to hf --quiet
        cmp "$DIR/m/model.safetensors" "$DIR/again-$to/model.safetensors"
    done
    "$STRUT" convert "$DIR/k" "$DIR/there.pt" --to krony --quiet
    "$STRUT" convert "$DIR/there.pt" "$DIR/again" --to strut --heads 3 --quiet
    cmp "$DIR/k/model.safetensors" "$DIR/again/model.safetensors"
}

@test "every command takes a file" {
    "$STRUT" convert "$DIR/m" "$DIR/every.pt" --to nanogpt --quiet
    python3 -c "
import random, struct, sys
random.seed(4)
open(sys.argv[1], 'wb').write(struct.pack('<200H', *[random.randrange(300) for _ in range(200)]))
" "$DIR/tokens.bin"
    apart "$STRUT" perplexity "$DIR/m" "$DIR/tokens.bin" --json
    want=$(get nll)
    apart "$STRUT" perplexity "$DIR/every.pt" "$DIR/tokens.bin" --json
    [ "$code" = 0 ]
    [ "$(get nll)" = "$want" ]
    apart "$STRUT" decompose "$DIR/every.pt" "$DIR/small" --map 'h.*.mlp.*=lowrank:rank=4' --json
    [ "$code" = 0 ]
    apart "$STRUT" bench model "$DIR/every.pt" --batch 1 --context 8 --budget 0.2 --json
    [ "$code" = 0 ]
    mkdir -p "$DIR/data"
    cp "$DIR/tokens.bin" "$DIR/data/train.bin"
    cp "$DIR/tokens.bin" "$DIR/data/val.bin"
    apart "$STRUT" train init="$DIR/every.pt" data="$DIR/data" out="$DIR/run" train.steps=2 \
        train.context=16 train.micro_batch=1 train.tokens_per_step=16 --json
    [ "$code" = 0 ]
    apart "$STRUT" convert "$DIR/run/ckpt/last" "$DIR/trained" --to hf --json
    [ "$code" = 0 ]
    apart "$STRUT" info "$DIR/run" --json
    [ "$(get kind)" = run ]
    apart "$STRUT" convert "$DIR/run" "$DIR/x" --to hf
    [ "$code" = 1 ]
    [[ $err == *"$DIR/run/ckpt/best"* ]]
}

@test "info tells what a file of weights is" {
    apart "$STRUT" info test/fixtures/krony/ckpt.pt --json
    [ "$(get kind)" = model ]
    [ "$(get form)" = nanogpt ]
    [ "$(get vocab)" = 104 ]
    [ "$(get heads)" = 3 ]
    apart "$STRUT" info test/fixtures/krony/krony.pt --json
    [ "$(get kind)" = weights ]
    [[ $(get no_model) == *"give --heads"* ]]
    apart "$STRUT" info test/fixtures/krony/krony.pt
    [[ $out == *"transformer.h.0.mlp.c_fc_0"*"[2, 12, 32]"* ]]
}

@test "refused: formats, sizes, what a format cannot hold; nothing is written" {
    apart "$STRUT" convert "$DIR/m" "$DIR/no"
    [ "$code" = 1 ]
    [[ $err == *"--to FORMAT"* ]]
    apart "$STRUT" convert "$DIR/m" "$DIR/no" --to hff
    [ "$code" = 1 ]
    [[ $err == *"did you mean hf?"* ]]
    apart "$STRUT" convert "$DIR/m" "$DIR/no" --to krony
    [ "$code" = 1 ] && [[ $err == *"h.0.attn.c_attn is dense"* || $err == *"h.0.mlp.c_fc is dense"* ]]
    apart "$STRUT" convert "$DIR/m" "$DIR/no" --to hf --shard-size 5XB
    [ "$code" = 1 ]
    [[ $err == *"is no size"* ]]
    apart "$STRUT" convert "$DIR/m" "$DIR/no" --to hf --dtype int8
    [ "$code" = 2 ]
    apart "$STRUT" convert "$DIR/m" "$DIR/no" --to hf --heads 2
    [ "$code" = 1 ]
    [[ $err == *"has 3 heads"* ]]
    [ ! -e "$DIR/no" ]
    apart "$STRUT" convert "$DIR/m" "$DIR/k" --to hf
    [ "$code" = 1 ]
    [[ $err == *"--force"* ]]
}

@test "what a matrix is weighed by is counted in whole sequences; expanding is no decomposition" {
    apart "$STRUT" decompose "$DIR/m" "$DIR/weighed" --map 'h.0.mlp.c_fc=lowrank:rank=3' \
        --weights "$DIR/text" --calibrate-tokens 50 --json
    [ "$code" = 0 ]
    [ "$(get calibration.tokens)" = 32 ]
    apart "$STRUT" convert "$DIR/k" "$DIR/expanded" --to hf
    [ "$code" = 0 ]
    [[ $err == *"expand 100% 4 of 4 matrices"* ]]
    [[ $err != *"energy"* ]]
}

@test "8 and 4 bits: kept in folders, files and GGUF, read by every command" {
    sed 's/"n_embd": 24/"n_embd": 64/; s/"n_head": 3/"n_head": 2/' "$DIR/tiny.json" >"$DIR/wide.json"
    "$STRUT" init "$DIR/wide.json" "$DIR/w" --seed 3 --tokenizer "$DIR/words" --quiet \
        --map 'h.1.mlp.c_proj=kron:m1=16,n1=8'
    apart "$STRUT" convert "$DIR/w" "$DIR/w8/" --quantize q8 --quantize q4:wte --quiet --json
    [ "$code" = 0 ]
    [ "$(get notes)" = '["h.1.mlp.c_proj stays float32: no part of it has rows of whole groups of 32"]' ]

    apart "$STRUT" info "$DIR/w8" --json --quiet
    [ "$(get stored.Q4_0)" = 10800 ] # 300 rows of two blocks of 18 bytes
    apart "$STRUT" info "$DIR/w8" --quiet
    [[ $out == *"weights"*" of Q8_0"*" of F32"* || $out == *"weights"*" of F32"*" of Q8_0"* ]]

    want=$(greedy "$DIR/w8")
    apart "$STRUT" convert "$DIR/w8" "$DIR/w8.safetensors" --quiet
    [ "$(greedy "$DIR/w8.safetensors")" = "$want" ]
    apart "$STRUT" convert "$DIR/w8.safetensors" "$DIR/w8.again/" --quiet
    cmp "$DIR/w8/model.safetensors" "$DIR/w8.again/model.safetensors"
    apart "$STRUT" perplexity "$DIR/w8" "$DIR/text" --json --quiet
    [ "$code" = 0 ]

    apart "$STRUT" convert "$DIR/w8" "$DIR/w8.hf/" --to hf --quiet --json
    [[ $(get notes) == *"hf holds floats: what was in blocks of 8 or 4 bits is written as float32"* ]]
    apart "$STRUT" convert "$DIR/w8" "$DIR/w.f/" --quantize none --quiet
    apart "$STRUT" info "$DIR/w.f" --json --quiet
    [ "$(get dtype)" = F32 ]

    apart "$STRUT" convert "$DIR/w8" "$DIR/w8.gguf" --quiet
    apart "$STRUT" info "$DIR/w8.gguf" --json --quiet
    [ "$(get stored.Q4_0)" = 10800 ]
    apart "$STRUT" convert "$DIR/w8" "$DIR/w8.pt" --to pt --quantize q4 --quiet
    [ "$code" = 1 ]
    [[ $err == *"--quantize: pt holds floats; strut, safetensors and gguf hold blocks"* ]]

    apart "$STRUT" convert "$DIR/w" "$DIR/no/" --quantize q5 --quiet
    [ "$code" = 1 ]
    [[ $err == *"quantize q5: expected q8, q4, q4_1 or none"* ]]
}
