#!/usr/bin/env bats
# T2T-ViT from the command line: made, described, decomposed, converted; refused by what reads text.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut} FILES=test/fixtures/t2t
    cat >"$DIR/tiny.json" <<'JSON'
{"model_type": "t2t_vit", "tokens_type": "transformer", "img_size": 32, "embed_dim": 64, "depth": 2,
 "num_heads": 1, "mlp_dim": 128, "token_dim": 8}
JSON
    "$STRUT" init "$DIR/tiny.json" "$DIR/m" --seed 3 --classes 10 --quiet
    printf 'a text of some words\n%.0s' $(seq 50) >"$DIR/text"
}

@test "init and info: sizes by name, as their authors write them, near misses" {
    apart "$STRUT" info T2t_vit_t_14 --json
    [ "$code" = 0 ]
    [ "$(get parameters)" = 21541070 ]
    [ "$(get image_size) $(get classes) $(get token_modules)" = "224 1000 transformer" ]
    apart "$STRUT" info t2t_vit_14_t --json
    [ "$(get parameters)" = 21541070 ]
    apart "$STRUT" info t2t-vit-14 --json
    [ "$(get parameters) $(get token_modules)" = "21545550 performer" ]
    apart "$STRUT" init t2t-vit-t-15 "$DIR/x"
    [ "$code" = 1 ]
    [[ $err == *"did you mean t2t-vit-t-14?"* ]]
    apart "$STRUT" init gpt2 "$DIR/x" --classes 3
    [ "$code" = 1 ]
    [[ $err == *"is no T2T-ViT"* ]]
    apart "$STRUT" init "$DIR/tiny.json" "$DIR/x" --image-size 40
    [ "$code" = 1 ]
    [[ $err == *"a multiple of 16"* ]]
    apart "$STRUT" info "$DIR/m"
    [ "$code" = 0 ]
    [[ $out == *"32 pixels, 5 tokens, 10 classes"* ]]
    [[ $out == *"blocks.*.mlp.fc1 (2)"* ]]
    not test -e "$DIR/m/generation_config.json"
    not test -e "$DIR/x"
}

@test "decompose: any matrix, and to dense again" {
    apart "$STRUT" decompose "$DIR/m" "$DIR/small" --map 'blocks.*.mlp.*=monarch:blocks=4' \
        --map '*.attn.qkv=lowrank:rank=4' --map 'head=kron:m1=32,n1=5' --json
    [ "$code" = 0 ]
    [ "$(python3 -c 'import json,sys; print(len(json.load(open(sys.argv[1]))["matrices"]))' \
        "$BATS_TEST_TMPDIR/out")" = 9 ]
    "$STRUT" convert "$DIR/small" "$DIR/small.pth" --quiet
    "$STRUT" convert "$DIR/small.pth" "$DIR/again/" --quiet
    cmp "$DIR/small/model.safetensors" "$DIR/again/model.safetensors"
    cmp "$DIR/small/config.json" "$DIR/again/config.json"
    apart "$STRUT" convert "$DIR/small" "$DIR/dense" --to dense --json
    [ "$(python3 -c 'import json,sys; print(len(json.load(open(sys.argv[1]))["densified"]))' \
        "$BATS_TEST_TMPDIR/out")" = 9 ]
    cmp "$DIR/m/config.json" "$DIR/dense/config.json"
}

@test "convert and decompose keep what classes are called" {
    cp -r "$DIR/m" "$DIR/named"
    sed -i 's/{/{"id2label": {"0": "cow", "9": "bee"}, "label2id": {"cow": 0},/' "$DIR/named/config.json"
    "$STRUT" decompose "$DIR/named" "$DIR/named-small" --map 'blocks.*.mlp.*=lowrank:rank=4' --quiet
    "$STRUT" convert "$DIR/named-small" "$DIR/named-dense" --to dense --quiet
    for f in named-small named-dense; do
        python3 -c '
import json, sys
c = json.load(open(sys.argv[1]))
assert c["id2label"] == {"0": "cow", "9": "bee"} and c["label2id"] == {"cow": 0}, c' \
            "$DIR/$f/config.json"
    done
}

@test "convert: the name of OUT decides, other sizes, what a file leaves open" {
    apart "$STRUT" convert "$FILES/ema-legacy.pth.tar" "$DIR/a/" --heads 2 --json
    [ "$code" = 0 ]
    [ "$(get from) $(get to) $(get parameters)" = "torch-legacy strut 7940" ]
    [[ $(get notes) == *"from T2T-ViT's sinusoid"* ]]
    apart "$STRUT" convert "$DIR/a" "$DIR/b/" --image-size 48 --json
    [[ $(get notes) == *"interpolated from 32 to 48 pixels"* ]]
    apart "$STRUT" info "$DIR/b" --json
    [ "$(get image_size) $(get tokens)" = "48 10" ]
    "$STRUT" convert "$DIR/m" "$DIR/half/" --dtype bf16 --quiet
    apart "$STRUT" convert "$DIR/half" "$DIR/whole/" --dtype f32 --json
    [ "$(get notes)" = "[]" ]
    apart "$STRUT" convert "$FILES/timm-both.pth.tar" "$DIR/c/" --heads 2
    [[ $err == *"--dict state_dict takes the other"* ]]
    apart "$STRUT" convert "$FILES/ema.pth.tar" "$DIR/d/"
    [ "$code" = 1 ]
    [[ $err == *"give --heads"* ]]
    apart "$STRUT" convert "$DIR/a" "$DIR/noend"
    [ "$code" = 1 ]
    [[ $err == *"the name of OUT says no format"* ]]
    tar cf "$DIR/real.pth.tar" "$DIR/text" 2>/dev/null
    apart "$STRUT" convert "$DIR/real.pth.tar" "$DIR/e/"
    [[ $err == *"what torch.save writes"* ]]
    not test -e "$DIR/d"
    not test -e "$DIR/e"
}

@test "what reads text says that a T2T-ViT does not" {
    refused() {
        apart "$STRUT" "$@"
        [ "$code" = 1 ]
        [[ $err == *"is a T2T-ViT, which classifies images"* ]]
    }
    refused perplexity "$DIR/m" "$DIR/text"
    refused generate "$DIR/m" --ids 1,2
    refused decompose "$DIR/m" "$DIR/z" --map '*=lowrank:rank=2' --permute hidden
    refused decompose "$DIR/m" "$DIR/z" --map '*=lowrank:rank=2' --weights "$DIR/text"
    refused decompose "$DIR/m" "$DIR/z" --map '*=lowrank:rank=2' --fold-norms
    "$STRUT" tokenizer "$DIR/text" --out "$DIR/words" --vocab 280 --quiet
    "$STRUT" prepare "$DIR/text" --tokenizer "$DIR/words" --out "$DIR/data" --val-fraction 0.2 --quiet
    cat >"$DIR/run.yaml" <<YAML
data: {dir: $DIR/data}
out: $DIR/run
model: {n_layer: 1, n_head: 1, n_embd: 8, n_positions: 8}
train: {steps: 1, context: 8, micro_batch: 1, tokens_per_step: 8}
YAML
    refused train "$DIR/run.yaml" "init=$DIR/m"
    refused train "$DIR/run.yaml" "distill.teacher=$DIR/m" distill.kl=1
    refused init "$DIR/tiny.json" "$DIR/z" --tokenizer "$DIR/words"
    apart "$STRUT" convert "$DIR/m" "$DIR/z.gguf"
    [[ $err == *"gguf holds language models"* ]]
    not test -e "$DIR/z"
    not test -e "$DIR/z.gguf"
}
