#!/usr/bin/env python3
"""Makes test/fixtures/fly with Debian's python3-torch: GPT-2s whose layers are those of HazyResearch
fly and of the released SS1, under the names that a state_dict has there, and their logits.

    tools/fixtures_fly.py [OUT]

fly.ckpt   a Lightning checkpoint, every block another layer: Monarch, block-diagonal (with Monarch
           attention), low rank, the fork's low rank (with its dead bias, attention too), butterfly
           tiles in fly's three layouts, gated and ungated sums, SS1, dense
ss1.pt     a legacy archive under Hugging Face's names with a "module." prefix: SS1 with inputs that
           do not divide, the hash constants of block 1 stored beside it
The layers are written from their formulas (the SS1 one as the loops of the released kernel, with the
input padded by zeros), in float64; weights are exact in float16, in which they are stored.
"""
# SPDX-License-Identifier: MIT
import json
import math
import os
import sys

import torch

torch.set_default_dtype(torch.float64)
draws = torch.Generator().manual_seed(20221127)


def rand(*shape, scale=0.3):
    return (torch.randn(*shape, generator=draws) * scale).half().double()


# ---- layers: each returns its tensors and y(x) ----------------------------------------------------

def monarch(n, m, b=4):
    p, s = -(-n // b), -(-m // b)
    q = min(p, s)
    w1, w2, bias = rand(b, q, p), rand(b, s, q), rand(m)

    def run(x):
        t = torch.zeros(x.shape[0], b * q)
        x = torch.nn.functional.pad(x, (0, b * p - n))
        for k in range(b):
            t[:, k * q:(k + 1) * q] = x[:, k * p:(k + 1) * p] @ w1[k].T
        y = torch.zeros(x.shape[0], b * s)
        for l in range(b):
            y[:, l::b] = t[:, l::b] @ w2[l].T
        return y[:, :m] + bias
    return {"blkdiag1": w1, "blkdiag2": w2, "bias": bias}, run


def blockdiag(n, m, b=4):
    p, s = n // b, m // b
    w, bias = rand(b, s, p), rand(m)

    def run(x):
        return torch.cat([x[:, k * p:(k + 1) * p] @ w[k].T for k in range(b)], 1) + bias
    return {"weight": w, "bias": bias}, run


def lowrank(n, m, r=5):
    v, u, bias = rand(r, n), rand(m, r), rand(m)
    return {"lr_weight1": v, "lr_weight2": u, "bias": bias}, lambda x: x @ v.T @ u.T + bias


def fork_lowrank(n, m, r=6):
    v, u, bias = rand(r, n), rand(m, r), rand(m)
    return ({"module.0.weight": v, "module.1.weight": u, "module.1.bias": bias, "bias": rand(m)},
            lambda x: x @ v.T @ u.T + bias)


def butterfly(n, m, form="plain", size=4, factors=1, block=8):
    cell = torch.eye(size, dtype=torch.bool)
    for e in range(factors):
        for i in range(size):
            cell[i, i ^ 1 << e] = True
    entry = cell[torch.arange(m) * size // m][:, torch.arange(n) * size // n]
    on = entry.reshape(m // block, block, n // block, block).any(3).any(1)
    tiles, bias = rand(int(on.sum()), block, block), rand(m)
    w = torch.zeros(m // block, n // block, block, block)
    w[on] = tiles
    w = w.transpose(1, 2).reshape(m, n)
    stored = {"plain": tiles, "triton": tiles[None],
              "huggingface": tiles.transpose(1, 2).reshape(-1, block)}[form]
    return {"weight": stored, "layout": on.int(), "bias": bias}, lambda x: x @ w.T + bias


def summed(sparse, gate):
    def make(n, m):
        part, s = sparse(n, m)
        low, l = lowrank(n, m, 3)
        bias, wg, bg = rand(m), rand(1, n), rand(1)
        t = {"sparse." + k: v for k, v in part.items() if k != "bias"}
        t.update({"low_rank." + k: v for k, v in low.items() if k != "bias"}, bias=bias)
        if gate:
            t.update({"gate.weight": wg, "gate.bias": bg})

        def run(x):
            g = torch.sigmoid(x @ wg.T + bg) if gate else 0.5
            return (1 - g) * (s(x) - part["bias"]) + g * (l(x) - low["bias"]) + bias
        return t, run
    return make


def ss1(c, bk, bn, vec, r):
    def make(n, m):
        supers, width = -(-n // (c * bk)), -(-(n // c) // bk) * bk
        assert width == supers * bk
        w, bias = rand(m, width), rand(m)

        def run(x):
            x = torch.nn.functional.pad(x, (0, supers * c * bk - n))
            y = bias.repeat(len(x), 1)
            for p in range(-(-m // bn)):
                rows = slice(p * bn, min(m, (p + 1) * bn))
                for k in range(supers):
                    a = torch.zeros(len(x), bk)
                    for l in range(c):
                        rot = (r[3] + r[2] * p + r[1] * (k + 1) + r[0] * (l + 1)) * vec % bk
                        at = (k * c + l) * bk
                        a += torch.roll(x[:, at:at + bk], -rot, 1)
                    y[:, rows] += a @ w[rows, k * bk:(k + 1) * bk].T
            return y
        return {"weight": w, "bias": bias}, run
    return make


def linear(n, m):
    w, bias = rand(m, n), rand(m)
    return {"weight": w, "bias": bias}, lambda x: x @ w.T + bias


def conv1d(n, m):
    w, bias = rand(n, m), rand(m)
    return {"weight": w, "bias": bias}, lambda x: x @ w + bias


def constants(version, seed):
    """As the releases draw them."""
    g = torch.Generator().manual_seed(seed)
    if version == 3:
        return [45007] + torch.randint(0, 45007, (3,), generator=g).tolist()
    return (2 * torch.randint(1, 92387 // 2 - 1, (4,), generator=g) + 1).tolist()


# ---- the network ----------------------------------------------------------------------------------

def gelu(x, tanh):
    if not tanh:
        return torch.nn.functional.gelu(x)
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def network(d, inner, heads, vocab, context, blocks, names, tanh, inverse, head=None):
    """blocks: (c_attn, attn c_proj, fc, proj) makers; names: of the two MLP matrices; head: a maker, or
    None: the embedding."""
    t = {"wte.weight": rand(vocab, d), "wpe.weight": rand(context, d)}
    runs = []
    for i, makers in enumerate(blocks):
        sides = [(d, 3 * d), (d, d), (d, inner), (inner, d)]
        own = []
        for make, side, name in zip(makers, sides, ("attn.c_attn", "attn.c_proj") + names):
            part, run = make(*side)
            t.update({"h.%d.%s.%s" % (i, name, k): v for k, v in part.items()})
            own.append(run)
        for ln in ("ln_1", "ln_2"):
            t["h.%d.%s.weight" % (i, ln)] = (1 + rand(d)).half().double()
            t["h.%d.%s.bias" % (i, ln)] = rand(d)
        t["h.%d.attn.bias" % i] = torch.tril(torch.ones(context, context)).bool()[None, None]
        t["h.%d.attn.masked_bias" % i] = torch.tensor(-1e4)
        runs.append(own)
    if head:
        part, own_head = head(d, vocab)
        t.update({"lm_head." + k: v for k, v in part.items()})
    t["ln_f.weight"], t["ln_f.bias"] = (1 + rand(d)).half().double(), rand(d)

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, (d,), t[name + ".weight"], t[name + ".bias"], 1e-5)

    def forward(ids):
        n = len(ids)
        x = t["wte.weight"][ids] + t["wpe.weight"][:n]
        for i, (attn, out, fc, proj) in enumerate(runs):
            q, k, v = attn(norm(x, "h.%d.ln_1" % i)).reshape(n, 3, heads, -1).permute(1, 2, 0, 3)
            s = q @ k.transpose(1, 2) / math.sqrt(d // heads) / ((i + 1) if inverse else 1)
            s = s.masked_fill(torch.triu(torch.ones(n, n), 1).bool(), -math.inf).softmax(-1)
            x = x + out((s @ v).transpose(0, 1).reshape(n, d))
            x = x + proj(gelu(fc(norm(x, "h.%d.ln_2" % i)), tanh))
        x = norm(x, "ln_f")
        return own_head(x) if head else x @ t["wte.weight"].T
    return t, forward


def stored(t, prefix):
    """As a state_dict has it, where lm_head.weight is tied to the embedding."""
    out = {prefix + ("" if k.startswith("lm_head.") else "transformer.") + k:
           v.half() if v.dtype == torch.float64 else v for k, v in t.items()}
    out[prefix + "lm_head.weight"] = out[prefix + "transformer.wte.weight"]
    return out


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../test/fixtures/fly")
    os.makedirs(out, exist_ok=True)
    ids, expect = [3, 1, 4, 1, 5, 9, 2, 6], {}
    dense = (conv1d, conv1d)
    both = [(*dense, make, make) for make in (
        monarch, lowrank, butterfly, lambda n, m: butterfly(n, m, "huggingface"),
        lambda n, m: butterfly(n, m, "triton"), summed(butterfly, True), summed(blockdiag, False),
        summed(monarch, True), ss1(2, 8, 16, 4, constants(3, 1111)), linear)]
    both += [(monarch, monarch, blockdiag, blockdiag), (fork_lowrank,) * 4]
    t, run = network(32, 64, 4, 12, 8, both, ("mlp.fc1", "mlp.fc2"), False, True)
    torch.save({"epoch": 1, "global_step": 3, "state_dict": stored(t, "model."),
                "hyper_parameters": {"lr": 6e-4}}, os.path.join(out, "fly.ckpt"))
    expect["fly.ckpt"] = {"ids": ids, "logits": run(ids).reshape(-1).tolist()}
    blocks = []
    for version, seed in ((1, 42), (3, 1025)):
        make = ss1(2, 16, 32, 4, constants(version, seed))
        blocks.append((make, conv1d, make, make))
    t, run = network(48, 80, 4, 12, 8, blocks, ("mlp.c_fc", "mlp.c_proj"), True, False)
    for name in ("attn.c_attn", "mlp.c_fc", "mlp.c_proj"):
        t["h.1.%s.random_numbers" % name] = torch.tensor(constants(3, 1025))
    torch.save(stored(t, "module."), os.path.join(out, "ss1.pt"),
               _use_new_zipfile_serialization=False)
    expect["ss1.pt"] = {"ids": ids, "logits": run(ids).reshape(-1).tolist()}
    for e in expect.values():
        e["logits"] = [float("%.8g" % v) for v in e["logits"]]
    with open(os.path.join(out, "expect.json"), "w") as f:
        json.dump(expect, f)
        f.write("\n")


def write(out, name, prefix, t, run, ids, expect, **how):
    torch.save({"epoch": 1, "global_step": 3, "state_dict": stored(t, prefix)},
               os.path.join(out, name), **how)
    expect[name] = {"ids": ids, "logits": [float("%.8g" % v) for v in run(ids).reshape(-1).tolist()]}


if __name__ == "__main__":
    main()
