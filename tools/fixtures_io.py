#!/usr/bin/env python3
"""Makes test/fixtures/io with the reference implementations of the file formats we read and write.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install safetensors==0.8.0 numpy PyYAML==6.0.3
    /tmp/venv/bin/python tools/fixtures_io.py

Element i of tensor number k is ((i * 37 + k * 11) % 101 - 50) / 8, exact in every float type; for
whole-number types (i * 37 + k * 11) % 101.
"""
# SPDX-License-Identifier: MIT
import json
import pathlib

import numpy as np
import safetensors
import yaml

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "io"
KINDS = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "int64": np.int64,
    "int32": np.int32, "uint16": np.uint16, "uint8": np.uint8, "bool": np.uint8,
}


def tensor(k, dtype, shape):
    n = int(np.prod(shape, dtype=np.int64))
    whole = (np.arange(n, dtype=np.int64) * 37 + k * 11) % 101
    if dtype == "bool":
        data = (whole % 2).astype(np.uint8).tobytes()
    elif dtype == "bfloat16":
        bits = ((whole - 50) / 8).astype(np.float32).view(np.uint32) >> 16
        data = bits.astype(np.uint16).tobytes()
    elif dtype.startswith("float"):
        data = ((whole - 50) / 8).astype(KINDS[dtype]).tobytes()
    else:
        data = whole.astype(KINDS[dtype]).tobytes()
    return np.frombuffer(data or b"\0", dtype=np.uint8).copy(), len(data)


def write_safetensors(name, rows, metadata):
    kept, specs = [], {}  # `kept` owns the bytes that the specs point to
    for k, (n, dtype, shape) in enumerate(rows):
        data, size = tensor(k, dtype, shape)
        kept.append(data)
        specs[n] = safetensors.TensorSpec(dtype=dtype, shape=list(shape),
                                          data_ptr=data.ctypes.data, data_len=size)
    (OUT / name).write_bytes(safetensors.serialize(specs, metadata))


def tree(node):
    place = f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if isinstance(node, yaml.ScalarNode):
        return {"text": node.value, "quoted": node.style in list("'\"|>"), "at": place}
    if isinstance(node, yaml.SequenceNode):
        return {"list": [tree(x) for x in node.value], "at": place}
    return {"map": [[k.value, tree(v)] for k, v in node.value], "at": place}


OUT.mkdir(parents=True, exist_ok=True)
write_safetensors("every.safetensors", [
    ("f64", "float64", (3, 2)), ("f32", "float32", (2, 3, 4)), ("f16", "float16", (5,)),
    ("bf16", "bfloat16", (7,)), ("i64", "int64", (2,)), ("i32", "int32", (2, 2)),
    ("u16", "uint16", (3,)), ("u8", "uint8", (3, 1, 1, 1, 2)), ("bool", "bool", (5,)),
    ("scalar", "float32", ()), ("empty", "float32", (0, 4)), ("\u00e9\u4e2d \"\\/\t", "float32", (1,)),
], {"format": "pt", "na\u00efve": "caf\u00e9 \"quoted\"\n"})
write_safetensors("layout.safetensors", [
    ("b.u8", "uint8", (3,)), ("wte.weight", "float32", (5, 4)), ("a.u16", "uint16", (2, 3)),
    ("h.0.x", "bfloat16", (3,)), ("h.1.y", "float16", (1, 3)), ("ids", "int32", (2,)),
    ("h.10.z", "float32", (2,)), ("h.2.z", "float32", (1,)), ("scalar", "float32", ()),
    ("none", "float32", (0,)),
], {"format": "pt"})
text = (OUT / "cases.yaml").read_text(encoding="utf-8")
place = [tree(yaml.compose(text, Loader=loader)) for loader in (yaml.SafeLoader, yaml.CSafeLoader)]
assert place[0] == place[1]
(OUT / "cases.json").write_text(json.dumps(place[0], indent=1, ensure_ascii=False) + "\n",
                                encoding="utf-8")
