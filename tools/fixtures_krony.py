#!/usr/bin/env python3
"""Writes test/fixtures/krony: checkpoints as Krony-PT, nanoGPT and Hugging Face save them, with the
logits and losses of a plain PyTorch model that multiplies the Kronecker products out.

    tools/fixtures_krony.py [OUT]

  krony.pt        Krony-PT's state dict: two terms and scalars, DDP's "module." before the names
  krony_old.pt    its form before March 2024 in PyTorch's old container: a pair of matrices a term,
                  of the transposed product; the same numbers, without scalars
  ckpt.pt         nanoGPT's: bias=False, a vocabulary padded to 104, torch.compile's prefix, half of
                  the numbers that surround a checkpoint of a training run
  hf/             pytorch_model.bin in two shards with their index, and config.json
  expect.safetensors   ids, targets; NAME.tanh and NAME.erf: logits, NAME.tanh.loss, NAME.erf.loss
Computed in float64, stored in float32.
"""
# SPDX-License-Identifier: MIT
import collections
import json
import math
import os
import random
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fixtures import losses, save  # noqa: E402

LAYERS, HEADS, WIDTH, INNER, CONTEXT, VOCAB, TERMS = 2, 3, 24, 96, 16, 97, 2
DIM1, DIM2 = 12, 32  # divisors of the width and of the inner width


def numbers(rng, *shape, mean=0.0, std=0.15):
    n = 1
    for s in shape:
        n *= s
    return torch.tensor([rng.gauss(mean, std) for _ in range(n)], dtype=torch.float32).view(shape)


def shell(rng, vocab, bias):
    """All of nanoGPT's state dict but the MLPs; matrices are (out, in)."""
    w = collections.OrderedDict()
    w["transformer.wte.weight"] = numbers(rng, vocab, WIDTH)
    w["transformer.wpe.weight"] = numbers(rng, CONTEXT, WIDTH)
    norms = ["ln_f"]
    for i in range(LAYERS):
        h = "transformer.h.%d." % i
        w[h + "attn.c_attn.weight"] = numbers(rng, 3 * WIDTH, WIDTH)
        w[h + "attn.c_proj.weight"] = numbers(rng, WIDTH, WIDTH)
        if bias:
            w[h + "attn.c_attn.bias"] = numbers(rng, 3 * WIDTH)
            w[h + "attn.c_proj.bias"] = numbers(rng, WIDTH)
        norms += ["h.%d.ln_1" % i, "h.%d.ln_2" % i]
    for n in norms:
        w["transformer.%s.weight" % n] = numbers(rng, WIDTH, mean=1.0)
        if bias:
            w["transformer.%s.bias" % n] = numbers(rng, WIDTH)
    w["lm_head.weight"] = w["transformer.wte.weight"]
    return w


def krony(rng, scalars):
    w = shell(rng, VOCAB, True)
    for i in range(LAYERS):
        h = "transformer.h.%d.mlp." % i
        w[h + "c_fc_0"] = numbers(rng, TERMS, DIM1, DIM2)
        w[h + "c_fc_1"] = numbers(rng, TERMS, WIDTH // DIM1, INNER // DIM2, std=1.0)
        w[h + "c_proj_0"] = numbers(rng, TERMS, DIM2, DIM1)
        w[h + "c_proj_1"] = numbers(rng, TERMS, INNER // DIM2, WIDTH // DIM1, std=1.0)
        w[h + "c_fc_bias"] = numbers(rng, INNER)
        w[h + "c_proj_bias"] = numbers(rng, WIDTH)
        if scalars:
            w[h + "scalers_fc"] = numbers(rng, TERMS, mean=1.0, std=0.5)
            w[h + "scalers_proj"] = numbers(rng, TERMS, mean=1.0, std=0.5)
    return w


def obsolete(w):
    """Krony-PT's first names: the product is W^T, so each factor is the transpose."""
    out = collections.OrderedDict()
    for name, t in w.items():
        if name.endswith(("_0", "_1")):
            for f in range(TERMS):
                out["%s_%d_%s" % (name[:-2], f, name[-1])] = t[f].T.contiguous()
        else:
            out[name] = t
    return out


def nanogpt(rng):
    w = shell(rng, 104, False)
    for i in range(LAYERS):
        h = "transformer.h.%d.mlp." % i
        w[h + "c_fc.weight"] = numbers(rng, INNER, WIDTH)
        w[h + "c_proj.weight"] = numbers(rng, WIDTH, INNER)
    return w


def mlp_matrix(w, h, name):
    """(in, out), and its bias."""
    zero = torch.zeros(1, dtype=torch.float64)
    if h + "mlp.%s.weight" % name in w:
        return w[h + "mlp.%s.weight" % name].T, w.get(h + "mlp.%s.bias" % name, zero)
    a, b = w[h + "mlp.%s_0" % name], w[h + "mlp.%s_1" % name]
    s = w.get(h + "mlp.scalers_%s" % name.split("_")[1], torch.ones(TERMS, dtype=torch.float64))
    product = sum(s[f] * torch.kron(a[f], b[f]) for f in range(TERMS))
    return product, w[h + "mlp.%s_bias" % name]


def forward(w, ids, tanh):
    w = {k: v.double() for k, v in w.items()}

    def norm(x, n):
        return F.layer_norm(x, (WIDTH,), w[n + ".weight"], w.get(n + ".bias"), 1e-5)

    def gelu(x):
        if not tanh:
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))

    b, t = ids.shape
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:t]
    for i in range(LAYERS):
        h = "transformer.h.%d." % i
        qkv = F.linear(norm(x, h + "ln_1"), w[h + "attn.c_attn.weight"],
                       w.get(h + "attn.c_attn.bias"))
        q, k, v = (y.view(b, t, HEADS, -1).transpose(1, 2) for y in qkv.split(WIDTH, 2))
        s = q @ k.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)
        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -math.inf)
        a = (s.softmax(-1) @ v).transpose(1, 2).reshape(b, t, WIDTH)
        x = x + F.linear(a, w[h + "attn.c_proj.weight"], w.get(h + "attn.c_proj.bias"))
        m, c = mlp_matrix(w, h, "c_fc")
        y = gelu(norm(x, h + "ln_2") @ m + c)
        m, c = mlp_matrix(w, h, "c_proj")
        x = x + y @ m + c
    return F.linear(norm(x, "transformer.ln_f"), w["lm_head.weight"])


def hf_folder(w, dir_):
    """The same weights as a Hugging Face folder: (in, out), two shards, products multiplied out."""
    out, double = collections.OrderedDict(), {k: v.double() for k, v in w.items()}
    for name, t in w.items():
        if ".attn.c_" in name and t.dim() == 2:
            out[name] = t.T.contiguous()
        elif ".mlp." not in name and name != "lm_head.weight":
            out[name] = t
    for i in range(LAYERS):
        h = "transformer.h.%d." % i
        for matrix in ("c_fc", "c_proj"):
            m, c = mlp_matrix(double, h, matrix)
            out[h + "mlp.%s.weight" % matrix] = m.float().contiguous()
            out[h + "mlp.%s.bias" % matrix] = c.float()
    names, half = list(out), len(out) // 2
    file = ["pytorch_model-0000%d-of-00002.bin" % i for i in (1, 2)]
    torch.save({n: out[n] for n in names[:half]}, os.path.join(dir_, file[0]))
    torch.save({n: out[n] for n in names[half:]}, os.path.join(dir_, file[1]))
    index = {"metadata": {"total_size": sum(4 * t.numel() for t in out.values())},
             "weight_map": {n: file[i >= half] for i, n in enumerate(names)}}
    config = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=VOCAB,
                  n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    for name, j in ("pytorch_model.bin.index.json", index), ("config.json", config):
        with open(os.path.join(dir_, name), "w") as f:
            f.write(json.dumps(j, indent=2) + "\n")


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "test", "fixtures")
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "krony")
    os.makedirs(os.path.join(out, "hf"), exist_ok=True)
    torch.set_num_threads(1)
    at = lambda name: os.path.join(out, name)
    rng = random.Random(11)
    models = {"krony": krony(rng, True), "krony_old": krony(rng, False), "ckpt": nanogpt(rng)}
    torch.save(collections.OrderedDict(("module." + k, v) for k, v in models["krony"].items()),
               at("krony.pt"))
    torch.save(obsolete(models["krony_old"]), at("krony_old.pt"),
               _use_new_zipfile_serialization=False)
    args = dict(n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, block_size=CONTEXT, bias=False,
                vocab_size=104, dropout=0.1)
    torch.save({"model": collections.OrderedDict(("_orig_mod." + k, v)
                                                 for k, v in models["ckpt"].items()),
                "optimizer": {"state": {}, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95),
                                                             "params": [0, 1]}]},
                "model_args": args, "iter_num": 250, "best_val_loss": torch.tensor(1.47),
                "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "compile": True}},
               at("ckpt.pt"))
    hf_folder(models["krony"], at("hf"))
    ids = torch.tensor([[rng.randrange(VOCAB) for _ in range(13)] for _ in range(3)])
    targets = torch.tensor([[rng.randrange(VOCAB) for _ in range(13)] for _ in range(3)])
    found = {"ids": ids.int(), "targets": targets.int()}
    for name, w in models.items():
        for kind in ("tanh", "erf"):
            logits = forward(w, ids, kind == "tanh")
            found["%s.%s" % (name, kind)] = logits
            found["%s.%s.loss" % (name, kind)] = losses(logits, targets)[1]
        print(name, "loss %.6f, %.6f" % (found[name + ".tanh.loss"], found[name + ".erf.loss"]))
    save(at("expect.safetensors"), found, {"torch": torch.__version__})


if __name__ == "__main__":
    main()
