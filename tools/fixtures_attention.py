#!/usr/bin/env python3
"""Writes test/fixtures/attention/attention.json: what fly's attention modules make of a few tokens.

    tools/fixtures_attention.py FLY FAST_TRANSFORMERS [OUT]

FLY and FAST_TRANSFORMERS are checkouts of github.com/HazyResearch/fly and of
github.com/idiap/fast-transformers, whose modules are imported as they are; only the two compiled
functions of fast_transformers.local_product are written down here, in plain PyTorch. Random
directions are drawn here and put into the modules, and stored beside the outputs. Computed in
float64, stored with 9 digits. Needs PyTorch, einops and hydra-core.
"""
# SPDX-License-Identifier: MIT
import json
import math
import os
import sys
import types
from unittest import mock

import torch

B, T, H, E = 1, 37, 2, 6
SCALE = 0.3


def slots(length, width):
    """Key of slot s of query i, and whether there is one."""
    at = torch.arange(length)[:, None] - width // 2 + torch.arange(width)[None, :]
    return at.clamp(0, length - 1), (at >= 0) & (at < length)


def local_dot_product(q, k, mask, lengths, width):
    at, there = slots(q.shape[2], width)
    scores = torch.einsum("bhte,bhtse->bhts", q, k[:, :, at])
    scores = scores + mask.gather(1, at).to(q.dtype)
    return scores.masked_fill(~there, -1e24)


def local_weighted_average(a, v):
    at, there = slots(v.shape[2], a.shape[-1])
    return torch.einsum("bhts,bhtsd->bhtd", a * there, v[:, :, at])


def modules(fly, fast):
    sys.path[:0] = [fly, fast]
    plain = types.ModuleType("fast_transformers.local_product")
    plain.local_dot_product = local_dot_product
    plain.local_weighted_average = local_weighted_average
    sys.modules["fast_transformers.local_product"] = plain
    from src.models.attention import linear_attention, performer_attention
    from src.models.attention.linear_attention import LinearAttention
    from src.models.attention.linformer_attention import LinformerAttention
    from src.models.attention.local_attention import LocalAttention
    from src.models.attention.performer_attention import PerformerAttention
    from src.models.attention.reformer_attention import ReformerAttention
    from src.models.attention.sblocal_attention import SBLocalAttention
    from src.models.attention.smyrf_attention import SmyrfAttention
    from src.models.modules.masking import TriangularCausalMask
    plain_causal = performer_attention.causal_linear_attention_noncuda
    performer_attention.causal_linear_attention_noncuda = (
        lambda *a, **how: (plain_causal(*a, **how), None))  # its caller unpacks two
    linear_attention.causal_linear_attention = lambda q, k, v, eps, **how: (
        plain_causal(q, k, v, eps=eps), None)  # the compiled one is for GPUs
    return (LinearAttention, LinformerAttention, LocalAttention, PerformerAttention,
            SBLocalAttention, SmyrfAttention, ReformerAttention, TriangularCausalMask)


def hashed(layer, w):
    """A layer that hashes, with w in place of what it would draw at each call: (hashes, width + 2)
    for SMYRF, (hashes, buckets / 2, width) for the Reformer."""
    run = layer.forward

    def forward(query, *rest, **how):
        x = w.to(query.dtype)
        draws, x = ("normal", x.T) if x.ndim == 2 else ("randn", x.permute(2, 0, 1)[None])
        with mock.patch("torch." + draws, lambda *shape, **kind: x):
            return run(query, *rest, **how)

    layer.forward = forward
    return layer


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out = sys.argv[3] if len(sys.argv) > 3 else "test/fixtures/attention"
    (Linear, Linformer, Local, Performer, SBLocal, Smyrf, Reformer,
     Triangular) = modules(*sys.argv[1:3])
    torch.manual_seed(20240611)
    torch.set_default_dtype(torch.float64)
    q, k, v = (torch.randn(B, T, H, E).float().double() for _ in range(3))
    causal = Triangular(T)
    cases = []

    def numbers(x):
        return [float("%.9g" % y) for y in x.detach().double().reshape(-1).tolist()]

    def add(text, module, projection=None, mask=None, scale=SCALE):
        with torch.no_grad():
            o, _ = module(q, k, v, attn_mask=mask)
        case = {"attention": text, "scale": scale, "causal": int(mask is not None), "o": numbers(o)}
        if projection is not None:
            case["projection"] = numbers(projection)
        cases.append(case)

    def directions(rows):
        return torch.randn(rows, E).float().double()

    def performer(rows, **how):
        m, w = Performer(E, nb_features=rows, softmax_temp=SCALE, **how), directions(rows)
        m.projection_matrix.copy_(w)
        return m, w

    for width in (1, 8, 9, 100):
        add("local:window=%d" % width, Local(width, softmax_temp=SCALE))
    # the half of its window that is not masked: width // 2 keys and its own
    add("local:window=5", Local(8, softmax_temp=SCALE), mask=causal)
    for rows in (4, 12):
        add("performer:features=%d" % rows, *performer(rows, softmax_eps=0., normalization_eps=0.))
    add("performer:features=12,eps=4,neps=6", *performer(12))
    add("performer:features=12,neps=2", *performer(12, softmax_eps=0., normalization_eps=1e-2))
    add("performer:features=12,relu=1,neps=6", *performer(12, generalized_attention=True))
    m, w = performer(7, softmax_eps=0., normalization_eps=0.)
    add("performer:features=7", m, w, mask=causal)
    for width, features in ((8, 6), (9, 6), (1, 2), (100, 4)):
        m, w = SBLocal(width, E, nb_features=features, softmax_temp=SCALE), directions(features // 2)
        m.feature_map._calls = 0  # it draws at call 0 only
        m.feature_map.projection_matrix = w
        add("sblocal:window=%d,features=%d" % (width, features), m, w)
    add("linear", Linear(E), scale=1 / math.sqrt(E))
    add("linear:neps=0", Linear(E, normalization_eps=0.), mask=causal, scale=1 / math.sqrt(E))
    for share in (0, 1):
        m = Linformer(T, k=5, share_kv=bool(share), softmax_temp=SCALE)
        mixing = [m.proj_k.data] if share else [m.proj_k.data, m.proj_v.data]
        add("linformer:k=5,share=%d" % share, m, torch.stack(mixing))
    for hashes, clusters in ((1, (8, 8)), (2, (5, 5)), (4, (5, 5)), (2, (1, 1)), (2, (37, 37)),
                             (2, (50, 50)), (3, (9, 8))):
        w = torch.randn(hashes, E + 2).float().double()
        add("smyrf:hashes=%d,q_cluster=%d,k_cluster=%d" % (hashes, *clusters),
            hashed(Smyrf(hashes, *clusters, softmax_temp=SCALE), w), w)
    for hashes, bucket in ((1, 6), (2, 5), (4, 5), (2, 1), (2, 18), (2, 40)):
        half = -(-T // (2 * bucket))  # of the buckets, in pairs
        w = torch.randn(hashes, half, E).float().double()
        add("reformer:hashes=%d,bucket=%d" % (hashes, bucket),
            hashed(Reformer(bucket_size=bucket, n_hashes=hashes, softmax_temp=SCALE), w), w)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "attention.json"), "w") as f:
        json.dump({"heads": H, "tokens": T, "head_dim": E, "q": numbers(q), "k": numbers(k),
                   "v": numbers(v), "cases": cases}, f, indent=0, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
