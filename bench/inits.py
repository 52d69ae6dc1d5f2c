#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How a decomposition starts, and what equal healing makes of it.

    bench/inits.py DENSE DATA OUT [--steps 40] [--text FILE ...] [--strut build/strut]

DENSE is a trained dense model folder, DATA a folder of `strut prepare` with the same tokenizer.
Every row decomposes DENSE, measures perplexity on DATA/val.bin (and on each --text by the krony
protocol), heals it with the same settings on the same batches, and measures again. Three layouts:
four hidden units to a column ("81m": A d x d), two residual channels to a row ("95m": A d/2 x 4d) and
two hidden units to a column ("96m": A d x 2d), with low rank of the same size and the dense model
itself, trained on, as controls.
Writes OUT/inits.json after every row and prints a table. No timing: any load will do.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("dense")
    p.add_argument("data")
    p.add_argument("out")
    p.add_argument("--steps", type=int, default=40)
    p.add_argument("--tokens-per-step", type=int, default=8192)
    p.add_argument("--micro-batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=3e-4)
    p.add_argument("--text", action="append", default=[])
    p.add_argument("--limit", type=int, default=0, help="tokens of each text; 0: all")
    p.add_argument("--calibrate", type=int, default=65536, help="tokens for the weighted rows")
    p.add_argument("--only", action="append", default=[], help="rows by name")
    p.add_argument("--skip", action="append", default=[], help="rows by name")
    p.add_argument("--strut", default="build/strut")
    return p.parse_args()


def rows(width, calibrate):
    """(name, arguments of decompose, or None: the dense model)."""
    d = width
    pair = 4 * d * d  # weights of one dense MLP matrix
    sizes = {
        "81m": (f"kron:m1={d},n1={d}", f"kron:m1={d},n1={d}", pair // 4),
        "95m": (f"kron:m1={d // 2},n1={4 * d}", f"kron:m1={4 * d},n1={d // 2}", pair // 2),
        "96m": (f"kron:m1={d},n1={2 * d}", f"kron:m1={2 * d},n1={d}", pair // 2),
    }
    weighted = ["--weights", calibrate[0], "--calibrate-tokens", str(calibrate[1])]
    yield "dense", None
    for size, (fc, proj, weights) in sizes.items():
        maps = ["--map", f"h.*.mlp.c_fc={fc}", "--map", f"h.*.mlp.c_proj={proj}"]
        rank = f"lowrank:rank={weights // (5 * d)}"
        yield f"{size} vl, balanced gauge", maps + ["--init", "vl", "--gauge", "balanced"]
        yield f"{size} vl", maps + ["--init", "vl"]
        yield f"{size} vl-norm", maps + ["--init", "vl-norm"]
        yield f"{size} vl, weighted", maps + ["--init", "vl"] + weighted
        yield f"{size} vl, sequential", maps + weighted + ["--sequential"]
        if size != "95m":  # there, no two hidden units share anything
            order = maps + ["--permute", "hidden"]
            yield f"{size} vl, permuted", order
            yield f"{size} vl, permuted, weighted", order + weighted
            yield f"{size} vl, permuted, sequential", order + weighted + ["--sequential"]
        if size == "96m":
            yield f"{size} prune, grouped", maps + ["--init", "prune", "--group-hidden"] + weighted
            continue
        if size == "95m":
            yield f"{size} prune", maps + ["--init", "prune"]
            yield f"{size} prune, 0.1", maps + ["--init", "prune:second=0.1"]
        yield f"{size} random", maps + ["--init", "random"]
        yield f"{size} lowrank", ["--map", f"h.*.mlp.*={rank}"]
        yield f"{size} lowrank, weighted", ["--map", f"h.*.mlp.*={rank}"] + weighted


class Bench:
    def __init__(self, a):
        self.a = a
        os.makedirs(a.out, exist_ok=True)
        with open(os.path.join(a.dense, "config.json"), encoding="utf-8") as f:
            self.config = json.load(f)

    def strut(self, *words):
        done = subprocess.run([self.a.strut, *words, "--json", "--quiet"], stdout=subprocess.PIPE,
                              check=False)
        if done.returncode:
            sys.exit(f"failed: strut {' '.join(words)}")
        return json.loads(done.stdout)

    def perplexity(self, model):
        limit = ["--limit", str(self.a.limit)] if self.a.limit else []
        val = os.path.join(self.a.data, "val.bin")
        found = {"val": self.strut("perplexity", model, val, *limit)["perplexity"]}
        for text in self.a.text:
            name = os.path.basename(text).split(".")[0]
            done = self.strut("perplexity", model, text, "--protocol", "krony", *limit)
            found[name] = done["perplexity"]
        return found

    def row(self, name, how):
        model = self.a.dense
        row = {"name": name, "parameters": None, "energy": 1.0}
        if how is not None:
            model = os.path.join(self.a.out, "model")
            done = self.strut("decompose", self.a.dense, model, "--force", *how)
            row["parameters"], row["energy"] = done["parameters"], done["energy"]
        row["before"] = self.perplexity(model)
        healed = os.path.join(self.a.out, "healed")
        shutil.rmtree(healed, ignore_errors=True)
        a = self.a
        done = self.strut("train", f"init={model}", f"data={a.data}", f"out={healed}",
                          f"train.steps={a.steps}", f"train.tokens_per_step={a.tokens_per_step}",
                          f"train.micro_batch={a.micro_batch}", f"train.lr={a.lr}",
                          f"train.min_lr={a.lr / 10}", f"train.warmup={a.steps // 10}",
                          "train.dropout=0", "eval.every=0", "ckpt.every=0", "ckpt.best=false")
        row["parameters"], row["tokens"] = done["parameters"], done["tokens"]
        row["after"] = self.perplexity(os.path.join(healed, "ckpt", "last"))
        return row


def table(found):
    sets = list(found[0]["before"])
    head = ["model", "parameters", "energy"] + [f"{s} {w}" for s in sets for w in ("before", "after")]
    lines = [head]
    for r in found:
        cells = [r["name"], f"{r['parameters']:,}", f"{r['energy']:.3f}"]
        for s in sets:
            cells += [f"{r['before'][s]:.4g}", f"{r['after'][s]:.4g}"]
        lines.append(cells)
    wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                        for i, (c, w) in enumerate(zip(line, wide))))


def main():
    a = arguments()
    bench = Bench(a)
    found = []
    calibrate = (os.path.join(a.data, "train.bin"), a.calibrate)
    for name, how in rows(bench.config["n_embd"], calibrate):
        if (a.only and name not in a.only) or name in a.skip:
            continue
        found.append(bench.row(name, how))
        with open(os.path.join(a.out, "inits.json"), "w", encoding="utf-8") as f:
            json.dump({"steps": a.steps, "tokens_per_step": a.tokens_per_step, "lr": a.lr,
                       "rows": found}, f, indent=1)
        print(f"{name}: {found[-1]['before']['val']:.4g} -> {found[-1]['after']['val']:.4g}",
              file=sys.stderr)
    table(found)


if __name__ == "__main__":
    main()
