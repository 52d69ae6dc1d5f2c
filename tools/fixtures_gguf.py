#!/usr/bin/env python3
"""Makes test/fixtures/torch/gguf/blocks.gguf with PyPI's gguf 0.19.0 (and numpy): a tensor of each of
ggml's block formats, named by it, and beside each ("Q4_K.values") the numbers that gguf reads in it.
The formats that strut writes are made of the numbers in "numbers"; the bytes of the others are drawn.
And windows/{llama,qwen2,gemma3}.gguf beside that folder: tiny models whose keys speak of a window of
attention.

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

SIZE = dict(width=8, inner=12, layers=3, heads=2, vocab=11)


def tiny(arch, pattern):
    """A model whose blocks have a window of 16 of its 64 tokens, as `pattern` says."""
    w = gguf.GGUFWriter(OUT.parent / "windows" / (arch + ".gguf"), arch)
    w.add_context_length(64)
    w.add_embedding_length(SIZE["width"])
    w.add_feed_forward_length(SIZE["inner"])
    w.add_block_count(SIZE["layers"])
    w.add_head_count(SIZE["heads"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_sliding_window(16)
    if pattern is not None:
        w.add_sliding_window_pattern(pattern)
    wide, inner = SIZE["width"], SIZE["inner"]
    shapes = {"attn_norm": wide, "attn_q": (wide, wide), "attn_k": (wide, wide), "attn_v": (wide, wide),
              "attn_output": (wide, wide), "ffn_norm": wide, "ffn_gate": (inner, wide),
              "ffn_up": (inner, wide), "ffn_down": (wide, inner)}
    if arch == "gemma3":
        w.add_key_length(wide // SIZE["heads"])
        shapes.update(attn_q_norm=wide // 2, attn_k_norm=wide // 2, post_attention_norm=wide,
                      post_ffw_norm=wide)
    if arch == "qwen2":
        shapes = {**shapes, **{"attn_%s.bias" % x: wide for x in "qkv"}}
    every = {"token_embd": (SIZE["vocab"], wide), "output_norm": wide}
    for i in range(SIZE["layers"]):
        every.update({"blk.%d.%s" % (i, name): shape for name, shape in shapes.items()})
    for name, shape in every.items():
        w.add_tensor(name if "bias" in name else name + ".weight", draw.standard_normal(shape).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


(OUT.parent / "windows").mkdir(exist_ok=True)
tiny("llama", None)
tiny("qwen2", [True, False, True])
tiny("gemma3", 2)
