#!/usr/bin/env python3
"""Makes test/fixtures/tokens: small tokenizers of every kind that is read, and what Hugging Face's
tokenizers (PyPI, 0.23.3) makes of odd texts with them.

    .../python tools/fixtures_tokens.py [NAME...]     # with PyPI's gguf 0.19.0, too

texts.json lists the texts, NAME.json is a tokenizer.json, NAME.want.json {"special": ids with special
tokens found, "plain": where they are others: ids with special ones as ordinary text, "told": where they
are others: texts that the ids are told back as (false: left out), "before", "after": what its template
puts around a text}. NAME.gguf is the same tokenizer as a GGUF file without tensors, where there is one.
"""
# SPDX-License-Identifier: MIT
import json
import pathlib
import sys

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from odd_texts import odd_texts

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "test" / "fixtures" / "tokens"
TRAIN = [ROOT / "LICENSE", ROOT / "CONTRIBUTING.md", ROOT / "doc" / "MATH"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(split, normalizer=None, prefix=False, use_regex=False):
    t = tokenizers.Tokenizer(models.BPE())
    if normalizer:
        t.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)
    t.pre_tokenizer = pre_tokenizers.Sequence([*split, level]) if split else level
    t.decoder = decoders.ByteLevel()
    return t, {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}


def regex(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def bos(t, before=("<s>",), after=()):
    pieces = [*before, "$A", *after]
    t.post_processor = processors.TemplateProcessing(
        single=" ".join(pieces), pair=" ".join([*pieces, *(p if p != "$A" else "$B" for p in pieces)]),
        special_tokens=[(p, t.token_to_id(p)) for p in dict.fromkeys([*before, *after])])


def byte_tokens():
    return [f"<0x{b:02X}>" for b in range(256)]


def sentencepiece(normalizer, pre, decoder, fallback=True, fuse=True):
    t = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse, byte_fallback=fallback))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    t.decoder = decoder
    return t, {"special_tokens": ["<unk>", "<s>", "</s>", *(byte_tokens() if fallback else [])]}


def spm_decoder(strip=1):
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", strip, 0)] if strip else []))


def metaspace(**how):
    return pre_tokenizers.Metaspace(**how)


LEGACY = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
KINDS = {
    "llama3": lambda: byte_level([regex(LLAMA3)]),
    "qwen2": lambda: byte_level([regex(QWEN2)], normalizers.NFC()),
    "o200k": lambda: byte_level([regex(O200K)]),
    "deepseek": lambda: byte_level([regex(r"\p{N}{1,3}"), regex("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                                    regex(DEEPSEEK)]),
    "smollm": lambda: byte_level([pre_tokenizers.Digits(True)], use_regex=True),
    "digits": lambda: byte_level([pre_tokenizers.Digits(False)], use_regex=True, prefix=True),
    "falcon": lambda: (lambda t: (setattr(t[0], "pre_tokenizer", pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(False, use_regex=True),
         pre_tokenizers.Digits(False), regex("[0-9][0-9][0-9]")])), t)[1])(byte_level([])),
    "prefix": lambda: byte_level([], prefix=True, use_regex=True),
    "bloom": lambda: byte_level([regex(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+")]),
    "sets": lambda: byte_level([regex(r"[\p{L}&&[^\p{Han}]]+|\p{^L}{2}+|[^a-z&&[^\s]]|\w+?\b"), regex(r"\s", "removed")]),
    "behaviors": lambda: byte_level([regex(r"[.,;]", "merged_with_previous"), regex(r"\s", "merged_with_next"),
                                     regex(r"[A-Z]", "contiguous"), regex(r"[a-z]+", "isolated", True),
                                     pre_tokenizers.Split("'", "isolated")]),
    "next": lambda: byte_level([]),
    "previous": lambda: byte_level([]),
    "nfkc": lambda: byte_level([], normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]),
        use_regex=True),
    "nfd": lambda: byte_level([pre_tokenizers.Whitespace()], normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
    "nfkd": lambda: byte_level([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()], normalizers.NFKD()),
    "bert": lambda: byte_level([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.CharDelimiterSplit("e")]),
    "llama2": lambda: sentencepiece(normalizers.Sequence(LEGACY), None, spm_decoder()),
    "mistral": lambda: sentencepiece(None, metaspace(prepend_scheme="first", split=False), spm_decoder()),
    "gemma": lambda: sentencepiece(normalizers.Replace(" ", "\u2581"), pre_tokenizers.Split(" ", "merged_with_previous"),
                                   spm_decoder(0)),
    "words": lambda: sentencepiece(normalizers.NFKC(), metaspace(prepend_scheme="always", split=True),
                                   decoders.Metaspace(prepend_scheme="always"), fallback=False),
    "unfused": lambda: sentencepiece(None, metaspace(prepend_scheme="never", split=True),
                                     decoders.Metaspace(prepend_scheme="never"), fallback=False, fuse=False),
}
SIZE = 600
# Set after training without them: merges reach over where they cut, so that every cut shows.
LATER = {"next": regex(r"[\sea]", "merged_with_next"), "previous": regex(r"[\sea]", "merged_with_previous")}


def train(name):
    t, how = KINDS[name]()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, show_progress=False, max_token_length=12, **how)
    t.train([str(p) for p in TRAIN], trainer)
    if name in LATER:
        t.pre_tokenizer = pre_tokenizers.Sequence([LATER[name], pre_tokenizers.ByteLevel(False, use_regex=False)])
    if "initial_alphabet" not in how:  # only <unk> and its like are special, bytes are tokens like others
        root = json.loads(t.to_str())
        root["added_tokens"] = [x for x in root["added_tokens"] if not x["content"].startswith("<0x")]
        t = tokenizers.Tokenizer.from_str(json.dumps(root))
    else:
        t.add_special_tokens([AddedToken("<s>"), AddedToken("</s>", normalized=False)])
    t.add_special_tokens([AddedToken("<|im_end|>", normalized=False)])
    t.add_tokens([AddedToken("[sep]", normalized=False), AddedToken("two words"), AddedToken("[L]", lstrip=True),
                  AddedToken("[R]", rstrip=True, normalized=False), AddedToken("word", single_word=True)])
    if name in ("llama3", "llama2", "mistral", "gemma"):
        bos(t)
    if name in ("llama2", "gemma"):
        root = json.loads(t.to_str())
        every_way(root)
        t = tokenizers.Tokenizer.from_str(json.dumps(root))
    if name in ("words", "unfused"):
        bos(t, ("<s>", "<s>"), ("</s>",))
    if name == "llama3":
        root = json.loads(t.to_str())
        root["model"]["ignore_merges"] = True
        root["model"]["merges"] = root["model"]["merges"][:200]
        t = tokenizers.Tokenizer.from_str(json.dumps(root))
    return t


def every_way(root):
    """As merges: whatever two tokens make a third, as SentencePiece merges by scores (minus ranks)."""
    model = root["model"]
    vocab, score = model["vocab"], {}
    for rank, pair in enumerate(model["merges"]):
        score.setdefault("".join(pair), -float(rank + 1))
    score = {x: score.get(x, 0.0) for x in vocab}
    ways = []
    for token in sorted(vocab, key=vocab.get):
        halves = [(token[:i], token[i:]) for i in range(1, len(token))] if token not in SPECIAL else []
        ways += sorted((p for p in halves if p[0] in vocab and p[1] in vocab), key=lambda p: (vocab[p[0]], vocab[p[1]]))
    ways.sort(key=lambda p: (score["".join(p)], len(p[0]), len(p[1])), reverse=True)
    model["merges"] = ways
    return score


SPECIAL = {"<unk>", "<s>", "</s>", *byte_tokens()}
GGUF = {"llama3": "llama-bpe", "qwen2": "qwen2", "smollm": "smollm", "deepseek": "deepseek-v3", "llama2": None, "gemma": None}


def write_gguf(name, root, scores):
    added = {x["content"]: x for x in root["added_tokens"]}
    vocab = {**root["model"]["vocab"], **{x: a["id"] for x, a in added.items()}}
    tokens = sorted(vocab, key=vocab.get)
    kind = {x: 3 if a["special"] else 4 for x, a in added.items()}
    w = gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")
    w.add_tokenizer_model("llama" if scores else "gpt2")
    w.add_tokenizer_pre(GGUF[name] or "default")
    w.add_token_list(tokens)
    if scores:
        kind["<unk>"] = 2
        kind.update({x: 6 for x in byte_tokens()})
        w.add_token_scores([scores.get(x, 0.0) for x in tokens])
        w.add_unk_token_id(vocab["<unk>"])
        w.add_add_space_prefix(name == "llama2")
        w.add_add_eos_token(False)
    else:
        w.add_token_merges([x if isinstance(x, str) else " ".join(x) for x in root["model"]["merges"]])
        w.add_add_bos_token(name == "llama3")
    w.add_token_types([kind.get(x, 1) for x in tokens])
    w.add_bos_token_id(vocab["<s>"])
    w.add_eos_token_id(vocab["</s>"])
    w.add_chat_template("{{ '<|im_start|>' }}" * 400)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def want(t, texts):
    quiet = tokenizers.Tokenizer.from_str(t.to_str())
    quiet.encode_special_tokens = True
    both = t.encode("a").ids
    bare = t.encode("a", add_special_tokens=False).ids
    at = next(i for i in range(len(both)) if both[i:i + len(bare)] == bare)
    special = [t.encode(s, add_special_tokens=False).ids for s in texts]
    plain = [quiet.encode(s, add_special_tokens=False).ids for s in texts]
    told = [t.decode(ids, skip_special_tokens=False) for ids in special]
    # of added tokens that are normalized it tells what normalizers make of them, which nobody means
    changed = {i for i, x in t.get_added_tokens_decoder().items() if x.normalized and t.normalizer}
    return {"special": special, "plain": [p if p != s else None for p, s in zip(plain, special)],
            "told": [False if changed & set(ids) else a if a != b else None
                     for a, b, ids in zip(told, texts, special)],
            "before": both[:at], "after": both[at + len(bare):]}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    specials = ["<s>", "</s>", "<unk>", "<|im_end|>", "[sep]", "two words", "[L]", "[R]", "word"]
    texts = odd_texts(specials, 120)
    (OUT / "texts.json").write_text(json.dumps(texts) + "\n", "utf-8")
    for name in sys.argv[1:] or KINDS:
        t = train(name)
        (OUT / f"{name}.json").write_text(t.to_str(), "utf-8")
        if name in GGUF:
            root = json.loads(t.to_str())
            for x in root["added_tokens"]:  # GGUF does not say how added tokens are found
                x.update(normalized=False, lstrip=False, rstrip=False, single_word=False)
            t = tokenizers.Tokenizer.from_str(json.dumps(root))
            (OUT / f"{name}.json").write_text(t.to_str(), "utf-8")
            write_gguf(name, root, every_way(root) if GGUF[name] is None else None)
        rows = want(t, texts)
        (OUT / f"{name}.want.json").write_text(json.dumps(rows, ensure_ascii=True, separators=(",", ":")) + "\n", "utf-8")
        print(name, t.get_vocab_size(), sum(map(len, rows["special"])))


if __name__ == "__main__":
    main()
