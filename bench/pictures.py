#!/usr/bin/env python3
"""Times what strut classify does to pictures against Pillow and torchvision, one thread, in turn.

    bench/pictures.py FOLDER [ROUNDS]     # of .jpg, .jpeg and .png files; needs python3-torchvision

Prints milliseconds a picture of decoding and of the rest (resize to 248, middle 224, planes), medians
over rounds, and pictures a second. First both must give the same numbers on every picture.
"""
# SPDX-License-Identifier: MIT
import ctypes as C
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Picture(C.Structure):
    _fields_ = [("width", C.c_int64), ("height", C.c_int64), ("rgb", C.c_void_p)]


class Fit(C.Structure):
    _fields_ = [("size", C.c_int64), ("filter", C.c_int), ("crop", C.c_double), ("mean", C.c_float * 3),
                ("std", C.c_float * 3)]


def library():
    """build/libstrut.a as what Python can load."""
    path = os.path.join(tempfile.mkdtemp(), "pictures.so")
    wanted = ["st_image_decode", "st_image_planes", "st_image_free"]
    subprocess.run(["cc", "-shared", "-o", path, *[f"-Wl,-u,{w}" for w in wanted], "build/libstrut.a", "-ljpeg",
                    "-lpng", "-ljansson", "-lm", "-lpthread"], check=True)
    lib = C.CDLL(path)
    lib.st_image_decode.argtypes = [C.c_void_p, C.c_char_p, C.c_size_t, C.c_char_p, C.c_void_p, C.c_void_p]
    return lib


def main():
    folder, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7
    names = sorted(n for n in os.listdir(folder) if n.lower().endswith((".jpg", ".jpeg", ".png")))
    data = [open(os.path.join(folder, n), "rb").read() for n in names]
    lib, fit = library(), Fit(224, 0, 0.9, MEAN, STD)
    torch.set_num_threads(1)
    transform = T.Compose([T.Resize(248, T.InterpolationMode.BICUBIC), T.CenterCrop(224), T.ToTensor(),
                           T.Normalize(MEAN, STD)])
    out = np.zeros((3, 224, 224), np.float32)

    def decode(b):
        p = Picture()
        if lib.st_image_decode(C.byref(p), b, len(b), b"x", None, None):
            sys.exit("a picture cannot be read")
        return p

    def planes(p):
        lib.st_image_planes(C.byref(p), C.byref(fit), out.ctypes.data_as(C.c_void_p), None)
        lib.st_image_free(C.byref(p))
        return out

    def pillow(b):
        return Image.open(io.BytesIO(b)).convert("RGB")

    for n, b in zip(names, data):
        if not np.array_equal(planes(decode(b)), transform(pillow(b)).numpy()):
            sys.exit(f"{n}: not the same numbers")
    times = {"strut": [], "Pillow, torchvision": []}
    for _ in range(rounds):
        for name, first, second in (("strut", decode, planes), ("Pillow, torchvision", pillow, transform)):
            a = time.process_time()
            pictures = [first(b) for b in data]
            b = time.process_time()
            for p in pictures:
                second(p)
            times[name].append((b - a, time.process_time() - b))
    print(f"{len(data)} pictures, {rounds} rounds")
    for name, rows in times.items():
        one, two = (statistics.median(r[i] for r in rows) / len(data) for i in (0, 1))
        print(f"{name:20} decode {1e3 * one:5.2f} ms  rest {1e3 * two:5.2f} ms  {1 / (one + two):6.0f} pictures/s")


main()
