#!/usr/bin/env python3
"""Adds to test/fixtures/fly, with Debian's python3-torch and PyPI's einops, GPT-2s whose layers are
the original classes of HazyResearch fly, of the SS1 authors' copy of it and of their released package,
imported from checkouts of these three, and their logits.

    tools/fixtures_originals.py FLY FORK SS1 [OUT]     (SS1: its branch clean)

originals.ckpt  every block another class: BlockdiagButterflyLinear (two numbers of blocks; more rank
                than a block can have), FastLinear, SparseLRLinear without its gate, over block-diagonal,
                Monarch and BlockdiagButterflyLinear, SSL with factor x block above its inputs; a
                MonarchLinear for a head, the embedding tied to it as transformers does
b2.ckpt         BlockdiagButterflyLinear with b2=2, and the fork's LowrankLinear for a head
The rest of the network is tools/fixtures_fly.py's. Weights are exact in float16.
"""
# SPDX-License-Identifier: MIT
import importlib.util
import json
import logging
import os
import sys
import types

import torch

import fixtures_fly as net


def stand_in(name, **has):
    """A module of that name, for what the originals import and nothing here calls."""
    module = types.ModuleType(name)
    module.__dict__.update(has)
    sys.modules[name] = module
    return module


def build(cfg, *args, _recursive_=False, **more):
    return cfg(*args, **more)


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(make, dense=None):
    """A maker for network(): the class's own tensors and forward. dense: of a module, W^T to use
    in place of a forward that runs on a GPU alone."""
    def layer(n, m):
        module = make(n, m).double()
        with torch.no_grad():
            for p in module.parameters():
                p.copy_((torch.randn(p.shape, generator=net.draws) * 0.3).half())
        tensors = {k: v.clone() for k, v in module.state_dict().items()}
        if dense:
            return tensors, lambda x: x @ dense(module, n, m) + module.bias.detach()
        return tensors, lambda x: module(x).detach()
    return layer


def ss1_dense(ssl):
    def run(module, n, m):
        r = module.random_numbers.tolist()
        at = ssl.get_idx(-1, n, m, module.BLOCK_SIZE_M, module.BLOCK_SIZE_K, module.BLOCK_SIZE_N,
                         r[3], r[2], r[1], r[0], module.redn_factor, "cpu")
        return module.weight.detach().reshape(-1)[at]
    return run


def main():
    fly, fork, ss1 = sys.argv[1:4]
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[4] if len(sys.argv) > 4 else os.path.join(here, "../test/fixtures/fly")
    sys.path.insert(0, fly)
    stand_in("hydra", utils=types.SimpleNamespace(instantiate=build))
    stand_in("src.utils.utils", get_logger=logging.getLogger)
    torch.set_default_dtype(torch.float32)
    from src.models.layers.blockdiag_linear import BlockdiagLinear
    from src.models.layers.fastlinear import BlockdiagButterflyLinear, FastLinear, SparseLRLinear
    from src.models.layers.monarch_linear import MonarchLinear
    LowrankLinear = load(os.path.join(fork, "src/models/layers/lowrank_linear.py"),
                         "lowrank_linear").LowrankLinear
    package = os.path.join(ss1, "sketch_structured_linear")
    stand_in("triton")
    stand_in("SSLFunction", ssl_linear=None)
    stand_in("SSL_Kernel")
    stand_in("SSL_Kernel.SSLForward", ssl_forward_kernel_pretune=None, default_vec=8)
    SSL = load(os.path.join(package, "SSL.py"), "SSL").SSL
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    tile = {"BLOCK_SIZE_M": 32, "BLOCK_SIZE_K": 32, "BLOCK_SIZE_N": 32}

    def bfly(b2=1, **how):
        return made(lambda n, m: BlockdiagButterflyLinear(n, m, b2=b2, **how))

    def mean(sparse):
        return made(lambda n, m: SparseLRLinear(n, m, sparse, rank=3, gating=False))

    both = [(net.conv1d, net.conv1d, layer, layer) for layer in (
        bfly(nblocks1=4, nblocks2=2, b1=3), bfly(nblocks1=8, nblocks2=4, b1=6),
        made(FastLinear), mean(BlockdiagLinear), mean(MonarchLinear),
        mean(lambda n, m, **how: BlockdiagButterflyLinear(n, m, nblocks1=2, nblocks2=4, b1=2, **how)))]
    both.append((net.conv1d, net.conv1d, net.linear,
                 made(lambda n, m: SSL(n, m, redn_factor=4, seed=1111, **tile), ss1_dense(SSL))))
    ids, names = [3, 1, 4, 1, 5, 9, 2, 6], ("mlp.fc1", "mlp.fc2")
    with open(os.path.join(out, "expect.json")) as f:
        expect = json.load(f)
    t, run = net.network(32, 64, 4, 12, 8, both, names, False, True, made(MonarchLinear))
    net.write(out, "originals.ckpt", "model.", t, run, ids, expect)
    two = bfly(2, nblocks1=4, nblocks2=2, b1=3)
    t, run = net.network(32, 64, 4, 12, 8, [(net.conv1d, net.conv1d, two, two)], names, False, True,
                         made(lambda n, m: LowrankLinear(n, m, redn_factor=2)))
    net.write(out, "b2.ckpt", "model.", t, run, ids, expect)
    with open(os.path.join(out, "expect.json"), "w") as f:
        json.dump(expect, f)
        f.write("\n")


if __name__ == "__main__":
    main()
