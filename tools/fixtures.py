#!/usr/bin/env python3
"""Writes test/fixtures: tiny models with inputs, outputs, gradients and five optimiser steps.

    tools/fixtures.py [--reference hf|torch|auto] [OUT]

The reference is Hugging Face's GPT2LMHeadModel where transformers is installed (`hf`), else the
plain module below (`torch`); with `hf` both are run and must agree. Computed in float64, stored in
float32. Debian's python3-torch is enough for `torch`; numpy and safetensors are not needed.

Every folder: config.json and model.safetensors as Hugging Face writes them, and expect.safetensors:
  ids, targets (B, T) int32 (target -100: ignored), logits (B, T, V), nll (B, T) per token,
  loss () mean over the targets that count, grad.NAME of that mean,
  step.ids, step.targets (5, B, T), step.loss, step.norm (5) before clipping, after.NAME: weights
  after the five AdamW steps, greedy (12): continuation of ids[0, :4].
"""
# SPDX-License-Identifier: MIT
import argparse
import json
import math
import os
import random
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F

# eps is far above float32 noise in gradients that are zero in theory (key biases).
STEPS, LR, BETAS, EPS, DECAY, CLIP = 5, 1e-2, (0.9, 0.95), 1e-4, 0.1, 1.0
TINY = dict(vocab_size=97, n_positions=16, n_embd=24, n_layer=2, n_head=3, n_inner=None,
            activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            layer_norm_epsilon=1e-5, initializer_range=0.02, scale_attn_weights=True,
            scale_attn_by_inverse_layer_idx=False, tie_word_embeddings=True, bos_token_id=96,
            eos_token_id=96)
MODELS = {
    "gpt2_tanh": {},
    "gpt2_erf": dict(activation_function="gelu", n_inner=40, scale_attn_by_inverse_layer_idx=True),
    "gpt2_untied": dict(tie_word_embeddings=False, n_layer=1, scale_attn_weights=False,
                        layer_norm_epsilon=1e-3),
}


class Conv1D(nn.Module):
    """y = x W + b with W (in, out): how GPT-2 stores its matrices."""

    def __init__(self, inp, out):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inp, out))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x):
        return x @ self.weight + self.bias


class Block(nn.Module):
    def __init__(self, c, layer):
        super().__init__()
        width, inner = c["n_embd"], c["n_inner"] or 4 * c["n_embd"]
        self.heads = c["n_head"]
        self.scale = 1.0
        if c["scale_attn_weights"]:
            self.scale /= math.sqrt(width // self.heads)
        if c["scale_attn_by_inverse_layer_idx"]:
            self.scale /= layer + 1
        self.tanh = c["activation_function"] == "gelu_new"
        self.ln_1 = nn.LayerNorm(width, eps=c["layer_norm_epsilon"])
        self.attn = nn.ModuleDict({"c_attn": Conv1D(width, 3 * width),
                                   "c_proj": Conv1D(width, width)})
        self.ln_2 = nn.LayerNorm(width, eps=c["layer_norm_epsilon"])
        self.mlp = nn.ModuleDict({"c_fc": Conv1D(width, inner), "c_proj": Conv1D(inner, width)})

    def gelu(self, x):
        if not self.tanh:
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2)
                   for y in self.attn["c_attn"](self.ln_1(x)).split(w, 2))
        s = q @ k.transpose(-2, -1) * self.scale
        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -math.inf)
        a = (s.softmax(-1) @ v).transpose(1, 2).reshape(b, t, w)
        x = x + self.attn["c_proj"](a)
        return x + self.mlp["c_proj"](self.gelu(self.mlp["c_fc"](self.ln_2(x))))


class GPT2(nn.Module):
    """Written from the equations of GPT-2, with Hugging Face's parameter names."""

    def __init__(self, c):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(c["vocab_size"], c["n_embd"]),
            "wpe": nn.Embedding(c["n_positions"], c["n_embd"]),
            "h": nn.ModuleList(Block(c, i) for i in range(c["n_layer"])),
            "ln_f": nn.LayerNorm(c["n_embd"], eps=c["layer_norm_epsilon"])})
        self.lm_head = nn.Linear(c["n_embd"], c["vocab_size"], bias=False)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, ids):
        t = self.transformer
        x = t["wte"](ids) + t["wpe"](torch.arange(ids.shape[1]))
        for block in t["h"]:
            x = block(x)
        return self.lm_head(t["ln_f"](x))


class HF(nn.Module):
    def __init__(self, c):
        super().__init__()
        import transformers
        config = transformers.GPT2Config(**c, attn_implementation="eager", use_cache=False)
        self.model = transformers.GPT2LMHeadModel(config)

    def forward(self, ids):
        return self.model(ids).logits

    def named_parameters(self, *args, **kwargs):
        return self.model.named_parameters(*args, **kwargs)


def fill(model, seed):
    """Numbers that do not depend on torch's version, large enough that every part matters."""
    rng = random.Random(seed)
    for name, p in sorted(model.named_parameters()):
        norm = ".ln_" in name and name.endswith("weight")
        values = [rng.gauss(1.0, 0.2) if norm else rng.gauss(0.0, 0.15) for _ in range(p.numel())]
        with torch.no_grad():
            p.copy_(torch.tensor(values, dtype=torch.float32).view(p.shape))
    return model.double().eval()


def batch(c, rng, b, t):
    """Token ids with targets, some of which do not count."""
    ids = [[rng.randrange(c["vocab_size"]) for _ in range(t)] for _ in range(b)]
    targets = [[rng.randrange(c["vocab_size"]) if rng.random() > 0.15 else -100 for _ in range(t)]
               for _ in range(b)]
    return torch.tensor(ids), torch.tensor(targets)


def losses(logits, targets):
    nll = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1),
                          ignore_index=-100, reduction="none").view(targets.shape)
    return nll, nll.sum() / (targets >= 0).sum()


def expect(model, c):
    out, rng = {}, random.Random(7)
    ids, targets = batch(c, rng, 3, c["n_positions"] - 3)
    logits = model(ids)
    nll, loss = losses(logits, targets)
    model.zero_grad()
    loss.backward()
    out.update(ids=ids.int(), targets=targets.int(), logits=logits, nll=nll, loss=loss)
    for name, p in model.named_parameters():
        out["grad." + name] = p.grad.clone()

    with torch.no_grad():
        text = ids[:1, :4]
        for _ in range(12):
            text = torch.cat([text, model(text)[:, -1].argmax(-1, keepdim=True)], 1)
    out["greedy"] = text[0, 4:].int()

    named = list(model.named_parameters())
    groups = [dict(params=[p for _, p in named if p.dim() > 1], weight_decay=DECAY),
              dict(params=[p for _, p in named if p.dim() == 1], weight_decay=0.0)]
    adam = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    steps = [batch(c, rng, 3, c["n_positions"]) for _ in range(STEPS)]
    sums, norms = [], []
    for ids, targets in steps:
        adam.zero_grad()
        _, loss = losses(model(ids), targets)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_([p for _, p in named], CLIP).item())
        adam.step()
        sums.append(loss.item())
    out["step.ids"] = torch.stack([s[0] for s in steps]).int()
    out["step.targets"] = torch.stack([s[1] for s in steps]).int()
    out["step.loss"], out["step.norm"] = torch.tensor(sums), torch.tensor(norms)
    for name, p in named:
        out["after." + name] = p.detach().clone()
    return out


def save(path, tensors, meta):
    """The safetensors format: length, JSON header, raw little-endian data."""
    header, blobs, at = {"__metadata__": dict(meta, format="pt")}, [], 0
    for name in sorted(tensors):
        t = tensors[name].detach()
        ints = t.dtype in (torch.int32, torch.int64)
        flat = t.to(torch.int32 if ints else torch.float32).reshape(-1).tolist()
        blob = struct.pack("<%d%s" % (len(flat), "i" if ints else "f"), *flat)
        header[name] = {"dtype": "I32" if ints else "F32", "shape": list(t.shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def check_same(a, b):
    for key in a:
        if key != "greedy" and (a[key].double() - b[key].double()).abs().max() > 1e-9:
            raise SystemExit(f"the two references differ in {key}")
    if not torch.equal(a["greedy"], b["greedy"]):
        raise SystemExit("the two references differ in greedy")


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--reference", choices=["hf", "torch", "auto"], default="auto")
    args.add_argument("out", nargs="?", default=os.path.join(os.path.dirname(__file__), "..",
                                                             "test", "fixtures"))
    args = args.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    hf = args.reference == "hf"
    meta = {"torch": torch.__version__, "reference": "torch"}
    if args.reference != "torch":
        try:
            import transformers
            meta.update(reference="hf", transformers=transformers.__version__)
            hf = True
        except ImportError:
            if hf:
                raise
    for seed, (name, change) in enumerate(MODELS.items()):
        c = dict(TINY, **change)
        dir_ = os.path.join(args.out, name)
        os.makedirs(dir_, exist_ok=True)
        model = fill(GPT2(c), seed)
        weights = {k: p.detach().clone() for k, p in model.named_parameters()}
        found = expect(model, c)
        config = dict(c, model_type="gpt2", architectures=["GPT2LMHeadModel"])
        if hf:
            model = fill(HF(c), seed)
            theirs = expect(model, c)
            check_same(found, theirs)
            found = theirs
            config = json.loads(model.model.config.to_json_string())
            config["architectures"] = ["GPT2LMHeadModel"]
        with open(os.path.join(dir_, "config.json"), "w") as f:
            f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save(os.path.join(dir_, "model.safetensors"), weights, {})
        save(os.path.join(dir_, "expect.safetensors"), found, meta)
        print(name, "loss %.6f" % found["loss"].item(), "norms",
              " ".join("%.3f" % v for v in found["step.norm"].tolist()))


if __name__ == "__main__":
    main()
