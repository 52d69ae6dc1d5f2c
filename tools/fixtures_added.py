#!/usr/bin/env python3
"""Makes test/fixtures/added: what Hugging Face's tokenizers makes of texts with added tokens (PyPI's
tokenizers 0.23.3 and transformers 5.24.0, for the companions of older tokenizers).

    .../python tools/fixtures_added.py

one/ has a tokenizer.json with added tokens of every kind; pair/ has vocab.json and merges.txt with
added_tokens.json and special_tokens_map.json. DIR/want.json: [{"text", "special": ids with special
tokens found, "plain": ids with special ones as ordinary text}].
"""
# SPDX-License-Identifier: MIT
import json
import pathlib

import tokenizers
import transformers

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "added"

MERGES = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("h", "e"), ("l", "l")]
TEXTS = [
    "", "the <|endoftext|> the", "<|endoftext|>Hello", "Hello<|endoftext|><|endoftext|>", "a__sep__b",
    "a __sep__ b", "__sep____sep__", "the [L] the", "the  [L]  the", "the[R]  the", "the [B]\n\n the",
    "word [W] word", "x[W] [W] x[W]", "word[W]word", "[W]", "x[W]", "\u00e9[W]!", "_[W]", "![W]?", "the__sep__[R] __sep__ the",
    "<<a>> <<a", "<<a>><<a>", "<|norm|> the <|norm|>", "\u00a0[L]\u00a0[R]\u2003the", "two words here",
    "two words two  words", "<|endoftext|", "<|endoftext|>>", "[B][B] [B]", "\ud7ff[L] \u3000[R]\u3000",
    "<|pad|><|startoftext|> the <|pad|>",
]


def byte_names():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)]


def vocabulary():
    tokens = [*byte_names(), *("".join(pair) for pair in MERGES), "<|endoftext|>"]
    return {t: i for i, t in enumerate(tokens)}


def write(path, special, plain):
    rows = [{"text": t, "special": special(t), "plain": plain(t)} for t in TEXTS]
    (path / "want.json").write_text(json.dumps(rows, indent=0) + "\n", "utf-8")


def one():
    path = OUT / "one"
    path.mkdir(parents=True, exist_ok=True)
    t = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary(), MERGES))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = tokenizers.decoders.ByteLevel()
    added = tokenizers.AddedToken
    t.add_special_tokens([added("<|endoftext|>", normalized=False), added("<|norm|>", normalized=True)])
    t.add_tokens([added("__sep__"), added("[L]", lstrip=True), added("[R]", rstrip=True),
                  added("[B]", lstrip=True, rstrip=True), added("[W]", single_word=True),
                  added("<<a>>", normalized=False), added("<<a", normalized=False), added("<<a>"),
                  added("two words")])
    t.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<|endoftext|>", "bos_token": "<|norm|>", "pad_token": {"content": "__sep__"}}), "utf-8")
    quiet = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    quiet.encode_special_tokens = True
    write(path, lambda s: t.encode(s).ids, lambda s: quiet.encode(s).ids)


def pair():
    path = OUT / "pair"
    path.mkdir(parents=True, exist_ok=True)
    (path / "vocab.json").write_text(json.dumps(vocabulary()), "utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES), "utf-8")
    n = len(vocabulary())
    (path / "added_tokens.json").write_text(
        json.dumps({"<|startoftext|>": n, "<|pad|>": n + 1, "__sep__": n + 2}), "utf-8")
    (path / "special_tokens_map.json").write_text(json.dumps(
        {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>",
         "unk_token": "<|endoftext|>"}), "utf-8")
    t = transformers.GPT2TokenizerFast.from_pretrained(str(path))
    backend = t.backend_tokenizer
    special = [backend.encode(s).ids for s in TEXTS]
    backend.encode_special_tokens = True
    plain = [backend.encode(s).ids for s in TEXTS]
    roles = {"bos": t.bos_token_id, "eos": t.eos_token_id, "pad": t.pad_token_id}
    print(roles)
    rows = [{"text": s, "special": a, "plain": b} for s, a, b in zip(TEXTS, special, plain)]
    (path / "want.json").write_text(json.dumps(rows, indent=0) + "\n", "utf-8")


one()
pair()
