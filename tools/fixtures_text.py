#!/usr/bin/env python3
"""Makes test/fixtures/text: what Hugging Face's tokenizers does with text that is easy to get wrong.

    python3 -m venv V && V/bin/pip install tokenizers==0.23.3 regex
    V/bin/python tools/fixtures_text.py DATA        (DATA: folder with encoder.json and vocab.bpe)

Bytes that are not UTF-8 cannot be given to that package; for them the split is the pattern applied to
Python's surrogateescape form (each such byte is a character that is no letter, number or space), and
the merges are those of the package, word by word on bytes.
"""
import glob
import json
import os
import random
import sys

import regex
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PATTERN = regex.compile(
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")
TEXTS = [
    "", "a", " ", "  ", "   a", "\t", " \t a", "a \n\n b", "\n\n\n", "a\r\nb\r\n", "\x00", "a\x00\x00b",
    "it's I'm we're they've you'll he'd don't", "IT'S 'S 's' ''s '", "'", "''", " 's", "x'llama 'rest",
    "it’s “quoted” — dash… ©®", "tab\tseparated\t\tvalues", "trailing space ", "two  spaces   three",
    "ideographic\u3000space\u3000\u3000x", "nbsp\u00a0a\u00a0\u00a0b", "nel\u0085x ls\u2028ps\u2029y",
    *(f"a{c}b{c}{c}c{c}{c}{c}d {c}e{c} f" for c in "\t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005"
      "\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\x1c\x1f\u180e\u200b\u2060\ufeff"),
    "\u180evowel sep \u200bzero \ufeffbom \u2060wj", "\u1680ogham \u202f\u205f\u2003", "\x1c\x1d\x1e\x1fx",
    "123 4567 3.14 1,000 1e-5", "١٢٣ ४५६ 三百 一二三 ②½Ⅳ ௧௨", "３４５ ｆｕｌｌ", "naïve café cafe\u0301 A\u030a",
    "e\u0301\u0302\u0303x", "हिन्दी भाषा ไทยภาษา", "日本語テキスト。東京タワー", "한국어 텍스트", "עברית العربية", "Привет, мир!",
    "😀😃 👨‍👩‍👧‍👦 🇩🇪 ❤️ 👍🏽", "a😀b 1😀2", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 𐍈 🀄", "<|endoftext|>", "a<|endoftext|>b <unk> @-@ ,",
    "ĠĠ Ċ Ģ ġ", "ªº µ ⁿ ₁ ˇ ʰ", "\U0010ffff\ue000\ufffd", "foo_bar->baz(x[i], &y) != 0; // c++",
    "    indented\n\tcode()\n        deeper\n", "http://example.com/a?b=c&d=%20", "ALLCAPS MiXeD",
    "a" * 300, "ab" * 200, " " * 70 + "x", "\n" * 40, "!" * 100, "é" * 120, "0" * 99, "-" * 64 + ">",
]
BYTES = [
    b"\xff", b"\x80\x80", b"abc\xffdef", b"\xc3", b"\xc3(", b"caf\xc3", b" \xe2\x82", b"\xe2\x82\xac\xe2\x82",
    b"\xed\xa0\x80 surrogate", b"\xc0\xaf overlong", b"\xf4\x90\x80\x80 too big", b"\xf0\x9f\x98", b" \xfe's",
    b"\xf8\x88\x80\x80\x80x", b"1\xe92", b"latin-1: na\xefve caf\xe9 \xa0x", bytes(range(256)),
    bytes(reversed(range(256))), b"\xe3\x80 \xe3\x80\x80", b"'\xff's'\xc3t",
]


def random_texts(seed, count):
    """Mixtures of the characters that decide how text is split."""
    r = random.Random(seed)
    pool = list("aZé日9½٣ \t\n\r'!.-_\u3000\u00a0\u0301\u200d😀\x00") + ["'s", "'re", " ", "  ", "the", "'ll"]
    return ["".join(r.choice(pool) for _ in range(r.randint(1, 24))) for _ in range(count)]


def random_bytes(seed, count):
    r = random.Random(seed)
    return [bytes(r.choice([r.randrange(256), 32, 39, 115, 0xe3, 0x80, 0xc3, 10]) for _ in range(12))
            for _ in range(count)]


def gpt2(data):
    t = Tokenizer(models.BPE.from_file(data + "/encoder.json", data + "/vocab.bpe"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    return t


def byte_names():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in names:
            names[b], extra = chr(256 + extra), extra + 1
    return names


def encode_bytes(t, names, raw):
    ids = []
    for word in PATTERN.findall(raw.decode("utf-8", "surrogateescape")):
        spelled = "".join(names[b] for b in word.encode("utf-8", "surrogateescape"))
        ids += [token.id for token in t.model.tokenize(spelled)]
    return ids


def vectors(t, texts, raws):
    names = byte_names()
    rows = []
    for text in texts:
        ids = t.encode(text).ids
        assert ids == encode_bytes(t, names, text.encode()), text
        rows.append({"hex": text.encode().hex(), "ids": ids})
    rows += [{"hex": raw.hex(), "ids": encode_bytes(t, names, raw)} for raw in raws]
    return rows


def write_rows(path, rows):
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


def train(texts, vocab, min_frequency):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab, min_frequency=min_frequency, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def merge_lines(t):
    merges = json.loads(t.to_str())["model"]["merges"]
    return [" ".join(m) if isinstance(m, list) else m for m in merges]


def fnv(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = (h ^ b) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def training(data):
    """Merges in full for small texts, as a hash over "left right\\n" lines for large ones."""
    cases = []
    small = {"license": [open("LICENSE").read()], "tricky": [t for t in TEXTS if "\x00" not in t], "overlap": ["aaaa aaaaa ababab abab bbbb"]}
    for name, texts in small.items():
        for vocab, least in ((300, 0), (600, 2)):
            cases.append({"text": name, "vocab": vocab, "min_count": least,
                          "texts": texts if name != "license" else None,
                          "merges": merge_lines(train(texts, vocab, least))})
    for name in ("wiki.test.raw", "lambada_test_plain_text.txt"):
        text = open(f"{data}/{name}", newline="").read()
        for vocab, least in ((1000, 0), (16000, 2)):
            lines = merge_lines(train([text], vocab, least))
            cases.append({"text": name, "vocab": vocab, "min_count": least, "count": len(lines),
                          "fnv": fnv("".join(line + "\n" for line in lines)), "merges": lines[-20:]})
    return cases


def main():
    data = sys.argv[1]
    assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
    out = "test/fixtures/text"
    os.makedirs(out, exist_ok=True)
    write_rows(out + "/gpt2.json", vectors(gpt2(data), TEXTS + random_texts(1, 150), BYTES + random_bytes(2, 60)))
    write_rows(out + "/training.json", training(data))
    small = train([open("LICENSE").read()], 400, 0)
    small.save(out + "/license-400.json")
    small.encode_special_tokens = True  # special tokens in text are ordinary text
    write_rows(out + "/license-400.ids.json", vectors(small, TEXTS + random_texts(3, 40), BYTES))
    print({f: os.path.getsize(f) for f in glob.glob(out + "/*")})


main()
