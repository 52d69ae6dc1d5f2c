#!/usr/bin/python3
"""Prefill and decoding on the CPU in 32, 16, 8 and 4 bits, dense and structured, beside llama.cpp.

    bench/decode.py --tokenizer gpt2/ [--strut build/strut] [--peer ./llamacpp] [--threads 2,16]
                    [--rounds 3] [--prompt 512] [--tokens 64] [-o decode.tsv]

Makes a GPT-2 124M with random weights, the same with every block matrix 4 times smaller (low rank),
and their forms in fewer bits; then every program reads a prompt and makes tokens, in turn, round
after round, and a table of medians comes out. --peer is bench/llamacpp.c, built against llama.cpp;
without it strut runs alone. --tokenizer is for llama.cpp, which reads no model without one."""
# SPDX-License-Identifier: MIT
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile


def strut(program, *args, threads=None):
    env = dict(os.environ)
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run([program, *args], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit("strut %s: %s" % (args[0], done.stderr.strip()))
    return done.stdout


def machine():
    cpu = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return "%s, %d processors" % (cpu, os.cpu_count())


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--strut", default="build/strut")
    p.add_argument("--peer")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--threads", default="2,%d" % os.cpu_count())
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("-o", "--out")
    a = p.parse_args()
    at = tempfile.mkdtemp(prefix="strut-decode-")
    name = lambda n: os.path.join(at, n)
    quiet = ("-q", "-f")
    strut(a.strut, "init", "gpt2", name("dense"), "--tokenizer", a.tokenizer, *quiet)
    strut(a.strut, "init", "gpt2", name("small"), "--map", "h.*=lowrank:rank=96", "--tokenizer",
          a.tokenizer, *quiet)
    for model in ("dense", "small"):
        for bits in ("q8", "q4"):
            strut(a.strut, "convert", name(model), name(model + "-" + bits) + "/", "--to", "strut",
                  "--quantize", bits, *quiet)
    runs = []

    def ours(model, dtype):
        def run(threads):
            o = json.loads(strut(a.strut, "generate", name(model), "--ids",
                                 ",".join(str(1 + i % 512) for i in range(a.prompt)), "--tokens",
                                 str(a.tokens), "--temperature", "0", "--ignore-eos", "--dtype",
                                 dtype, "--device", "cpu", "--threads", str(threads), "--json",
                                 "-q", threads=threads))
            return [o[k]["tokens_per_second"] for k in ("prefill", "decode")]
        return run

    def batch(size):
        def run(threads):
            o = json.loads(strut(a.strut, "generate", name("dense-q8"), "--prompts",
                                 name("prompts"), "--batch", str(size), "--tokens", str(a.tokens),
                                 "--temperature", "0", "--ignore-eos", "--dtype", "bf16",
                                 "--device", "cpu", "--threads", str(threads), "--json", "-q",
                                 threads=threads))
            return [o[k]["tokens_per_second"] for k in ("prefill", "decode")]
        return run

    def theirs(model):
        def run(threads):
            done = subprocess.run([a.peer, "run", name(model), str(threads), str(a.prompt),
                                   str(a.tokens)], capture_output=True, text=True)
            if done.returncode:
                sys.exit("%s: %s" % (a.peer, done.stderr.strip()))
            return [float(x) for x in done.stdout.split()]
        return run

    if a.peer:
        strut(a.strut, "convert", name("dense"), name("f32.gguf"), "--to", "gguf", *quiet)
        runs.append(("llama.cpp", "dense", "f32", theirs("f32.gguf")))
        for bits, ftype in (("bf16", "32"), ("q8", "7"), ("q4", "2")):
            subprocess.run([a.peer, "quantize", name("f32.gguf"), name(bits + ".gguf"), ftype],
                           check=True, capture_output=True)
            runs.append(("llama.cpp", "dense", bits, theirs(bits + ".gguf")))
    for model in ("dense", "small"):
        for bits in ("", "-q8", "-q4"):
            for dtype in ("f32", "bf16"):
                runs.append(("strut", model + bits, dtype, ours(model + bits, dtype)))
    with open(name("prompts"), "w") as f:
        for i in range(8):
            f.write(" ".join(str(k) for k in range(i, 40)) + "\n")
    for size in (1, 8):
        runs.append(("strut, 8 prompts, %d at once" % size, "dense-q8", "bf16", batch(size)))

    rows = ["# %s; prompt %d, then %d tokens; medians of %d rounds" %
            (machine(), a.prompt, a.tokens, a.rounds),
            "threads\tprogram\tmodel\tdtype\tprefill_tok_s\tdecode_tok_s\tdecode_rounds"]
    for threads in (int(t) for t in a.threads.split(",")):
        found = [[] for _ in runs]
        for _ in range(a.rounds):
            for to, run in zip(found, runs):
                to.append(run[3](threads))
        for times, (who, model, dtype, _) in zip(found, runs):
            rows.append("%d\t%s\t%s\t%s\t%.1f\t%.1f\t%s" % (
                threads, who, model, dtype, statistics.median(t[0] for t in times),
                statistics.median(t[1] for t in times), " ".join("%.1f" % t[1] for t in times)))
            print(rows[-1], file=sys.stderr)
    text = "\n".join(rows) + "\n"
    if a.out:
        with open(a.out, "w") as f:
            f.write(text)
    else:
        print(text, end="")
    subprocess.run(["rm", "-rf", at])


main()
