#!/usr/bin/env python3
"""Writes test/fixtures/train_*: what PyTorch makes of gpt2_tanh in five steps of each recipe.

    tools/fixtures_train.py [FLY]

Windows of CONTEXT tokens in order from one shard, ACCUM micro-batches of ROWS to a step, AdamW with
decay groups, clipping and a schedule, as a nanoGPT or fly training loop does it. Every folder:
config.json and model.safetensors (the weights afterwards) as Hugging Face writes them, and
expect.safetensors: tokens (N), loss, norm (before clipping) and lr of each step, and with a teacher
the parts of the loss before their weights. train_ema has the moving average of train_fly's weights
by the class that does it in FLY, a checkout of github.com/HazyResearch/fly (6b73449); without it
that folder stays as it is.
"""
# SPDX-License-Identifier: MIT
import importlib
import json
import math
import os
import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from fixtures import GPT2, TINY, fill, save

STEPS, CONTEXT, ROWS, ACCUM = 5, 13, 2, 2
LR, MIN_LR, WARMUP, EPS, DECAY, CLIP = 1e-2, 1e-3, 2, 1e-4, 0.1, 1.0


def cosine(s):  # nanoGPT
    if s < WARMUP:
        return LR * s / WARMUP
    return MIN_LR + 0.5 * (1 + math.cos(math.pi * (s - WARMUP) / (STEPS - WARMUP))) * (LR - MIN_LR)


def linear(s):  # fly
    return LR * s / WARMUP if s < WARMUP else LR * (STEPS - s) / (STEPS - WARMUP)


def nanogpt(name, p):  # a parameter's weight decay, and what else is its own
    return dict(weight_decay=DECAY if p.dim() > 1 else 0.0)


def fly(name, p):
    return dict(weight_decay=DECAY if p.dim() > 1 and "wte" not in name and "wpe" not in name
                else 0.0)


def groups(name, p):
    """Every key that train.groups has: test/train/train_test.c says the same in its words."""
    if name.startswith("transformer.h.0.attn"):
        return None  # frozen
    own = nanogpt(name, p)
    if name.endswith("bias") and ".ln_" not in name:
        own.update(peak=3e-2, weight_decay=0.5)
    if "wte" in name:
        own.update(fixed=LR)  # of wpe it differs in the schedule alone
    if ".h.1.mlp." in name and name.endswith("weight"):
        own.update(peak=2e-3)
    return own


RECIPES = {"train_nanogpt": (cosine, nanogpt, (0.9, 0.95)),
           "train_fly": (linear, fly, (0.9, 0.999)),
           "train_groups": (cosine, groups, (0.9, 0.95)),
           "train_distill": (cosine, nanogpt, (0.9, 0.95))}
# train_distill: weights of the parts, the temperature, and whose weights the teacher has.
CE, KL, HIDDEN, EMBEDDING, T, TEACHER = 0.4, 0.6, 0.3, 0.2, 2.0, "train_fly"
PARTS = ("ce", "kl", "hidden", "embedding")
EMA = 0.3  # train_ema's decay: above what the first two updates are limited to


def states(model, ids):
    """Logits, and the embedding's and every block's output."""
    out, hooks = [], []
    for block in model.transformer["h"]:
        hooks.append(block.register_forward_pre_hook(lambda m, x: out.append(x[0])))
    last = model.transformer["ln_f"].register_forward_pre_hook(lambda m, x: out.append(x[0]))
    logits = model(ids)
    for hook in hooks + [last]:
        hook.remove()
    return logits, out


def distance(x, t):
    """|x - t|^2 / |t|^2 of each token, averaged."""
    return ((x - t).pow(2).sum(-1) / t.pow(2).sum(-1)).mean()


def distill(model, teacher, x, y):
    logits, here = states(model, x)
    with torch.no_grad():
        taught, there = states(teacher, x)
    kl = F.kl_div(F.log_softmax(logits / T, -1), F.log_softmax(taught / T, -1), log_target=True,
                  reduction="none").sum(-1).mean()
    parts = (F.cross_entropy(logits.flatten(0, 1), y.flatten()), kl,
             sum(distance(h, t) for h, t in zip(here[1:], there[1:])),
             distance(here[0], there[0]))
    loss = CE * parts[0] + KL * T * T * parts[1] + HIDDEN * parts[2] + EMBEDDING * parts[3]
    return loss, parts


def rate(group, schedule, step):
    return group.get("fixed", schedule(step) * group.get("peak", LR) / LR)


def run(tokens, schedule, own, betas, teacher=None, average=None):
    """Weights, and the course of the numbers. average: a class; its weights are returned."""
    model = fill(GPT2(TINY), 0)
    named = list(model.named_parameters())
    for n, p in named:
        p.requires_grad = own(n, p) is not None
    trained = [dict(own(n, p), params=[p]) for n, p in named if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=LR, betas=betas, eps=EPS)
    ema = average and average([p for _, p in named], decay=EMA, use_num_updates=True)
    out, window = {"loss": [], "norm": [], "lr": []}, 0
    if teacher:
        out.update((part, []) for part in PARTS)
    for step in range(STEPS):
        for group in adam.param_groups:
            group["lr"] = rate(group, schedule, step)
        adam.zero_grad()
        total, sums = 0.0, [0.0] * len(PARTS)
        for _ in range(ACCUM):
            at = [(window + r) * CONTEXT for r in range(ROWS)]
            window += ROWS
            x = torch.tensor([tokens[i:i + CONTEXT] for i in at])
            y = torch.tensor([tokens[i + 1:i + 1 + CONTEXT] for i in at])
            if teacher:
                loss, each = distill(model, teacher, x, y)
                sums = [s + p.item() / ACCUM for s, p in zip(sums, each)]
            else:
                loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            (loss / ACCUM).backward()
            total += loss.item() / ACCUM
        norm = nn.utils.clip_grad_norm_([p for _, p in named if p.requires_grad], CLIP).item()
        adam.step()
        if ema:
            ema.update()
        for key, value in (("loss", total), ("norm", norm), ("lr", schedule(step))):
            out[key].append(value)
        for key, value in zip(PARTS, sums):
            if teacher:
                out[key].append(value)
    if ema:
        ema.copy_to()
    return dict(named), {k: torch.tensor(v) for k, v in out.items()}


def main():
    out = os.path.join(os.path.dirname(__file__), "..", "test", "fixtures")
    recipes, average = dict(RECIPES), None
    if len(sys.argv) > 1:
        sys.path.insert(0, sys.argv[1])
        average = importlib.import_module("src.utils.ema").ExponentialMovingAverage
        recipes["train_ema"] = RECIPES["train_fly"]
    torch.set_num_threads(1)
    rng = random.Random(7)
    tokens = [rng.randrange(TINY["vocab_size"]) for _ in range(STEPS * ACCUM * ROWS * CONTEXT + 1)]
    teachers = {}
    for name, recipe in recipes.items():
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        teacher = None
        if name == "train_distill":
            teacher = fill(GPT2(TINY), 0)
            with torch.no_grad():
                for n, p in teacher.named_parameters():
                    p.copy_(teachers[TEACHER][n].float())  # as they are stored
        weights, expect = run(tokens, *recipe, teacher, average if name == "train_ema" else None)
        teachers[name] = weights
        expect["tokens"] = torch.tensor(tokens).int()
        config = dict(TINY, model_type="gpt2", architectures=["GPT2LMHeadModel"])
        with open(os.path.join(folder, "config.json"), "w") as f:
            f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
        weights = {n: p.detach() for n, p in weights.items()}
        save(os.path.join(folder, "model.safetensors"), weights, {})
        save(os.path.join(folder, "expect.safetensors"), expect, {"torch": torch.__version__})
        print(name, "loss", " ".join("%.4f" % v for v in expect["loss"]),
              "norm", " ".join("%.2f" % v for v in expect["norm"]))


if __name__ == "__main__":
    main()
