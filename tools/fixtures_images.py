#!/usr/bin/env python3
"""Makes test/fixtures/images: small pictures, and what Pillow and torchvision make of them.

    apt install python3-pil python3-torchvision        # Pillow 9.4.0, libjpeg-turbo 2.1.5 (Debian 12)
    python3 tools/fixtures_images.py

cases.json has, with hashes (the first 16 digits of SHA-256 of the bytes) instead of pixels:
  files    [name, width, height, hash of convert("RGB"), hash of it turned as EXIF says]
  resize   [width, height, new width, new height, filter, hash], of the picture `texture` draws
  planes   [width, height, size, crop, filter, hash of float32 (3, size, size)], of the same
"""
# SPDX-License-Identifier: MIT
import hashlib
import io
import json
import math
import random
import struct
import zlib

import numpy as np
import torchvision.transforms as T
from PIL import Image, ImageOps

OUT = "test/fixtures/images"
PIL_FILTER = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}
FILTER = {"bicubic": T.InterpolationMode.BICUBIC, "bilinear": T.InterpolationMode.BILINEAR}
draw = random.Random(224)


def texture(w, h):
    """Waves, edges and noise by whole numbers only, so that C draws the same."""
    x, y, k = np.meshgrid(np.arange(w), np.arange(h), np.arange(3))
    v = x * x * 3 + y * y * 5 + x * y * 7 + k * 85 + ((x >> 3) ^ (y >> 3)) * 37
    return (v & 255).astype(np.uint8).reshape(h, w, 3)


def smooth(w, h):
    x, y, k = np.meshgrid(np.arange(w), np.arange(h), np.arange(3))
    v = 128 + 100 * np.sin(x / (4.0 + k)) * np.cos(y / (6.0 - k)) + 20 * ((x // 8 + y // 8) % 2)
    return Image.fromarray(np.clip(v, 0, 255).astype(np.uint8).reshape(h, w, 3))


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


files = []


def add(name, data):
    with open(f"{OUT}/{name}", "wb") as f:
        f.write(data)
    image = Image.open(io.BytesIO(data))
    plain = image.convert("RGB")
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    files.append([name, plain.width, plain.height, digest(plain.tobytes()), digest(turned.tobytes())])


def encoded(image, form="JPEG", **how):
    f = io.BytesIO()
    image.save(f, form, **how)
    return f.getvalue()


def jpeg(name, image, **how):
    add(name, encoded(image, **how))


def jpegs():
    for w, h in ((1, 1), (17, 9), (35, 49)):
        jpeg(f"rgb-420-{w}x{h}.jpg", smooth(w, h), subsampling=2)
    jpeg("rgb-422.jpg", smooth(33, 21), subsampling=1)
    jpeg("rgb-444.jpg", smooth(33, 21), subsampling=0, quality=95)
    jpeg("rgb-progressive.jpg", smooth(43, 38), subsampling=2, progressive=True)
    jpeg("grey.jpg", smooth(25, 31).convert("L"))
    jpeg("grey-progressive.jpg", smooth(25, 31).convert("L"), progressive=True)
    cmyk = encoded(smooth(29, 30).convert("CMYK"))
    add("cmyk.jpg", cmyk)
    at = cmyk.find(b"Adobe") + 11
    add("ycck.jpg", cmyk[:at] + b"\2" + cmyk[at + 1:])
    add("rgb-garbage-after.jpg", encoded(smooth(16, 16)) + b"\0\1garbage" * 9)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        jpeg(f"exif-{orientation}.jpg", smooth(13, 10), exif=exif)
    add("exif-8.png", encoded(smooth(11, 6), "PNG", exif=exif))
    add("png-in-disguise.JPEG", encoded(smooth(21, 14), "PNG"))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, w, h, depth, kind, interlace, extra=b"", colours=None):
    """A PNG of random samples; the script writes it, since Pillow does not write every kind."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, dx, dy in passes:
        wide, high = -(-(w - x) // dx), -(-(h - y) // dy)
        for _ in range(high if wide > 0 else 0):
            raw += bytes([draw.randrange(5)]) + draw.randbytes((wide * depth * samples + 7) // 8)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, interlace))
    if kind == 3:
        data += chunk(b"PLTE", draw.randbytes(3 * (colours or 1 << depth)))
    add(name, data + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def pngs():
    kinds = {0: ("grey", (1, 2, 4, 8, 16)), 2: ("rgb", (8, 16)), 3: ("palette", (1, 2, 4, 8)),
             4: ("grey-alpha", (8, 16)), 6: ("rgb-alpha", (8, 16))}
    for kind, (word, depths) in kinds.items():
        for depth in depths:
            png(f"{word}-{depth}.png", 9, 7, depth, kind, 0)
            png(f"{word}-{depth}-interlaced.png", 11, 5, depth, kind, 1)
    png("palette-8-short.png", 9, 7, 8, 3, 0, colours=10)
    png("palette-4-clear.png", 9, 7, 4, 3, 0, extra=chunk(b"tRNS", b"\0\x80\xff"))
    png("grey-8-clear.png", 9, 7, 8, 0, 0, extra=chunk(b"tRNS", b"\0\7"))
    png("rgb-8-gamma.png", 9, 7, 8, 2, 0, extra=chunk(b"gAMA", struct.pack(">I", 45455)))


def resizes():
    out, long = [], [1, 2, 3, 5, 7, 16, 31, 64, 97, 128, 150, 201]
    for i in range(200):
        w, h, nw, nh = (draw.choice(long) if draw.random() < 0.5 else draw.randrange(1, 180) for _ in range(4))
        if i % 10 == 0:
            nw = w
        if i % 15 == 0:
            nh = h
        kind = "bilinear" if i % 4 == 3 else "bicubic"
        to = Image.fromarray(texture(w, h)).resize((nw, nh), PIL_FILTER[kind])
        out.append([w, h, nw, nh, kind, digest(to.tobytes())])
    return out


def planes():
    out = []
    sizes = [(500, 375), (375, 500), (224, 224), (248, 300), (100, 33), (1, 1), (3, 400), (640, 427), (249, 251)]
    for i, (w, h) in enumerate(sizes * 2):
        size, crop = ((224, 0.9), (96, 0.875), (64, 1.0), (49, 0.7), (224, 1.0))[i % 5]
        kind = "bilinear" if i % 3 == 2 else "bicubic"
        out.append(plane(w, h, size, crop, kind))
    # A crop fraction over 1: the picture is smaller than the crop, zeros are put around it.
    return out + [plane(50, 75, 48, 1.5, "bicubic"), plane(75, 50, 49, 1.4, "bilinear"), plane(61, 61, 49, 1.9, "bicubic")]


def plane(w, h, size, crop, kind):
    t = T.Compose([T.Resize(math.floor(size / crop), FILTER[kind]), T.CenterCrop(size), T.ToTensor(),
                   T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    return [w, h, size, crop, kind, digest(t(Image.fromarray(texture(w, h))).numpy().tobytes())]


jpegs()
pngs()
cases = {"files": files, "resize": resizes(), "planes": planes()}
with open(f"{OUT}/cases.json", "w") as out:
    parts = [f'"{k}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for k, rows in cases.items()]
    out.write("{\n" + ",\n".join(parts) + "\n}\n")
