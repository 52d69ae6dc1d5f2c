#!/usr/bin/python3
"""T2T-ViT in strut against PyTorch, one run, taking turns.

    bench/torch_t2t.py [--model t2t-vit-t-14] [--batch 16] [--rounds 7] [--calls 3] [--threads 2]
                       [--only float32|bfloat16] [--strut build/strut] [--out out/bench/t2t] [--core NAME]
                       [--patience 60]

First both classify the same pictures and their logits must agree. Then, round after round, strut
(bench model) and PyTorch (eager, no gradients; bfloat16 both by autocast and with weights in it) time
forwards: medians over calls, ratios by round, the best calls (which a busy machine
has fewer of, but no slower ones), and peak memory of each process. Debian's python3-torch (1.13)
runs it; newer versions take scaled_dot_product_attention. PyTorch gets the OpenMP flavour of OpenBLAS,
memory that the allocator keeps, and the kernels that strut asks OpenBLAS for (--core default: what
OpenBLAS finds itself), so that the comparison flatters nobody. Exits with 1 if logits differ."""
# SPDX-License-Identifier: MIT
import argparse
import json
import os
import platform
import re
import resource
import statistics
import struct
import subprocess
import sys
import time
import zlib

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {"float32": ["float32"], "bfloat16": ["autocast", "bfloat16"]}
EDGE = 248  # of the pictures: what 224 pixels are the middle of, so that nothing is resized


# ---- the model


def build(config):
    import torch
    from torch import nn
    from torch.nn import functional as F

    def attend(q, k, v, scale):
        if hasattr(F, "scaled_dot_product_attention"):
            return F.scaled_dot_product_attention(q * (scale * q.shape[-1] ** 0.5), k, v)
        return F.softmax(q @ k.transpose(-2, -1) * scale, -1) @ v

    class Norm(nn.LayerNorm):  # autocast leaves it to its caller that types agree
        def forward(self, x):
            return super().forward(x.to(self.weight.dtype))

    class Mlp(nn.Module):
        def __init__(self, width, inner):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

        def forward(self, x):
            return self.fc2(F.gelu(self.fc1(x)))

    class Attention(nn.Module):
        def __init__(self, inputs, width, heads, scale):
            super().__init__()
            self.heads, self.width, self.scale = heads, width, scale
            self.qkv, self.proj = nn.Linear(inputs, 3 * width, bias=False), nn.Linear(width, width)

        def forward(self, x):
            batch, length, _ = x.shape
            q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = attend(q, k, v, self.scale).transpose(1, 2).reshape(batch, length, self.width)
            return self.proj(y), v

    class Module(nn.Module):  # of windows of the image, whose skip starts at v
        def __init__(self, inputs, width):
            super().__init__()
            self.norm1, self.norm2 = Norm(inputs), Norm(width)
            self.attn, self.mlp = Attention(inputs, width, 1, inputs ** -0.5), Mlp(width, width)

        def forward(self, x):
            y, v = self.attn(self.norm1(x))
            x = v.squeeze(1) + y
            return x + self.mlp(self.norm2(x))

    class Block(nn.Module):
        def __init__(self, width, heads, inner):
            super().__init__()
            self.norm1, self.norm2 = Norm(width), Norm(width)
            self.attn = Attention(width, width, heads, (width // heads) ** -0.5)
            self.mlp = Mlp(width, inner)

        def forward(self, x):
            x = x + self.attn(self.norm1(x))[0]
            return x + self.mlp(self.norm2(x))

    class Tokens(nn.Module):
        def __init__(self, token, width):
            super().__init__()
            self.attention1, self.attention2 = Module(3 * 49, token), Module(9 * token, token)
            self.project = nn.Linear(9 * token, width)

        def forward(self, x):
            x = self.attention1(F.unfold(x, 7, stride=4, padding=2).transpose(1, 2))
            x = self.attention2(self.windows(x))
            return self.project(self.windows(x))

        @staticmethod
        def windows(x):
            batch, length, width = x.shape
            side = round(length ** 0.5)
            x = x.transpose(1, 2).reshape(batch, width, side, side)
            return F.unfold(x, 3, stride=2, padding=1).transpose(1, 2)

    class T2T(nn.Module):
        def __init__(self, c):
            super().__init__()
            width, tokens = c["embed_dim"], (c["img_size"] // 16) ** 2 + 1
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
            self.tokens_to_token = Tokens(c["token_dim"], width)
            self.blocks = nn.ModuleList(Block(width, c["num_heads"], c["mlp_dim"]) for _ in range(c["depth"]))
            self.norm, self.head = Norm(width), nn.Linear(width, c["num_classes"])

        def forward(self, x):
            x = self.tokens_to_token(x)
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), 1) + self.pos_embed
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)[:, 0])

    return T2T(config)


# ---- files


def tensors(folder, mode="r"):
    """{name: view of the file}"""
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
    data = np.memmap(path, np.uint8, mode)[8 + n:]
    head.pop("__metadata__", None)
    if any(t["dtype"] != "F32" for t in head.values()):
        sys.exit(f"{path}: expected float32")
    return {name: data[slice(*t["data_offsets"])].view(np.float32).reshape(t["shape"]) for name, t in head.items()}


def write_png(path, rgb):
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


def prepare(a):
    """A model whose norms and biases are no zeros and ones either, and pictures."""
    folder, pictures = os.path.join(a.out, "model"), os.path.join(a.out, "pictures")
    os.makedirs(pictures, exist_ok=True)
    rng = np.random.default_rng(0)
    if not os.path.exists(folder):
        subprocess.run([a.strut, "init", a.model, folder, "--seed", "1", "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        for t in tensors(folder, "r+").values():
            if t.ndim == 1:
                t += rng.normal(0, 0.1, t.shape).astype(np.float32)
    coarse = rng.integers(0, 256, (a.batch, 31, 31, 3), np.uint8)
    rgb = coarse.repeat(8, 1).repeat(8, 2) // 2 + rng.integers(0, 128, (a.batch, EDGE, EDGE, 3), np.uint8)
    names = [os.path.join(pictures, f"{i:03}.png") for i in range(a.batch)]
    for name, picture in zip(names, rgb):
        write_png(name, picture)
    cut = (EDGE - 224) // 2
    pixels = (rgb[:, cut:-cut, cut:-cut].astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    np.save(os.path.join(a.out, "pixels.npy"), pixels.transpose(0, 3, 1, 2))
    return folder, names


# ---- the two sides


def worker(folder, pixels, mode, threads):
    """Says its logits, then times as many calls as each line of the input wants."""
    import torch
    torch.set_num_threads(threads)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        model = build(json.load(f)).eval()
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in tensors(folder).items()})
    x = torch.from_numpy(np.load(pixels))
    if mode == "bfloat16":
        model, x = model.bfloat16(), x.bfloat16()

    @torch.no_grad()
    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode == "autocast"):
            return model(x)

    start = time.perf_counter()
    logits = run().float().tolist()
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"torch": torch.__version__, "logits": logits, "seconds": took, "peak": peak << 10}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "peak": peak << 10}), flush=True)


def environment(threads, core=""):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "OMP_", "GOMP_"))}
    env["OMP_NUM_THREADS"] = str(threads)
    if not core:
        return env
    if core != "default":
        env["OPENBLAS_CORETYPE"] = core
    return env | {"LD_LIBRARY_PATH": f"/usr/lib/{platform.machine()}-linux-gnu/openblas-openmp",
                  "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000", "MALLOC_TOP_PAD_": "1000000000"}


class Torch:
    def __init__(self, a, folder, mode, core):
        args = [sys.executable, os.path.abspath(__file__), "worker", folder, os.path.join(a.out, "pixels.npy"), mode,
                str(a.threads)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment(a.threads, core))
        self.first = self.answer()
        self.peak = self.first["peak"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("PyTorch failed (Debian: apt-get install python3-torch)")
        return json.loads(line)

    def seconds(self, calls):
        print(calls, file=self.process.stdin, flush=True)
        answer = self.answer()
        self.peak = answer["peak"]
        return answer["seconds"]


def strut(a, *args):
    """Its JSON, and its peak memory in bytes."""
    line = [a.strut, *args, "--json", "--quiet", "--threads", str(a.threads)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment(a.threads)) as p:
        text = p.stdout.read()
        _, status, used = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"failed: {' '.join(line)}")
    return json.loads(text), used.ru_maxrss << 10


def compare(a, folder, dtype, rounds):
    mib = 1 << 20
    own, peak = strut(a, "classify", folder, os.path.join(a.out, "pictures"), "--batch", str(a.batch), "--dtype", dtype)
    own = np.array([row["logits"] for row in sorted(own["images"], key=lambda row: row["path"])])
    device = strut(a, "bench", "map", "--in", "8", "--out", "8", "--map", "dense", "--reps", "1")[0]["device"]
    named = re.search(r"\((\w+), OpenMP\)", device)
    core = a.core or (named.group(1) if named else "default")
    peers = {mode: Torch(a, folder, mode, core) for mode in MODES[dtype]}
    bound = 1e-4 if dtype == "float32" else 0.1
    for mode, peer in peers.items():
        off = np.abs(own - np.array(peer.first["logits"])).max()
        print(f"{dtype}: logits of {len(own)} pictures, spread {own.std():.3f}, strut and torch {peer.first['torch']} "
              f"({mode}) differ by {off:.1e} at most", flush=True)
        if not off < bound:
            sys.exit(f"expected less than {bound}")
    bench = ["bench", "model", folder, "--batch", str(a.batch), "--dtype", dtype, "--reps", str(a.calls), "--budget",
             "100000"]
    slow = {mode for mode, peer in peers.items() if peer.first["seconds"] > a.patience}
    ours, theirs, least = [], {mode: [] for mode in peers}, {}
    for _ in range(rounds):
        forward = strut(a, *bench)[0]["rows"][0]["forward"]
        ours.append(a.batch / forward["median"])
        least["strut"] = min(least.get("strut", 1e9), forward["best"])
        for mode, peer in peers.items():
            seconds = [peer.first["seconds"]] if mode in slow else peer.seconds(a.calls)
            theirs[mode].append(a.batch / statistics.median(seconds))
            least[mode] = min(least.get(mode, 1e9), *seconds)
    print(f"  strut ({device})\n    {statistics.median(ours):6.2f} images/s, best {a.batch / least['strut']:.2f}, peak "
          f"{peak / mib:.0f} MiB (classify, all of it)")
    faster = max(theirs, key=lambda mode: statistics.median(theirs[mode]))
    for mode, rates in theirs.items():
        ratios = sorted(x / y for x, y in zip(ours, rates))
        note = (", the faster" if mode == faster else "") + (", its one call" if mode in slow else "")
        print(f"  torch {mode} (OpenBLAS {core}){note}\n"
              f"    {statistics.median(rates):6.2f} images/s, best {a.batch / least[mode]:.2f}, peak "
              f"{peers[mode].peak / mib:.0f} MiB; strut is {statistics.median(ratios):.2f}x as fast ({ratios[0]:.2f} to "
              f"{ratios[-1]:.2f} in {rounds} rounds), best against best {least[mode] / least['strut']:.2f}x")
    for peer in peers.values():
        peer.process.stdin.close()
        peer.process.wait()


def main():
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:5], int(sys.argv[5]))
        return
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="t2t-vit-t-14")
    for name, default in (("batch", 16), ("rounds", 7), ("calls", 3), ("threads", 2)):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--only", choices=list(MODES))
    p.add_argument("--patience", type=float, default=60)
    p.add_argument("--strut", default="build/strut")
    p.add_argument("--out", default="out/bench/t2t")
    p.add_argument("--core", help="OPENBLAS_CORETYPE of PyTorch; \"default\": none; not given: strut's")
    a = p.parse_args()
    folder, _ = prepare(a)
    for dtype in [a.only] if a.only else MODES:
        compare(a, folder, dtype, a.rounds)


if __name__ == "__main__":
    main()
