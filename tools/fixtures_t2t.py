#!/usr/bin/env python3
"""Makes test/fixtures/t2t with the T2T-ViT authors' own code (github.com/yitu-opensource/T2T-ViT,
commit 0f63dc9; PyTorch 1.13.1, timm 0.6.13):

    python3 tools/fixtures_t2t.py PATH/TO/T2T-ViT       # or T2T_VIT=PATH

Weights are not stored: number i of the tensor NAME is a hash of both (fill below; fill() in
test/model/t2t.h computes the same), so that models of full size can be compared by their logits.
  expect.safetensors   MODEL.logits (batch, classes) for every published size at 224 pixels, two
                       at 384, and small models ("tiny-...", TINY below)
  *.pth, *.pth.tar     small models as torch.save writes them, in every form that is in use
  grid.safetensors     positions of 2 x 2 and 3 x 3 tokens and their interpolations
Legacy archives name storages by their addresses, so that those files differ from run to run.
"""
# SPDX-License-Identifier: MIT
import argparse
import collections
import os
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "t2t"
# name: (tokens_type, img_size, width, depth, heads, mlp_ratio, token_dim, classes, batch)
TINY = {
    "tiny-t": ("transformer", 32, 16, 2, 2, 2.0, 4, 10, 3),
    "tiny-p": ("performer", 32, 16, 2, 2, 2.0, 4, 10, 3),
    "tiny-t-224": ("transformer", 224, 16, 1, 2, 3.0, 4, 7, 3),
    "tiny-p-224": ("performer", 224, 16, 1, 2, 3.0, 4, 7, 3),
    "tiny-t-48": ("transformer", 48, 24, 3, 3, 2.0, 8, 5, 2),
    "tiny-bias": ("performer", 48, 24, 2, 3, 2.0, 8, 5, 2),  # qkv_bias, qk_scale
}
FULL = {"t2t-vit-7": "t2t_vit_7", "t2t-vit-10": "t2t_vit_10", "t2t-vit-12": "t2t_vit_12",
        "t2t-vit-14": "t2t_vit_14", "t2t-vit-19": "t2t_vit_19", "t2t-vit-24": "t2t_vit_24",
        "t2t-vit-t-14": "t2t_vit_t_14", "t2t-vit-t-19": "t2t_vit_t_19",
        "t2t-vit-t-24": "t2t_vit_t_24"}
LARGE = ["t2t-vit-7", "t2t-vit-t-7"]  # at 384 pixels, too


# ---- numbers --------------------------------------------------------------------------------------

def uniform(name, n):
    """[-1, 1), 24 bits: splitmix64 from the name's FNV-1a hash on."""
    seed = 0xcbf29ce484222325
    for b in name.encode():
        seed = (seed ^ b) * 0x100000001b3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def fill(name, shape):
    """Weights of a size that keeps signals near 1; norms near 1, biases small."""
    shape = tuple(shape)
    u = uniform(name, int(np.prod(shape)))
    if len(shape) == 1:
        x = 1.0 + 0.2 * u if name.endswith(".weight") else 0.1 * u
    elif name.endswith(".w"):
        x = 1.2 * u
    elif len(shape) == 2:
        x = np.sqrt(3.0 / shape[1]) * u
    else:
        x = 0.5 * u
    return torch.from_numpy(x.astype(np.float32)).reshape(shape)


def pixels(batch, size):
    x = np.sqrt(3.0) * uniform("pixels", batch * 3 * size * size)
    return torch.from_numpy(x.astype(np.float32)).reshape(batch, 3, size, size)


def filled(model):
    model.load_state_dict({k: fill(k, v.shape) for k, v in model.state_dict().items()})
    return model.eval()


def tiny(name):
    from models.t2t_vit import T2T_ViT
    kind, size, width, depth, heads, ratio, token, classes, _ = TINY[name]
    return T2T_ViT(img_size=size, tokens_type=kind, embed_dim=width, depth=depth, num_heads=heads,
                   mlp_ratio=ratio, num_classes=classes, token_dim=token,
                   **(dict(qkv_bias=True, qk_scale=0.6) if name == "tiny-bias" else {}))


def full(name, size):
    from models import t2t_vit
    if name == "t2t-vit-t-7":  # no name in the authors' code
        return t2t_vit.T2T_ViT(img_size=size, tokens_type="transformer", embed_dim=256, depth=7,
                               num_heads=4, mlp_ratio=2.0)
    return getattr(t2t_vit, FULL[name])(img_size=size)


# ---- files ----------------------------------------------------------------------------------------

def save_tensors(path, tensors):
    import json
    head, data = {}, b""
    for name, t in tensors.items():
        raw = t.detach().numpy().astype("<f4").tobytes()
        head[name] = {"dtype": "F32", "shape": list(t.shape),
                      "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def expectations():
    out = {}
    with torch.no_grad():
        for name in [*TINY, *FULL, "t2t-vit-t-7"]:
            sizes = [TINY[name][1]] if name in TINY else [224, 384] if name in LARGE else [224]
            for size in sizes:
                model = filled(tiny(name) if name in TINY else full(name, size))
                logits = model(pixels(TINY[name][8] if name in TINY else 1, size))
                key = name + ("-384" if size == 384 else "")
                out[key + ".logits"] = logits
                print(key, sum(p.numel() for p in model.parameters()), float(logits.std()))
    save_tensors(OUT / "expect.safetensors", out)


def checkpoints():
    t, p = (collections.OrderedDict(filled(tiny(n)).state_dict()) for n in ("tiny-t", "tiny-p"))
    stored = collections.OrderedDict(t)  # with the positions that training leaves as they are
    stored["pos_embed"] = tiny("tiny-t").state_dict()["pos_embed"]
    module = collections.OrderedDict(("module." + k, v) for k, v in t.items())
    fly = collections.OrderedDict(
        (k.replace("tokens_to_token.", "patch_embed.").replace("pos_embed", "pos_embed.pe"), v)
        for k, v in t.items())
    old = dict(_use_new_zipfile_serialization=False)
    torch.save({"state_dict_ema": t}, OUT / "ema-legacy.pth.tar", **old)
    torch.save({"state_dict_ema": t}, OUT / "ema.pth.tar")
    torch.save(stored, OUT / "bare.pth")
    torch.save(fly, OUT / "fly.pth")
    torch.save({"model": p}, OUT / "performer-model.pth", **old)
    model = tiny("tiny-t")
    optimizer = torch.optim.AdamW(model.parameters())
    model(pixels(1, 32)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    for group in state["state"].values():  # small
        for key in ("exp_avg", "exp_avg_sq"):
            group[key] = group[key].flatten()[:1].clone()
    args = argparse.Namespace(model="t2t_vit_t_14", lr=5e-4, workers=8, data=pathlib.Path("/data"))
    torch.save({"epoch": 309, "arch": "t2t_vit_t_14", "state_dict": module, "optimizer": state,
                "version": 2, "args": args, "amp_scaler": {"scale": 65536.0}, "metric": 81.7},
               OUT / "timm-legacy.pth.tar", **old)
    ema = collections.OrderedDict(("module." + k, v) for k, v in p.items())
    torch.save({"epoch": 309, "args": args, "state_dict": t, "state_dict_ema": ema},
               OUT / "timm-both.pth.tar")


def grids():
    out = {}
    for old, new in ((2, 3), (3, 2), (14, 24), (24, 14)):
        x = torch.from_numpy(uniform(f"grid{old}", old * old * 4).astype(np.float32))
        x = x.reshape(1, old, old, 4).permute(0, 3, 1, 2)
        y = F.interpolate(x, size=(new, new), mode="bicubic", align_corners=False)
        out[f"{old}-{new}"] = y.permute(0, 2, 3, 1).reshape(new * new, 4)
    save_tensors(OUT / "grid.safetensors", out)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("T2T_VIT")
    if not path:
        sys.exit(__doc__)
    sys.path.insert(0, path)
    torch.manual_seed(1)
    OUT.mkdir(parents=True, exist_ok=True)
    checkpoints()
    grids()
    expectations()


if __name__ == "__main__":
    main()
