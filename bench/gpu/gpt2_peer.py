#!/usr/bin/env python3
"""PyTorch's GPT-2 124M on a GPU, bfloat16: training steps (torch.compile, autocast, fused AdamW,
clipping), forward with loss (compiled, bfloat16 weights), both of 32 x 1,024 tokens, and decoding
one token at position 512 (a CUDA graph of the plain and of the compiled model, replayed without
a wait in between). Rows of bench/gpu/gpt2.sh: what, round, tokens a second.

    gpt2_peer.py train|forward|decode ...

SPDX-License-Identifier: MIT
"""
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, LAYERS, HEADS, VOCAB, CONTEXT, BATCH, AT = 768, 12, 12, 50257, 1024, 32, 512


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, cache=None, at=None, mask=None):
        batch, length, _ = x.shape
        q, k, v = (t.view(batch, length, HEADS, -1).transpose(1, 2)
                   for t in self.c_attn(x).split(WIDTH, 2))
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            cache[0].index_copy_(2, at, k)
            cache[1].index_copy_(2, at, v)
            y = F.scaled_dot_product_attention(q, *cache, attn_mask=mask)
        return self.c_proj(y.transpose(1, 2).reshape(batch, length, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2, self.attn = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Attention()
        self.c_fc, self.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, *cached):
        x = x + self.attn(self.ln_1(x), *cached)
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.h, self.ln_f = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02)

    def forward(self, ids, targets=None, caches=None, at=None, mask=None):
        places = torch.arange(ids.shape[1], device="cuda") if at is None else at
        x = self.wte(ids) + self.wpe(places)
        for i, block in enumerate(self.h):
            x = block(x, *((caches[i], at, mask) if caches else ()))
        y = F.linear(self.ln_f(x), self.wte.weight)
        return y if targets is None else F.cross_entropy(y.float().view(-1, VOCAB), targets.view(-1))


def report(name, tokens, run, times):
    for _ in range(5):
        run()
    for n in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            run()
        torch.cuda.synchronize()
        print(f"{name}\t{n + 1}\t{tokens * times / (time.perf_counter() - start):.0f}", flush=True)


def batch():
    ids = torch.randint(0, VOCAB, (BATCH, CONTEXT + 1))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def train():
    model = GPT2()
    fast, (x, y) = torch.compile(model), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = fast(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    report("peer: train, torch.compile", BATCH * CONTEXT, step, 20)


@torch.no_grad()
def forward():
    model, (x, y) = torch.compile(GPT2().bfloat16()), batch()
    report("peer: forward and loss, torch.compile", BATCH * CONTEXT, lambda: model(x, y), 20)


@torch.no_grad()
def decode():
    model, half = GPT2().bfloat16(), torch.bfloat16
    shape = (1, HEADS, CONTEXT, WIDTH // HEADS)
    caches = [(torch.randn(shape, dtype=half), torch.randn(shape, dtype=half))
              for _ in range(LAYERS)]
    ids, at = torch.ones(1, 1, dtype=torch.long), torch.tensor([AT])
    mask = (torch.arange(CONTEXT) <= AT).view(1, 1, 1, CONTEXT)
    for name, run in (("eager", model), ("torch.compile", torch.compile(model))):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(3):
                run(ids, None, caches, at, mask)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run(ids, None, caches, at, mask)
        report(f"peer: decode, {name} and CUDA graph", 1, graph.replay, 200)


torch.manual_seed(0)
torch.set_default_device("cuda")
torch.set_float32_matmul_precision("high")
for what in sys.argv[1:]:
    {"train": train, "forward": forward, "decode": decode}[what]()
