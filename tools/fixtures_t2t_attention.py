#!/usr/bin/env python3
"""Writes test/fixtures/t2t/attention.safetensors: logits of T2T-ViT whose token modules attend
approximately.

    tools/fixtures_t2t_attention.py T2T_VIT FLY FAST_TRANSFORMERS

Arguments are checkouts of github.com/yitu-opensource/T2T-ViT (0f63dc9), HazyResearch/fly (6b73449)
and idiap/fast-transformers. The oracle is the first one's network in PyTorch's float32, in which
the attention of both token modules is fly's T2TAttention, as fly's own T2T-ViT has it, with fly's
attention modules inside; where fly has a config of a way to attend (configs/model/t2tattn_cfg), the
published sizes take it as it is. Weights and pixels are those of fixtures_t2t.py. Tensors:

  "MODEL@SIZE WAY WAY.logits"  (batch, classes); WAY as strut writes it, of the first and second
                               module
  "WAY@TOKENSxDIM"             the random numbers that fly's module drew for it, the same in every
                               model. Linformer's matrices are hashes of that name instead (mixing)

What is printed: the logits' deviation, how far they are from those with exact attention, and from
the same in float64. Needs PyTorch, timm 0.6.13, einops and hydra-core.
"""
# SPDX-License-Identifier: MIT
import collections
import inspect
import os
import sys

import hydra
import numpy as np
import torch
from omegaconf import OmegaConf

import fixtures_attention
import fixtures_t2t

FLY = "src.models.attention."
SIZES = ["t2t-vit-t-7", "t2t-vit-t-14", "t2t-vit-t-19", "t2t-vit-t-24"]
# fly's settings for 3136 and 784 tokens, in strut's words
DEFAULTS = [("full", "full"), ("local:window=98", "local:window=24"),
            ("performer:features=49", "performer:features=12"),
            ("sblocal:window=49,features=24", "sblocal:window=12,features=6"),
            ("linear", "linear"), ("linformer:k=256", "linformer:k=256"),
            ("smyrf:hashes=2,q_cluster=49,k_cluster=49", "smyrf:hashes=2,q_cluster=12,k_cluster=12"),
            ("reformer:hashes=2,bucket=49", "reformer:hashes=2,bucket=12")]
# more of them for the smallest
FURTHER = [("performer:features=49,ortho=1", "performer:features=12,ortho=1"),
           ("performer:features=266,eps=4,neps=6", "performer:features=266,eps=4,neps=6"),
           ("sblocal:window=49,features=24,ortho=1", "sblocal:window=12,features=6,ortho=1")]
# windows of one key, odd, and of more keys than there are; features fewer and more than the width
SMALL = [("full", "local:window=1"), ("local:window=1", "full"), ("local:window=5", "local:window=8"),
         ("local:window=100", "local:window=3"), ("local:window=10000", "local:window=10000"),
         ("performer:features=1", "performer:features=3"),
         ("performer:features=7", "performer:features=12,ortho=1"),
         ("performer:features=20,ortho=1", "performer:features=5"),
         ("performer:features=5,eps=4,neps=6", "performer:features=9,eps=4,neps=6"),
         ("performer:features=6,neps=2", "performer:features=3,eps=3"),
         ("performer:features=12,relu=1,neps=6", "performer:features=5,relu=1,neps=6"),
         ("sblocal:window=1,features=2", "sblocal:window=3,features=4"),
         ("sblocal:window=8,features=6", "sblocal:window=5,features=18,ortho=1"),
         ("sblocal:window=100,features=4,ortho=1", "sblocal:window=9,features=2"),
         ("sblocal:window=10000,features=4", "sblocal:window=7,features=6"),
         ("linear", "linear:neps=0"), ("linear:neps=1", "linear:neps=1"),
         ("linformer:k=1", "linformer:k=5"), ("linformer:k=5,share=1", "linformer:k=3,share=1"),
         ("linformer:k=300", "linformer:k=256"), ("sblocal:window=6,features=4", "linformer:k=4"),
         ("performer:features=8", "local:window=7"),
         ("smyrf:hashes=1,q_cluster=5,k_cluster=5", "smyrf:hashes=3,q_cluster=2,k_cluster=2"),
         ("reformer:hashes=1,bucket=5", "reformer:hashes=3,bucket=3"),
         ("smyrf:hashes=2,q_cluster=100,k_cluster=100", "reformer:hashes=2,bucket=100")]


# ---- ways to attend -------------------------------------------------------------------------------

def small(digits):
    return 10.0**-digits if digits else 0.0


def mixing(name, module):
    """Linformer's parameters of deviation 1/sqrt k: one run of the hash for keys, then values."""
    parts = [p.data for p in module.parameters()]
    n = sum(p.numel() for p in parts)
    x = np.sqrt(3.0 / parts[0].shape[1]) * fixtures_t2t.uniform(name, n)
    x = torch.from_numpy(x.astype(np.float32))
    for i, p in enumerate(parts):
        p.copy_(x[i * p.numel():(i + 1) * p.numel()].reshape(p.shape))


# name: (fly's class; its arguments from knobs, head width and tokens; what it drew)
WAYS = {
    "full": ("full_attention.FullAttention", lambda k, e, n: {}, None),
    "local": ("local_attention.LocalAttention",
              lambda k, e, n: dict(local_context=k["window"]), None),
    "performer": ("performer_attention.PerformerAttention",
                  lambda k, e, n: dict(dim_heads=e, nb_features=k["features"],
                                       ortho_scaling=k["ortho"],
                                       generalized_attention=bool(k["relu"]),
                                       softmax_eps=small(k["eps"]),
                                       normalization_eps=small(k["neps"])),
                  lambda m: m.projection_matrix),
    "sblocal": ("sblocal_attention.SBLocalAttention",
                lambda k, e, n: dict(dim_heads=e, local_context=k["window"],
                                     nb_features=k["features"], ortho_scaling=k["ortho"]),
                lambda m: m.feature_map.projection_matrix),
    "linear": ("linear_attention.LinearAttention",
               lambda k, e, n: dict(query_dims=e, normalization_eps=small(k.get("neps", 6))), None),
    "linformer": ("linformer_attention.LinformerAttention",
                  lambda k, e, n: dict(seq_len=n, k=k["k"], share_kv=bool(k["share"])), None),
    "smyrf": ("smyrf_attention.SmyrfAttention",
              lambda k, e, n: dict(n_hashes=k["hashes"], q_cluster_size=k["q_cluster"],
                                   k_cluster_size=k["k_cluster"]), None),
    "reformer": ("reformer_attention.ReformerAttention",
                 lambda k, e, n: dict(n_hashes=k["hashes"], bucket_size=k["bucket"]), None),
}
# what those that hash draw
HASHES = {"smyrf": lambda m, e, n: (m.n_hashes, e + 2),
          "reformer": lambda m, e, n: (m.n_hashes, -(-n // (2 * m.bucket_size)), e)}


def hashes(ways):
    return any(text.split(":")[0] in HASHES for text in ways)


def settle(layer, name, shape, drawn):
    """Gives a layer numbers for its hashes by which no token is so close to the end of a cluster
    that rounding takes it across: drawn at its first call, until errors of 2e-6 in queries and
    keys change nothing."""
    run = layer.forward

    def steady(w, q, k, v):
        noise = torch.Generator().manual_seed(0)
        layer.forward = run
        fixtures_attention.hashed(layer, w)
        o = layer.forward(q, k, v)[0]
        for _ in range(8):
            near = [x * (1 + 2e-6 * torch.randn(x.shape, generator=noise)) for x in (q, k)]
            if (layer.forward(*near, v)[0] - o).abs().max() > 1e-3 * o.abs().max():
                return False
        return True

    def forward(q, k, v, **how):
        draws = [drawn[name]] if name in drawn else (torch.randn(shape) for _ in range(2000))
        drawn[name] = next((w for w in draws if steady(w, q, k, v)), None)
        if drawn[name] is None:
            sys.exit(f"{name}: a token is always close to the end of a cluster")
        return layer.forward(q, k, v, **how)

    layer.forward = forward


def config(text, width, tokens):
    """What hydra makes fly's module of, from strut's words."""
    name, _, knobs = text.partition(":")
    k = collections.Counter()  # 0 where nothing is said
    k.update({key: int(value) for key, value in (x.split("=") for x in knobs.split(",") if x)})
    return {"_target_": FLY + WAYS[name][0], **WAYS[name][1](k, width, tokens)}


def published(fly):
    """Ends unless DEFAULTS say what fly's configs say, as far as it has them."""
    for pair in DEFAULTS:
        name = pair[0].split(":")[0]
        path = f"{fly}/configs/model/t2tattn_cfg/{name}.yaml"
        if not os.path.exists(path):
            print(f"{name}: fly has no config of it, {pair[0]} stands for its class's defaults")
            continue
        stages = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        for i, tokens in enumerate((3136, 784)):
            want, got = stages[f"t2tattn{i + 1}_cfg"], config(pair[i], 64, tokens)
            left = {k: p.default for k, p in inspect.signature(
                hydra.utils.get_class(got["_target_"])).parameters.items()}
            if {**left, **got} != {**left, **want}:
                sys.exit(f"{path}: {want}, not {pair[i]}")


# ---- models ---------------------------------------------------------------------------------------

def attending(model, ways, size, drawn):
    """The model with fly's attention in its token modules, filled."""
    from src.models.modules.token_transformer import T2TAttention
    for i, text in enumerate(ways):
        stage = getattr(model.tokens_to_token, f"attention{i + 1}")
        old, tokens = stage.attn, (size // (4 << i))**2
        name, width = f"{text}@{tokens}x{old.in_dim}", old.in_dim
        torch.manual_seed(sum(text.encode()) + tokens)
        stage.attn = T2TAttention(old.qkv.in_features, num_heads=1, in_dim=width,
                                  attn_cfg=config(text, width, tokens))
        assert stage.attn.scale == old.scale
        layer = stage.attn.attention_layer
        draws = WAYS[text.split(":")[0]][2]
        if hashes([text]):
            settle(layer, name, HASHES[text.split(":")[0]](layer, width, tokens), drawn)
        elif text.startswith("linformer"):
            mixing(name, layer)
        elif draws:
            # some draw at their first call
            layer(*torch.zeros(3, 1, tokens, 1, width))
            drawn[name] = draws(layer).clone()
    weights = {k: fixtures_t2t.fill(k, v.shape) for k, v in model.state_dict().items()
               if "attention_layer" not in k}
    left = model.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys and all("attention_layer" in k for k in left.missing_keys)
    return model.eval()


def logits(name, size, ways, out):
    tiny = name in fixtures_t2t.TINY
    model = fixtures_t2t.tiny(name) if tiny else fixtures_t2t.full(name, size)
    x = fixtures_t2t.pixels(fixtures_t2t.TINY[name][8] if tiny else 1, size)
    with torch.no_grad():
        exact = fixtures_t2t.filled(model)(x)
        model = attending(model, ways, size, out)
        y = model(x)
        fine = model.double()(x.double())
    out[f"{name}@{size} {ways[0]} {ways[1]}.logits"] = y
    print(f"{name}@{size} {ways[0]} {ways[1]}: deviation {float(y.std()):.2g}, "
          f"from exact attention {float((y - exact).abs().max()):.2g}, "
          f"from float64 {float((y - fine).abs().max()):.2g}", flush=True)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    fixtures_attention.modules(*sys.argv[2:])
    published(sys.argv[2])
    sys.path.insert(0, sys.argv[1])
    out = {}
    for name in ("tiny-t", "tiny-t-48", "tiny-t-224"):
        for ways in SMALL:
            if name == "tiny-t-224" and hashes(ways):  # tokens are always close to an end
                continue
            logits(name, fixtures_t2t.TINY[name][1], ways, out)
    for name in SIZES:
        for ways in DEFAULTS + (FURTHER if name == SIZES[0] else []):
            logits(name, 224, ways, out)
    for ways in DEFAULTS:
        if not hashes(ways):  # as above: 9216 tokens
            logits(SIZES[0], 384, ways, out)
    fixtures_t2t.save_tensors(fixtures_t2t.OUT / "attention.safetensors", out)


if __name__ == "__main__":
    main()
