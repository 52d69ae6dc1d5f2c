#!/usr/bin/env python3
"""Makes test/fixtures/text/runs.txt: the merges that Hugging Face's BpeTrainer (PyPI's tokenizers 0.23.3)
learns from three lines of 90,000 letters A, C, G, T each, pairs that are seen twice at least, up to
300 tokens. Letter i is "ACGT"[x >> 30 & 3] of x = x * 1664525 + 1013904223 modulo 2^32, from x = 1.

    .../python tools/fixtures_runs.py
"""
# SPDX-License-Identifier: MIT
import pathlib
import tempfile

import tokenizers

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "text" / "runs.txt"


def text():
    x, lines = 1, []
    for _ in range(3):
        line = []
        for _ in range(90000):
            x = (x * 1664525 + 1013904223) % 2**32
            line.append("ACGT"[x >> 30 & 3])
        lines.append("".join(line) + "\n")
    return lines


t = tokenizers.Tokenizer(tokenizers.models.BPE())
t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
t.train_from_iterator(text(), tokenizers.trainers.BpeTrainer(
    vocab_size=300, min_frequency=2, initial_alphabet=alphabet, special_tokens=[], show_progress=False))
with tempfile.TemporaryDirectory() as d:
    t.model.save(d)
    OUT.write_text((pathlib.Path(d) / "merges.txt").read_text("utf-8"), "utf-8")
