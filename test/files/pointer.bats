#!/usr/bin/env bats
# A Git LFS pointer in the place of a file is named for what it is, whatever reads it.
# SPDX-License-Identifier: MIT
load ../helpers

setup() {
    STRUT=${STRUT:-build/strut}
    case $STRUT in /*) ;; *) STRUT=$PWD/$STRUT ;; esac
    cd "$BATS_TEST_TMPDIR" || return 1
    echo '{"model_type": "gpt2", "vocab_size": 300, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}' >c.json
    "$STRUT" init c.json m --quiet
    "$STRUT" init t2t-vit-7 vit --quiet
    echo 'the cat sat on the mat' >text
    "$STRUT" tokenizer text --out tok --vocab 260 --quiet
    mkdir t v p d h
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4aa8d02cd17c719165fc8a7887fddd64\nsize 1819752\n' |
        tee t/tokenizer.json v/vocab.json v/merges.txt p/meta.pkl d/train.bin d/val.bin h/model.safetensors \
            a.jpg a.parquet a.jsonl.zst a.jsonl a.csv a.npy c.yaml x.pt x.gguf words >/dev/null
    cp m/config.json h/
}

@test "every reader names a Git LFS pointer" {
    while read -ra words; do
        apart "$STRUT" "${words[@]}"
        echo "${words[*]}: $err"
        [ "$code" != 0 ] && [[ $err == *"Git LFS pointer"* ]]
    done <<'COMMANDS'
prepare --tokenizer t --out o text
prepare --tokenizer v --out o text
prepare --tokenizer p --out o text
prepare --tokenizer tok --out o a.parquet
prepare --tokenizer tok --out o a.jsonl.zst
prepare --tokenizer tok --out o a.jsonl
prepare --tokenizer tok --out o a.csv
perplexity m d/val.bin
perplexity m a.npy
train init=m data=d out=r
train c.yaml
classify vit a.jpg
info h
info x.gguf
info words
convert x.pt y --to strut
COMMANDS
}
