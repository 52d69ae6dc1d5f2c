#!/usr/bin/env python3
"""Makes test/fixtures/recipes: small stand-ins for OpenWebText and Shakespeare, and the files that
nanoGPT's recipes make of them.

    python3 -m venv V && V/bin/pip install numpy datasets tokenizers==0.23.3
    V/bin/python tools/fixtures_recipes.py

BPE is that of test/fixtures/text/license-400.json, whose <|endoftext|> is 0.
"""
import io
import lzma
import os
import pickle
import random
import re
import tarfile

import datasets
import numpy as np
from tokenizers import Tokenizer

OUT = "test/fixtures/recipes"
TOKENIZER = Tokenizer.from_file("test/fixtures/text/license-400.json")
TOKENIZER.encode_special_tokens = True


def ids(text):
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def save(name, values):
    np.array(values, dtype=np.uint16).tofile(f"{OUT}/{name}.bin")


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def packed(members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            add(tar, name, data)
    return lzma.compress(raw.getvalue())


def openwebtext():
    r = random.Random(6)
    words = open("LICENSE").read().split()
    ends = ["", "\n", "\n\n\n\n", " \t\n", "\u00a0\u3000\n", "\x1c", "\u2028"]
    texts = []
    for i in range(90):
        text = "".join(r.choice(words) + r.choice([" ", " ", "\n", "\n\n", "\n\n\n", "\n\n\n\n\n", "\r\n"])
                       for _ in range(r.randrange(60)))
        texts.append(r.choice(ends) + text + r.choice(ends))
    texts[5] = "\n\n\n"
    archives, seen = [], []
    for k in range(3):
        part = [(f"{k:02}-{i}.txt", texts[30 * k + i]) for i in range(30)]
        seen += [text for _, text in part]
        archives.append((f"openwebtext/urlsf_subset0{k}-data.xz",
                         packed([(name, text.encode()) for name, text in part])))
    with open(OUT + "/openwebtext.tar.xz", "wb") as f:
        f.write(packed(archives))
    cleaned = [re.sub("\n\n\n+", "\n\n", text).strip() for text in seen]
    parts = datasets.Dataset.from_dict({"text": cleaned}).train_test_split(
        test_size=0.0005, seed=2357, shuffle=True)
    for name, part in (("train", parts["train"]), ("val", parts["test"])):
        save("owt-" + name, [i for text in part["text"] for i in ids(text) + [0]])


def shakespeare():
    r = random.Random(7)
    words = open("LICENSE").read().split() + ["naïve", "日本", "😀", "'tis", "\n\n", "\r\n"]
    with open(OUT + "/input.txt", "w", newline="") as f:
        f.write(" ".join(r.choice(words) for _ in range(3000)))
    with open(OUT + "/input.txt", encoding="utf-8") as f:
        data = f.read()
    n = len(data)
    save("bpe-train", ids(data[:int(n * 0.9)]))
    save("bpe-val", ids(data[int(n * 0.9):]))
    chars = sorted(list(set(data)))
    stoi = {ch: i for i, ch in enumerate(chars)}
    itos = {i: ch for i, ch in enumerate(chars)}
    save("char-train", [stoi[c] for c in data[:int(n * 0.9)]])
    save("char-val", [stoi[c] for c in data[int(n * 0.9):]])
    meta = {"vocab_size": len(chars), "itos": itos, "stoi": stoi}
    with open(OUT + "/meta.pkl", "wb") as f:
        pickle.dump(meta, f, protocol=4)
    # pickles of other sizes: the memo beyond 255, batches of 1000, one and exactly 1000 characters
    for count in (1, 300, 1000, 1001, 2000):
        text = "".join(chr(0x4E00 + i) for i in range(count)) + ("" if count > 1 else "一" * 30)
        chars = sorted(set(text))
        meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)),
                "stoi": {ch: i for i, ch in enumerate(chars)}}
        with open(f"{OUT}/han-{count}.pkl", "wb") as f:
            pickle.dump(meta, f, protocol=4)


def main():
    os.makedirs(OUT, exist_ok=True)
    openwebtext()
    shakespeare()
    print({f: os.path.getsize(f"{OUT}/{f}") for f in sorted(os.listdir(OUT))})


main()
