#!/usr/bin/python3
"""The PyTorch peer: GPT-2 on the CPU, eager, float32 or bfloat16, with random weights.

    torch_gpt2.py train|forward|decode [--dtype float32|bfloat16] [--batch 1] [--len 1024]
                  [--seconds 20] [--threads N] [--layers 12] [--width 768] [--heads 12]

Prints one JSON object: tokens/s of every repetition, in order. Debian's python3-torch (1.13) runs it;
newer versions take scaled_dot_product_attention. bench/run.sh sets the allocator and OpenMP
variables that make PyTorch fastest on a CPU, so that the comparison flatters nobody."""
# SPDX-License-Identifier: MIT
import argparse
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x, cache=None):
        batch, length, width = x.shape
        q, k, v = self.c_attn(x).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        if cache is not None:
            keys, values, past = cache
            keys[:, :, past:past + length] = k
            values[:, :, past:past + length] = v
            k, v = keys[:, :, :past + length], values[:, :, :past + length]
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            if length > 1:
                future = torch.ones(length, length, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(future, float("-inf"))
            y = F.softmax(scores, -1) @ v
        return self.c_proj(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache=None):
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, layers, width, heads, vocab=50257, context=1024):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)

    def forward(self, ids, targets=None, caches=None, past=0):
        x = self.wte(ids) + self.wpe(torch.arange(past, past + ids.shape[1]))
        for i, block in enumerate(self.h):
            x = block(x, None if caches is None else (*caches[i], past))
        logits = F.linear(self.ln_f(x), self.wte.weight)
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["train", "forward", "decode"])
    p.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    for name, default in (("batch", 1), ("len", 1024), ("threads", 0), ("layers", 12),
                          ("width", 768), ("heads", 12)):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--seconds", type=float, default=20.0)
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = GPT2(a.layers, a.width, a.heads)
    half = a.dtype == "bfloat16"
    ids = torch.randint(0, 50257, (a.batch, a.len))
    targets = torch.randint(0, 50257, (a.batch, a.len))
    tokens = a.batch * a.len
    if a.what == "train":
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)

        def run():
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                loss = model(ids, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    else:
        if half:
            model = model.bfloat16()
        past = min(a.len, 512)
        caches, step, state = None, ids, [0]
        if a.what == "decode":
            dtype = torch.bfloat16 if half else torch.float32
            shape = (a.batch, a.heads, 1024, a.width // a.heads)
            caches = [(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype))
                      for _ in range(a.layers)]
            step, tokens, state = ids[:, :1], a.batch, [past]

        @torch.no_grad()
        def run():
            model(step, caches=caches, past=state[0])
            if caches is not None:
                state[0] = state[0] + 1 if state[0] < 1000 else past
    rates = []
    run()
    start = time.perf_counter()
    while time.perf_counter() - start < a.seconds or len(rates) < 3:
        t = time.perf_counter()
        run()
        rates.append(tokens / (time.perf_counter() - t))
    print(json.dumps({"torch": torch.__version__, "what": a.what, "dtype": a.dtype,
                      "batch": a.batch, "len": a.len, "threads": torch.get_num_threads(),
                      "tokens_per_second": rates}))


main()
