#!/usr/bin/env python3
"""T2T-ViT in PyTorch on a GPU, compiled, bfloat16: the peer of `strut bench model t2t-vit-t-14 --device cuda`.

    bench/gpu/t2t_peer.py CONFIG [--batch 256]

CONFIG: config.json of `strut init t2t-vit-t-14`. Prints images a second, the median of 20 forwards, eager and
compiled."""
# SPDX-License-Identifier: MIT
import argparse
import json
import os
import sys

import torch
from triton.testing import do_bench

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from torch_t2t import build  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    p.add_argument("config")
    p.add_argument("--batch", type=int, default=256)
    a = p.parse_args()
    with open(a.config, encoding="utf-8") as f:
        model = build(json.load(f)).eval().cuda().bfloat16()
    side = 224
    images = [torch.randn(a.batch, 3, side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
    with torch.no_grad():
        for name, run in (("eager", model), ("compiled", torch.compile(model))):
            for x in images * 2:
                run(x)
            ms = do_bench(lambda run=run: [run(x) for x in images], rep=400, return_mode="median") / 2
            print(f"{torch.__version__}\t{name}\t{a.batch}\t{a.batch / ms * 1e3:.0f} images/s\t{ms:.3f} ms", flush=True)


main()
