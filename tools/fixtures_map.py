#!/usr/bin/env python3
"""Writes test/fixtures/map/maps.json: every matrix type on tiny inputs, with all gradients.

    tools/fixtures_map.py [OUT]

Each type is written down a second time, in PyTorch, from its paper or the code it comes from (fly's
Monarch as reshapes and batched products, SS1 as the dense matrix of the released index map,
Kronecker sums through torch.kron), so that a convention that our own laws cannot see - an order of
indices changed in all places alike - shows. Computed in float64, stored with 9 digits: float32.
Needs Debian's python3-torch only.
"""
# SPDX-License-Identifier: MIT
import json
import math
import os
import sys

import torch

torch.manual_seed(20240607)
torch.set_default_dtype(torch.float64)


def pad(x, width):
    return torch.nn.functional.pad(x, (0, width - x.shape[-1]))


def dense(t, x, out):
    return torch.nn.functional.linear(x, t["weight"])


def lowrank(t, x, out):
    linear = torch.nn.functional.linear
    return linear(linear(x, t["v"]), t["u"])


def blockdiag(t, x, out):
    w = t["blocks"]
    b, _, p = w.shape
    y = torch.einsum("nbi,boi->nbo", pad(x, b * p).reshape(len(x), b, p), w)
    return y.reshape(len(x), -1)[:, :out]


def monarch(t, x, out):
    w1, w2 = t["l1"], t["l2"]
    n, (k, q, p), (l, s, r) = len(x), w1.shape, w2.shape
    u = torch.bmm(pad(x, k * p).reshape(n, k, p).transpose(0, 1), w1.transpose(1, 2))  # (k, n, q)
    v = u.transpose(0, 1).reshape(n, r, l).transpose(-1, -2).transpose(0, 1)  # (l, n, r)
    y = torch.bmm(v, w2.transpose(1, 2)).permute(1, 2, 0).reshape(n, s * l)
    return y[:, :out]


def butterfly_layout(out, fan_in, size, factors, block):
    """Which block x block tiles are on: a size x size grid of cells, each entry of the padded matrix
    asked for its cell, each tile for its entries."""
    cell = torch.eye(size, dtype=torch.bool)
    for e in range(factors):
        for i in range(size):
            cell[i, i ^ 1 << e] = True
    rows, cols = -(-out // block) * block, -(-fan_in // block) * block
    entry = cell[torch.arange(rows) * size // rows][:, torch.arange(cols) * size // cols]
    return entry.reshape(rows // block, block, cols // block, block).any(3).any(1)


def butterfly(size, factors, block):
    def run(t, x, out):
        on = butterfly_layout(out, x.shape[1], size, factors, block)
        w = torch.zeros(on.shape[0], on.shape[1], block, block)
        w[on] = t["tiles"]  # by tile row, then tile column
        w = w.transpose(1, 2).reshape(on.shape[0] * block, -1)
        return (pad(x, w.shape[1]) @ w.T)[:, :out]
    return run


def kron(t, x, out):
    s = t.get("s", torch.ones(len(t["a"])))
    return x @ sum(s[f] * torch.kron(t["a"][f], t["b"][f]) for f in range(len(s)))


def ss1(t, x, out, c=2, bk=4, vec=1, r0=45007):
    """The stored weight is the release's with its row order undone, so r1..r3 do not appear."""
    w, fan_in = t["weight"], x.shape[1]
    rows = []
    for col in range(fan_in):
        block, o = divmod(col, bk)
        k, l = divmod(block, c)
        rows.append(w[:, k * bk + (o - r0 * (l + 1) * vec) % bk])
    return x @ torch.stack(rows)


def btt(m1, n1, group=0):
    """W[(a, b), (i, j)] = sum_k L[a, b, i, k] R[i, a, k, j] (Qiu et al. 2024), written out whole; with
    a group its rows stand as (b div group, a, b mod group), which is fly's BlockdiagButterflyLinear."""
    def run(t, x, out):
        r = t["r"].reshape(m1, n1, -1, x.shape[1] // m1)
        l = t["l"].reshape(n1, out // n1, m1, -1)
        w = torch.einsum("abik,iakj->abij", l, r)
        if group:
            w = w.reshape(n1, -1, group, m1, r.shape[3]).transpose(0, 1)
        return x @ w.reshape(out, x.shape[1]).T
    return run


def gated(sparse, mean=False):
    def run(t, x, out):
        part = {k.split(".", 1)[1]: v for k, v in t.items() if not k.startswith(("lowrank", "gate"))}
        low = {k[len("lowrank."):]: v for k, v in t.items() if k.startswith("lowrank.")}
        s, l = sparse(part, x, out), lowrank(low, x, out)
        if "gate.weight" not in t:
            return (s + l) / 2 if mean else s + l
        g = torch.sigmoid(torch.nn.functional.linear(x, t["gate.weight"], t["gate.bias"]))
        return (1 - g) * s + g * l
    return run


# Tiles of fly's GPT-2 layers, by its code: (outputs, inputs, size, factors, block, tiles).
TILES = [(3072, 768, 16, 2, 32, 480), (768, 3072, 16, 2, 32, 480), (4096, 1024, 16, 2, 32, 768),
         (3072, 768, 8, 2, 32, 864), (768, 768, 16, 2, 32, 128)]
for *shape, tiles in TILES:
    assert butterfly_layout(*shape).sum() == tiles

CASES = [
    ("dense", 5, 7, dense, {"weight": (7, 5)}),
    ("lowrank:rank=3", 5, 7, lowrank, {"u": (7, 3), "v": (3, 5)}),
    ("blockdiag:blocks=3", 7, 8, blockdiag, {"blocks": (3, 3, 3)}),
    ("monarch:blocks=2", 8, 12, monarch, {"l1": (2, 4, 4), "l2": (2, 6, 4)}),
    ("monarch:blocks=2", 12, 8, monarch, {"l1": (2, 4, 6), "l2": (2, 4, 4)}),
    ("monarch:blocks=4", 22, 25, monarch, {"l1": (4, 6, 6), "l2": (4, 7, 6)}),
    ("monarch:blocks=3,inner=5", 9, 11, monarch, {"l1": (3, 5, 3), "l2": (3, 4, 5)}),
    ("kron:terms=1,m1=6,n1=4", 6, 8, kron, {"a": (1, 6, 4), "b": (1, 1, 2)}),
    ("kron:terms=1,m1=4,n1=6", 8, 6, kron, {"a": (1, 4, 6), "b": (1, 2, 1)}),
    ("kron:terms=2,m1=4,n1=3,scalars=1", 12, 21, kron, {"a": (2, 4, 3), "b": (2, 3, 7), "s": (2,)}),
    ("kron:terms=2,m1=6,n1=4,scalars=1", 30, 8, kron, {"a": (2, 6, 4), "b": (2, 5, 2), "s": (2,)}),
    ("kron:terms=3,m1=4,n1=6", 8, 12, kron, {"a": (3, 4, 6), "b": (3, 2, 2)}),
    ("ss1:factor=2,bk=4,vec=1", 16, 5, ss1, {"weight": (5, 8)}),
    ("ss1:factor=2,bk=4,vec=1", 13, 5, ss1, {"weight": (5, 8)}),
    ("lowrank:rank=2+blockdiag:blocks=2", 6, 8, gated(blockdiag),
     {"lowrank.u": (8, 2), "lowrank.v": (2, 6), "blockdiag.blocks": (2, 4, 3)}),
    ("lowrank:rank=2+monarch:blocks=2+gate", 8, 6, gated(monarch),
     {"lowrank.u": (6, 2), "lowrank.v": (2, 8), "monarch.l1": (2, 3, 4), "monarch.l2": (2, 3, 3),
      "gate.weight": (1, 8), "gate.bias": (1,)}),
    ("butterfly:size=4,factors=1,block=1", 8, 12, butterfly(4, 1, 1), {"tiles": (48, 1, 1)}),
    ("butterfly:size=8,factors=2,block=2", 16, 24, butterfly(8, 2, 2), {"tiles": (40, 2, 2)}),
    ("butterfly:size=4,factors=1,block=2", 12, 8, butterfly(4, 1, 2), {"tiles": (12, 2, 2)}),
    ("butterfly:size=4,factors=1,block=2", 16, 12, butterfly(4, 1, 2), {"tiles": (24, 2, 2)}),
    ("butterfly:size=4,factors=1,block=3", 11, 22, butterfly(4, 1, 3), {"tiles": (16, 3, 3)}),
    ("lowrank:rank=2+butterfly:size=4,factors=1,block=1+gate", 4, 8, gated(butterfly(4, 1, 1)),
     {"lowrank.u": (8, 2), "lowrank.v": (2, 4), "butterfly.tiles": (16, 1, 1),
      "gate.weight": (1, 4), "gate.bias": (1,)}),
    ("btt:rank=2,m1=2,n1=3", 8, 12, btt(2, 3), {"r": (2, 6, 4), "l": (3, 4, 4)}),
    ("btt:rank=3,m1=5,n1=2", 15, 14, btt(5, 2), {"r": (5, 6, 3), "l": (2, 7, 15)}),
    ("btt:rank=2,m1=1,n1=3", 6, 9, btt(1, 3), {"r": (1, 6, 6), "l": (3, 3, 2)}),
    ("btt:rank=2,m1=2,n1=3,group=1", 8, 12, btt(2, 3, 1), {"r": (2, 6, 4), "l": (3, 4, 4)}),
    ("btt:rank=1,m1=3,n1=2,group=2", 9, 12, btt(3, 2, 2), {"r": (3, 2, 3), "l": (2, 6, 3)}),
    ("lowrank:rank=2+blockdiag:blocks=2+mean", 6, 8, gated(blockdiag, mean=True),
     {"lowrank.u": (8, 2), "lowrank.v": (2, 6), "blockdiag.blocks": (2, 4, 3)}),
    ("ss1:factor=4,bk=4,vec=1", 6, 3, lambda t, x, out: ss1(t, x, out, c=4), {"weight": (3, 4)}),
]
ROWS = 3


def flat(t):
    return [float("%.9g" % v) for v in t.detach().reshape(-1).tolist()]


def case(spec, fan_in, out, forward, shapes):
    t = {k: torch.randn(s).float().double().requires_grad_() for k, s in shapes.items()}
    x = torch.randn(ROWS, fan_in).float().double().requires_grad_()
    bias = torch.randn(out).float().double()
    dy = torch.randn(ROWS, out).float().double()
    y = forward(t, x, out) + bias
    y.backward(dy)
    assert y.shape == (ROWS, out) and math.isfinite(y.sum().item())
    return {"spec": spec, "in": fan_in, "out": out, "rows": ROWS, "x": flat(x), "bias": flat(bias),
            "dy": flat(dy), "y": flat(y), "dx": flat(x.grad),
            "parameters": [{"name": k, "shape": list(v.shape), "value": flat(v),
                            "grad": flat(v.grad)} for k, v in t.items()]}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../test/fixtures/map")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "maps.json"), "w") as f:
        f.write('{"made_by": "tools/fixtures_map.py, torch %s",\n"cases": [\n' % torch.__version__)
        f.write(",\n".join(json.dumps(case(*c)) for c in CASES))
        f.write("\n]}\n")


main()
