#!/usr/bin/env bats
# A byte-order mark, and Windows' line endings, before and in every text that strut reads: as if they
# were not there.
# SPDX-License-Identifier: MIT
load ../helpers

setup() {
    STRUT=${STRUT:-build/strut}
    case $STRUT in /*) ;; *) STRUT=$PWD/$STRUT ;; esac
    cd "$BATS_TEST_TMPDIR" || return 1
    python3 - <<'PYTHON'
import json, os
kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
rest = [i for i in range(256) if i not in kept]
name = {i: chr(i) for i in kept} | {i: chr(256 + n) for n, i in enumerate(rest)}
vocab = {"<s>": 0, "</s>": 1} | {name[i]: i + 2 for i in range(256)} | {"th": 258, "the": 259}
os.mkdir("plain")
json.dump({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 261,
           "bos_token_id": 0, "eos_token_id": 1}, open("c.json", "w"), indent=1)
json.dump(vocab, open("plain/vocab.json", "w"), indent=1)
open("plain/merges.txt", "w").write("#version: 0.2\nt h\nth e\n")
json.dump({"<x>": 260}, open("plain/added_tokens.json", "w"))
json.dump({"bos_token": {"content": "<s>"}, "eos_token": "</s>"}, open("plain/special_tokens_map.json", "w"))
open("t.yaml", "w").write("model:\n  n_layer: 1\n  n_embd: 32\n  n_head: 2\ntrain:\n  steps: 3\n")
open("p.txt", "w").write("the others <x>")
open("d.jsonl", "w").write('{"text": "the"}\n{"text": "other"}\n')
PYTHON
    "$STRUT" init c.json m --quiet --seed 1
    cp m/* plain/
    mkdir mark
    for f in plain/* t.yaml p.txt d.jsonl; do
        case $f in
            plain/*) to=mark/${f#plain/} ;;
            *) to=mark-$f ;;
        esac
        case $f in
            *.safetensors) cp "$f" "$to" ;;
            *) { printf '\xef\xbb\xbf' && sed 's/$/\r/' "$f"; } >"$to" ;;
        esac
    done
    { printf '\xef\xbb\xbf' && cat p.txt; } >mark-p.txt
}

@test "a model, its tokenizer, a prompt, rows and a configuration begin with a mark" {
    "$STRUT" generate plain --prompt-file p.txt --tokens 8 --seed 1 >a 2>/dev/null
    apart "$STRUT" generate mark --prompt-file mark-p.txt --tokens 8 --seed 1
    [ "$code" = 0 ]
    cmp a "$BATS_TEST_TMPDIR/out"
    [[ $err == *"prompt: "* && $err != *warning* ]]
    "$STRUT" prepare --tokenizer plain --out a.d d.jsonl --quiet
    "$STRUT" prepare --tokenizer mark --out b.d mark-d.jsonl --quiet
    cmp a.d/train.bin b.d/train.bin
    "$STRUT" train t.yaml --cfg >a
    mv mark-t.yaml mark/t.yaml
    "$STRUT" train mark/t.yaml --cfg >b
    cmp a b
    apart "$STRUT" info mark/config.json --json
    [ "$(get layers)" = 1 ]
}

@test "a report reads a table of strut bench with a mark" {
    "$STRUT" bench map --in 16 --out 16 --rows 4 --reps 2 --map dense --csv t.csv >/dev/null 2>&1
    { printf '\xef\xbb\xbf' && sed 's/$/\r/' t.csv; } >m.csv
    apart "$STRUT" report m.csv -o m.html --json
    [ "$code" = 0 ]
    "$STRUT" report t.csv -o t.html --json >"$BATS_TEST_TMPDIR/out"
    [ -s m.html ]
}
