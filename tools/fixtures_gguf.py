#!/usr/bin/env python3
"""Makes test/fixtures/torch/gguf/blocks.gguf with PyPI's gguf 0.19.0 (and numpy): a tensor of each of
ggml's block formats, named by it, and beside each ("Q4_K.values") the numbers that gguf reads in it.
The formats that strut writes are made of the numbers in "numbers"; the bytes of the others are drawn.

    python3 tools/fixtures_gguf.py
"""
import pathlib

import gguf
import gguf.quants
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "torch" / "gguf"
WRITTEN = ("Q8_0", "Q4_0", "Q4_1")
# Where in a block its float16 scales stand.
DRAWN = {"Q5_0": (0,), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2),
         "Q5_K": (0, 2), "Q6_K": (208,)}
ROWS, COLS = 3, 512

draw = np.random.default_rng(20)
numbers = draw.standard_normal((ROWS, COLS)).astype(np.float32) * np.float32(0.02)
numbers[0, :32] = 0  # a block without a scale
numbers[1, 32:64] = np.float32(0.5)  # one of equal numbers
numbers[2, 7] = -3  # one with a number far from the others
w = gguf.GGUFWriter(OUT / "blocks.gguf", "blocks")
w.add_tensor("numbers", numbers)
for name in WRITTEN + tuple(DRAWN):
    kind = gguf.GGMLQuantizationType[name]
    if name in WRITTEN:
        data = gguf.quants.quantize(numbers, kind)
    else:
        size, width = gguf.GGML_QUANT_SIZES[kind]
        data = draw.integers(0, 256, (ROWS, COLS // size, width), np.uint8)
        for at in DRAWN[name]:
            scale = draw.standard_normal(data.shape[:2]).astype(np.float16) * np.float16(0.01)
            data[:, :, at:at + 2] = scale[..., None].view(np.uint8)
        data = data.reshape(ROWS, -1)
    w.add_tensor(name, data, raw_dtype=kind)
    w.add_tensor(name + ".values", gguf.quants.dequantize(data, kind).astype(np.float32))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
