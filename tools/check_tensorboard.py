#!/usr/bin/env python3
"""Reads the event files of a run with TensorBoard's own reader and compares them with metrics.jsonl.

    tools/check_tensorboard.py [STRUT]          (default: $STRUT, else build/strut)

A small run is made, gone on with, gone on with from an older checkpoint, and begun anew where its
checkpoints were lost. After each of these every scalar must be there once for each row, in order and
with its number, and the configuration as text. Needs python, tensorboard and the binary.
Exit code: 0 all agree, 1 something differs, 77 tensorboard is not installed.
"""
# SPDX-License-Identifier: MIT
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import tensorboard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as e:
    print("skipped: tensorboard is not installed (%s)" % e)
    sys.exit(77)

TAGS = {"train/loss": "loss", "train/grad_norm": "grad_norm", "lr": "lr", "train/epoch": "epoch",
        "train/tokens_per_second": "tokens_per_second", "time/intra_step (ms)": "step_ms",
        "time/inter_step (ms)": "inter_ms", "train/gflops": "gflops", "lr/default": "lr.default",
        "lr/norms": "lr.norms", "val/loss": "val_loss", "val/ppl": "val_perplexity"}
SET = ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.n_positions=16",
       "model.vocab_size=23", "train.micro_batch=4", "train.warmup=3", "train.decay_steps=12",
       "eval.every=4", "eval.batches=2", "ckpt.every=4", "ckpt.keep=3", "log.every=1",
       "log.norms=4", "train.groups={norms: {lr: 1e-3}}", "train.test=true", "data.order=shuffle"]


class Differs(Exception):
    pass


def train(binary, data, out, *more):
    done = subprocess.run([binary, "train", "data=" + data, "out=" + out, *SET, *more, "--quiet"],
                          capture_output=True, text=True)
    if done.returncode:
        raise Differs("strut train: %s" % done.stderr.strip())


def rows(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def near(a, b):
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-30)


def compare(out, last, tests, what):
    events = EventAccumulator(out, size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    metrics = rows(os.path.join(out, "metrics.jsonl"))
    wanted = {tag: [(r["step"], r[key]) for r in metrics if key in r] for tag, key in TAGS.items()}
    for row in rows(os.path.join(out, "norms.jsonl")):
        for key, x in row.items():
            if key != "step":
                wanted.setdefault(key, []).append((row["step"], x))
    if len(wanted["train/loss"]) != last or len(wanted["stats/wte.weight_grad_max"]) != last // 4 + 1:
        raise Differs("%s: the run has %d rows" % (what, len(wanted["train/loss"])))
    for tag, want in wanted.items():
        if tag not in tags["scalars"]:
            raise Differs("%s: no %s among %s" % (what, tag, tags["scalars"]))
        found = [(e.step, e.value) for e in events.Scalars(tag)]
        if [s for s, _ in found] != [s for s, _ in want]:
            raise Differs("%s: %s has steps %s, expected %s" % (what, tag, [s for s, _ in found],
                                                                [s for s, _ in want]))
        bad = [(f, w) for f, w in zip(found, want) if not near(f[1], w[1])]
        if bad:
            raise Differs("%s: %s is %s, expected %s" % (what, tag, *bad[0]))
    if [e.step for e in events.Scalars("test/loss")] != sorted(tests):
        raise Differs("%s: test/loss at %s" % (what, events.Scalars("test/loss")))
    text = events.Tensors("config/text_summary" if "config/text_summary" in tags["tensors"]
                          else "config")[-1].tensor_proto.string_val[0].decode()
    if "n_embd: 16" not in text:
        raise Differs("%s: the configuration is %s" % (what, text[:80]))
    print("%-44s ok, %d scalars, %d files" % (what, len(wanted) + 2, len(
        [f for f in os.listdir(out) if "tfevents" in f])))


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1
                             else os.environ.get("STRUT", "build/strut"))
    print("tensorboard %s" % tensorboard.__version__)
    with tempfile.TemporaryDirectory() as data:
        for name, n in (("train", 1500), ("val", 400), ("test", 300)):
            with open(os.path.join(data, name + ".bin"), "wb") as f:
                for i in range(n):
                    f.write((i * i % 23).to_bytes(2, "little"))
        out = os.path.join(data, "run")
        try:
            train(binary, data, out, "train.steps=8")
            compare(out, 8, {8}, "a run")
            train(binary, data, out, "train.steps=12")
            compare(out, 12, {8, 12}, "gone on with")
            train(binary, data, out, "train.steps=12")
            compare(out, 12, {8, 12}, "complete, run again")
            train(binary, data, out, "train.steps=12", "ckpt.resume=%s/ckpt/step-4" % out)
            compare(out, 12, {12}, "gone on with from an older checkpoint")
            shutil.rmtree(os.path.join(out, "ckpt"))
            train(binary, data, out, "train.steps=8")
            compare(out, 8, {8}, "begun anew in the same folder")
        except Differs as e:
            print(e)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
