#!/usr/bin/env python3
"""Makes test/fixtures/eval: what the published evaluations make of a tiny model and small texts.

    pip install --target P transformers==4.36.2 pyarrow==14.0.2 jinja2 sqlitedict     (and Debian's torch)
    pip download --no-deps lm-eval==0.4.13, unpack it to L
    PYTHONPATH=P:L tools/fixtures_eval.py [DATA]

model/: a GPT-2 of transformers' making with a vocabulary of 400. wiki.txt: a text in WikiText's
form; lambada.txt, lambada.jsonl: passages. cases.json: results by protocol, each computed here from
transformers' logits by the loop of its source (Hugging Face's guide, Megatron-LM's overlapping
windows, fly's LMDataset) and, for lm-eval, by its own functions for pages, windows and pairs.
detokenize.json: strings before and after lm-eval's wikitext detokeniser. With DATA (folder with the
real test sets and GPT-2's encoder.json, vocab.bpe): counts.json, token counts of the real texts.
"""
# SPDX-License-Identifier: MIT
import importlib.util
import json
import math
import os
import random
import re
import sys

import pyarrow
import torch
from pyarrow import parquet
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from lm_eval import utils
from lm_eval.api.model import TemplateLM

# By its path: the package around it wants what is not needed here.
spec = importlib.util.spec_from_file_location(
    "wikitext", os.path.dirname(utils.__file__) + "/tasks/wikitext/preprocess_wikitext.py")
wikitext = importlib.util.module_from_spec(spec)
spec.loader.exec_module(wikitext)
process_results, wikitext_detokenizer = wikitext.process_results, wikitext.wikitext_detokenizer

OUT = "test/fixtures/eval"
CONTEXT = 32

WIKI = """ \n = Copper kettle = \n \n The copper kettle ( also " wash copper " ) was heated by a fire \
of 1 @,@ 200 twigs @-@ on average . It 's old ; it holds 2 @.@ 5 litres , or more : who knows ? \n \n \
= = History = = \n \n In N days the smiths ' kettle was at 20 ° C ! [ citation ] { sic } ' so ' . \n \n \
= = = Later = = = \n \n Nothing at all . \n \n = Heron = \n \n A heron waits . \n \n = Lake = \n \n \
The lake is wide , the lake is deep , and nobody has seen its floor since the winter of 1803 , when \
the ice broke under the carts of " Old Piet " and his six sons , who sold turf in the town . \n \n"""
PASSAGES = [
    "the kettle was on the fire and steam rose from the kettle",
    "she asked the heron where the lake was , and the heron showed her the lake",
    "old piet had six sons ; two of them sold turf , and four of them sold ice in winter to sons",
    "winter", "a  double", "copper and turf and carts and fire and ice , all of it under water " * 3,
]
TRICKY = [
    "", " ", "a", "( a )", "(a", "a)", "( ( a ) b )", "()", "(  )", "[ x ] { y } \" z \" ' w '", '"', '" a',
    "' a ' b ' c '", "s ' x s '", "/' 3/ and /' 33/ /' a/", "1 @-@ 2 @,@ 3 @.@ 4 @-@", " @-@  @-@ ",
    "a . b . c . . d", " . . . ", "= = = = a = = = b = = c =", "= = = = = = =", "20 \u00b0 C \u00b0 F", " \n \n \n", "a \n\n b",
    " N  N N ", "it 's 's", "(\u3000wide\u3000)", "(\u00a0a\u2003)\u2028", '"\x1ca\x85"', "( a\nb )", "\u00e9 ( \u00e9 ) \u00b0",
    "don 't ' em ' all", "x ; y : z ! ? ,", " , , ", "' ' '", '"  "', "{ } { a", "[ [ ] ]", "( ) (  b", "s 's '", "' \" ( [ { } ] ) \" '",
]


def logprobs(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)


def windows_nll(model, windows):
    """[(inputs, {position of a target in inputs' outputs: id})] -> NLLs by window."""
    out = []
    for inputs, targets in windows:
        lp = logprobs(model, inputs)
        out.append([-lp[at, t].item() for at, t in targets.items()])
    return out


def inside(ids, context, stride):  # Hugging Face's guide
    windows, prev = [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + context, len(ids))
        targets = {t - begin - 1: ids[t] for t in range(max(prev, begin + 1), end)}
        if targets:
            windows.append((ids[begin:end], targets))
        prev = end
        if end == len(ids):
            break
    return windows


def outside(ids, context, stride):  # Megatron-LM: overlapping evaluation, padding left out
    total = len(ids) - 1
    count = max(math.ceil(max(total - stride, 0) / stride) + 1, 1)
    windows = []
    for idx in range(count):
        tokens = ids[idx * stride: idx * stride + context + 1]
        mask = [1] * (len(tokens) - 1) + [0] * (context + 1 - len(tokens))
        if stride != context and idx != 0:
            mask = [0] * (context - stride) + mask[context - stride:]
        targets = {i: tokens[i + 1] for i in range(len(tokens) - 1) if mask[i]}
        if targets:
            windows.append((tokens[:-1], targets))
    return windows


def dropped(ids, context):  # fly's LMDataset, drop_last
    n = (len(ids) - 1) // context * context + 1
    return [(ids[i:i + context], dict(enumerate(ids[i + 1:i + context + 1]))) for i in range(0, n - 1, context)]


def rolling(ids, prefix, context):  # lm-eval
    windows = []
    for pair in utils.get_rolling_token_windows(ids, prefix, context, 1):
        a, b = utils.make_disjoint_window(pair)
        inputs = (a + b)[-(context + 1):][:-1]
        windows.append((inputs, {len(inputs) - len(b) + i: t for i, t in enumerate(b)}))
    return windows


def rows_of(text):  # Hugging Face's wikitext: blank lines are empty rows
    lines = text.split("\n")
    rows = [line + "\n" if i + 1 < len(lines) else line for i, line in enumerate(lines)]
    if not rows[-1]:
        rows.pop()
    return [row if row.strip() else "" for row in rows]


def pages_of(text):  # EleutherAI's document-level WikiText
    pages, page = [], []
    for line in text.split("\n"):
        bare = line.replace("= = =", "===").replace("= =", "==").strip()
        if bare.startswith("= ") and bare.endswith(" ="):
            if "\n".join(page).strip():
                pages.append("\n".join(page))
            page = []
        page.append(line)
    return pages + ["\n".join(page)]


def detokenize(text):
    return wikitext_detokenizer({"page": text})


def encoder(tokenizer):
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def case(file, form, protocol, nlls, nll, tokens, **more):
    flat = [x for w in nlls for x in w]
    return {"file": file, "form": form, "protocol": protocol, "nll": nll, "token_nll": sum(flat) / len(flat),
            "tokens": tokens, "scored": len(flat), "windows": len(nlls), **more}


def wiki_cases(model, encode, eos):
    cases, rows = [], rows_of(WIKI)
    joined = encode("\n\n".join(rows))
    n = len(joined)
    for context, stride in ((CONTEXT, CONTEXT), (CONTEXT, 16), (20, 7)):
        w = windows_nll(model, inside(joined, context, stride))
        flat = [x for v in w for x in v]
        means = [sum(v) / len(v) for v in w]
        size = {"context": context, "stride": stride}
        cases.append(case("wiki.txt", "wikitext", "hf", w, sum(flat) / len(flat), n, **size))
        cases.append(case("wiki.txt", "wikitext", "krony", w, sum(means) / len(means), n, **size))
    w = windows_nll(model, outside(joined, CONTEXT, CONTEXT))  # Krony-PT's own: the next token, mean of means
    cases.append(case("wiki.txt", "wikitext", "krony", w, sum(sum(v) / len(v) for v in w) / len(w), n,
                      context=CONTEXT, stride=CONTEXT, boundary="outside"))
    prose = encode(detokenize(WIKI))
    ratio = (len(prose) - 1) / (len(WIKI.strip().split(" ")) - 1)
    for stride in (4, 10, CONTEXT):
        w = windows_nll(model, outside(prose, CONTEXT, stride))
        flat = [x for v in w for x in v]
        assert len(flat) == len(prose) - 1
        cases.append(case("wiki.txt", "wikitext", "openai", w, sum(flat) / len(flat) * ratio, len(prose),
                          context=CONTEXT, stride=stride))
    for eot, plain in ((False, True), (True, True), (True, False)):
        ids = []
        for row in filter(None, rows):
            ids += encode(row if plain else detokenize(row)) + ([eos] if eot else [])
        w = windows_nll(model, dropped(ids, CONTEXT))
        flat = [x for v in w for x in v]
        cases.append(case("wiki.txt", "wikitext", "fly", w, sum(flat) / len(flat), len(ids), context=CONTEXT,
                          stride=CONTEXT, eos=eot, detokenize="none" if plain else "wikitext"))
    for limit in (0, 1):
        pages = pages_of(WIKI)[:limit or None]
        w, words, size, tokens = [], 0, 0, 0
        for page in pages:
            ids = encode(detokenize(page))
            tokens += len(ids) + 1
            part = windows_nll(model, rolling(ids, eos, CONTEXT))
            result = process_results({"page": page}, (-sum(x for v in part for x in v),))
            words += result["word_perplexity"][1]
            size += result["byte_perplexity"][1]
            w += part
        total = sum(x for v in w for x in v)
        cases.append(case("wiki.txt", "wikitext", "lm-eval", w, total / words, tokens, context=CONTEXT, stride=CONTEXT,
                          limit=limit, words=words, bytes=size, byte_perplexity=math.exp(total / size),
                          bits_per_byte=total / size / math.log(2)))
    return cases


class Pairs(TemplateLM):  # for lm-eval's _encode_pair
    backend = "causal"
    eot_token_id = loglikelihood_rolling = generate_until = _loglikelihood_tokens = None

    def __init__(self, encode):
        self.encode = encode

    def tok_encode(self, string, add_special_tokens=None, **_):
        return self.encode(string)


Pairs.__abstractmethods__ = frozenset()


def lambada_case(model, encode, eos, file, texts):
    pairs, ll, right, right_token, tokens, target_tokens = Pairs(encode), [], 0, 0, 0, 0
    for text in texts:
        context, target = " ".join(text.split(" ")[:-1]), " " + text.split(" ")[-1]
        a, b = pairs._encode_pair(context, target) if context else ([eos], encode(target))
        inputs = (a + b)[-(CONTEXT + 1):][:-1]
        b = b[-len(inputs):]
        lp = logprobs(model, inputs)[-len(b):]
        ll.append(sum(lp[i, t].item() for i, t in enumerate(b)))
        greedy = lp.argmax(-1).tolist()
        right += greedy == b
        right_token += greedy[-1] == b[-1]
        tokens += len(inputs)
        target_tokens += len(b)
    return {"file": file, "nll": -sum(ll) / len(ll), "accuracy": right / len(ll), "items": len(ll), "tokens": tokens,
            "last_token_accuracy": right_token / len(ll), "target_tokens": target_tokens}


def guessed(model, tokenizer, encode):
    """Passages of which the model gets the last word right, and ones of which only the last token."""
    r, names = random.Random(5), [tokenizer.decode([i]) for i in range(256, 399)]
    words = [n.strip() for n in names if n.startswith(" ") and n.strip().isalpha()]
    ends = [n for n in names if n.isalpha()]
    whole, part = [], []
    while len(whole) < 3 or len(part) < 2:
        context = " ".join(r.choice(words) for _ in range(r.randint(2, 9)))
        best = tokenizer.decode([logprobs(model, encode(context))[-1].argmax().item()])
        if len(whole) < 3 and best.startswith(" ") and best.strip().isalpha():
            whole.append(context + best)
        text = context + " " + r.choice(words) + r.choice(ends)
        ids, n = encode(text), len(encode(context))
        lp = logprobs(model, ids[:-1]).argmax(-1).tolist()
        if len(part) < 2 and len(ids) == n + 2 and lp[-1] == ids[-1] and lp[-2] != ids[-2]:
            part.append(text)
    return whole + part


def counts(data):
    t = Tokenizer(models.BPE.from_file(data + "/encoder.json", data + "/vocab.bpe"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encode, out = encoder(t), []
    for file in ("wikitext-103-v1.test.txt", "wikitext-2-v1.test.txt", "wiki.test.raw"):
        text = open(f"{data}/{file}", encoding="utf-8").read()
        rows, pages = rows_of(text), pages_of(text)
        joined, prose = encode("\n\n".join(rows)), encode(detokenize(text))
        parts = [encode(detokenize(page)) for page in pages]
        out.append({"file": file, "joined": len(joined), "first": joined[:8],
                    "openai": len(prose), "original": len(text.strip().split(" ")),
                    "fly": sum(len(encode(row)) for row in rows), "pages": len(pages),
                    "page_tokens": sum(map(len, parts)) + len(parts),
                    "words": sum(len(re.split(r"\s+", page)) for page in pages),
                    "bytes": sum(len(page.encode()) for page in pages),
                    "sum": sum(i * x for part in parts for i, x in enumerate(part, 1)) % (1 << 31)})
    rows = open(f"{data}/lambada_test_plain_text.txt", encoding="utf-8").read().split("\n")
    joined = encode("\n\n".join(filter(None, rows)))
    out.append({"file": "lambada_test_plain_text.txt", "joined": len(joined), "first": joined[:7]})
    return out


def tricky(seed, count):
    r = random.Random(seed)
    pool = [" ", " ", " ", "s", "a", "N", "1", "'", '"', "(", ")", "[", "]", "{", "}", "=", "@-@", "@,@", ".", ",", ":", ";",
            "!", "?", "\n", "/", "\u00b0", "\u00a0", "\u3000", "'s", "\u00e9", "\u65e5"]
    return ["".join(r.choice(pool) for _ in range(r.randint(1, 60))) for _ in range(count)]


def save(name, value):
    with open(f"{OUT}/{name}", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]\n")


def main():
    torch.manual_seed(1)
    os.makedirs(OUT + "/model", exist_ok=True)
    with open("test/fixtures/text/license-400.json") as f:
        stored = json.load(f)
    # Merges as older tokenizers packages write them.
    stored["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in stored["model"]["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(stored))
    eos = tokenizer.token_to_id("<|endoftext|>")
    model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2,
                                       bos_token_id=eos, eos_token_id=eos, initializer_range=0.4)).eval()
    model.save_pretrained(OUT + "/model", safe_serialization=True)
    tokenizer.save(OUT + "/model/tokenizer.json")
    encode = encoder(tokenizer)
    open(OUT + "/wiki.txt", "w").write(WIKI)
    # The same rows as Hugging Face's parquet files hold them.
    parquet.write_table(pyarrow.table({"text": rows_of(WIKI)}), OUT + "/wiki.parquet", compression="snappy")
    passages = PASSAGES + guessed(model, tokenizer, encode)
    open(OUT + "/lambada.txt", "w").write("".join(text + "\n" for text in passages))
    prose = [text.replace(" ,", ",") for text in passages] + ["two\n\nparts of it", "trailing space  x"]
    open(OUT + "/lambada.jsonl", "w").write("".join(json.dumps({"text": text}) + "\n" for text in prose))
    save("cases.json", wiki_cases(model, encode, eos))
    save("lambada.json", [lambada_case(model, encode, eos, "lambada.txt", passages),
                          lambada_case(model, encode, eos, "lambada.jsonl", prose)])
    texts = TRICKY + tricky(1, 300) + [WIKI]
    save("detokenize.json", [{"text": t, "prose": detokenize(t), "words": len(re.split(r"\s+", t)),
                              "tokens": len(t.strip().split(" "))} for t in texts])
    if len(sys.argv) > 1:
        save("counts.json", counts(sys.argv[1]))


main()
