#!/usr/bin/env python3
"""Makes test/fixtures/split: numpy's permutations, and a corpus that Hugging Face's datasets splits and
nanoGPT's recipe writes.

    python3 -m venv V && V/bin/pip install numpy datasets tokenizers==0.23.3
    V/bin/python tools/fixtures_split.py

corpus.jsonl becomes train.bin and val.bin as nanoGPT's data/openwebtext/prepare.py makes them, with the
tokenizer of test/fixtures/text/license-400.json, whose <|endoftext|> is 0.
"""
import json
import os
import random

import datasets
import numpy as np
from tokenizers import Tokenizer

OUT = "test/fixtures/split"


def fnv(order):
    """FNV-1a over the numbers as 32-bit words."""
    h = 0xCBF29CE484222325
    for v in order.tolist():
        h = (h ^ v) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def permutations():
    cases = []
    for seed in (0, 1, 2357, 2**31, 2**32 + 7, 2**53):
        for n in (1, 2, 3, 10, 1000, 65537):
            order = np.random.default_rng(seed).permutation(n)
            cases.append({"seed": seed, "n": n, "first": order[:12].tolist(), "fnv": fnv(order)})
    order = np.random.default_rng(2357).permutation(8013769)  # the documents of OpenWebText
    cases.append({"seed": 2357, "n": 8013769, "first": order[:12].tolist(), "fnv": fnv(order)})
    json.dump(cases, open(OUT + "/permutations.json", "w"), indent=0)


def corpus():
    r = random.Random(4)
    words = open("LICENSE").read().split(" ")
    texts = [" ".join(r.choice(words) for _ in range(r.choice([0, 1, 3, 8, 40]))) for _ in range(2100)]
    texts[7] = ""
    with open(OUT + "/corpus.jsonl", "w") as f:
        for text in texts:
            f.write(json.dumps({"text": text}) + "\n")
    t = Tokenizer.from_file("test/fixtures/text/license-400.json")
    t.encode_special_tokens = True
    parts = datasets.Dataset.from_dict({"text": texts}).train_test_split(
        test_size=0.0005, seed=2357, shuffle=True)
    for name, part in (("train", parts["train"]), ("val", parts["test"])):
        ids = []
        for text in part["text"]:
            ids += t.encode(text, add_special_tokens=False).ids + [0]
        np.array(ids, dtype=np.uint16).tofile(f"{OUT}/{name}.bin")


def main():
    print(np.__version__, datasets.__version__)
    os.makedirs(OUT, exist_ok=True)
    permutations()
    corpus()
    print({f: os.path.getsize(f"{OUT}/{f}") for f in sorted(os.listdir(OUT))})


main()
