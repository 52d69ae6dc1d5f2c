#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention on the shapes of bench/gpu/attention.cu, as its rows.

Queries, keys and values are views of one packed tensor, as in a GPT-2 block. Ten calls between two
events, behind a pause that lets the host run ahead; the median of eleven such; two sets of inputs
take turns. SPDX-License-Identifier: MIT
"""
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

CALLS, ROUNDS = 10, 11
SHAPES = [  # batch heads dim queries keys causal drop
    (32, 12, 64, 1024, 1024, 1, 0.0), (32, 12, 64, 1024, 1024, 1, 0.1),
    (8, 12, 64, 4096, 4096, 1, 0.0), (16, 16, 128, 1024, 1024, 1, 0.0),
    (4, 16, 128, 4096, 4096, 1, 0.0), (256, 6, 64, 197, 197, 0, 0.0),
    (256, 6, 64, 196, 196, 0, 0.0), (64, 1, 64, 3136, 3136, 0, 0.0),
    (1, 12, 64, 1, 1024, 0, 0.0), (64, 12, 64, 1, 1024, 0, 0.0)]
BACKENDS = [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)]


def time_calls(call):
    for i in range(4):
        call(i)
    times = []
    for _ in range(ROUNDS):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        torch.cuda._sleep(4_000_000)
        start.record()
        for i in range(CALLS):
            call(i)
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) / CALLS)
    times.sort()
    return times[ROUNDS // 2], times[1], times[-2]


def inputs(b, h, d, tq, tk):
    if tq == tk:
        packed = torch.randn(b, tq, 3, h, d, device="cuda", dtype=torch.bfloat16)
        q, k, v = (packed[:, :, i].transpose(1, 2).detach() for i in range(3))
    else:
        q, k, v = (torch.randn(b, t, h, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
                   for t in (tq, tk, tk))
    go = torch.randn(b, tq, h, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
    return [x.requires_grad_(tq > 1) for x in (q, k, v)] + [go]


def main():
    print("\t".join("what pass dtype batch heads dim q kv causal drop ms ms10 ms90 TFLOPs".split()))
    for b, h, d, tq, tk, causal, drop in SHAPES:
        sets = [inputs(b, h, d, tq, tk) for _ in range(2)]
        pairs = tq * (tq + 1) // 2 if causal else tq * tk
        for name, backend in BACKENDS:
            try:
                with sdpa_kernel([backend]):
                    def forward(i):
                        q, k, v, _ = sets[i % 2]
                        return F.scaled_dot_product_attention(q, k, v, dropout_p=drop,
                                                              is_causal=bool(causal))
                    rows = [("forward", 4, time_calls(forward))]
                    if tq > 1:
                        outs = [forward(0), forward(1)]

                        def backward(i):
                            q, k, v, go = sets[i % 2]
                            torch.autograd.grad(outs[i % 2], (q, k, v), go, retain_graph=True)
                        rows.append(("backward", 10, time_calls(backward)))
            except Exception as why:  # a backend that does not take the shape
                print(f"# {name} {b} {h} {d} {tq}: {str(why).splitlines()[0][:90]}")
                continue
            for label, per, (mid, low, high) in rows:
                rate = pairs * b * h * d * per / mid * 1e-9
                print(f"torch-{name}\t{label}\tbf16\t{b}\t{h}\t{d}\t{tq}\t{tk}\t{causal}\t"
                      f"{drop:g}\t{mid:.4f}\t{low:.4f}\t{high:.4f}\t{rate:.1f}", flush=True)


if __name__ == "__main__":
    print("# torch", torch.__version__, torch.cuda.get_device_name(), file=sys.stderr)
    main()
