#!/usr/bin/env python3
"""Makes test/fixtures/torch with PyTorch itself (Debian's python3-torch 1.13.1, numpy 1.24.2). Its
files of another version must pass the same tests:

    python3 tools/fixtures_torch.py && build/torch_test && PYTHON=python3 build/torch_write_test

    /usr/bin/python3 tools/fixtures_torch.py          # writes the fixtures
    /usr/bin/python3 tools/fixtures_torch.py check A.pt B.json
                                                      # loads what strut wrote (torch_write_test)
    /usr/bin/python3 tools/fixtures_torch.py llmc .../train_gpt2.py
                                                      # llmc-*.bin, with llm.c's own (commit f1e2ace)
    PYTHONPATH=... /usr/bin/python3 tools/fixtures_torch.py gguf
                                                      # gguf/, with PyPI's gguf 0.19.0

Element i of tensor number k is ((i * 37 + k * 11) % 101 - 50) / 8, exact in every float type; for
whole-number types (i * 37 + k * 11) % 101. Legacy archives name storages by their addresses, so those
files differ from run to run. hostile/ holds pickles written by hand, opcode by opcode.
"""
# SPDX-License-Identifier: MIT
import argparse
import collections
import importlib.util
import json
import pathlib
import struct
import sys
import types
import zipfile

import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "torch"


def values(k, shape, dtype=torch.float32):
    n = int(np.prod(shape, dtype=np.int64))
    whole = (torch.arange(n, dtype=torch.int64) * 37 + k * 11) % 101
    if dtype == torch.bool:
        return (whole % 2).bool().reshape(shape)
    if not dtype.is_floating_point:
        return whole.to(dtype).reshape(shape)
    return ((whole - 50).to(torch.float64) / 8).to(dtype).reshape(shape)


# ---- what PyTorch writes --------------------------------------------------------------------------

def model(prefix=""):
    """A GPT-2 of one layer as Krony-PT names it, its head tied: 19 tensors, 18 storages."""
    shapes = {
        "transformer.wte.weight": (7, 4), "transformer.wpe.weight": (5, 4),
        "transformer.h.0.ln_1.weight": (4,), "transformer.h.0.ln_1.bias": (4,),
        "transformer.h.0.attn.c_attn.weight": (12, 4), "transformer.h.0.attn.c_attn.bias": (12,),
        "transformer.h.0.attn.c_proj.weight": (4, 4), "transformer.h.0.attn.c_proj.bias": (4,),
        "transformer.h.0.ln_2.weight": (4,), "transformer.h.0.ln_2.bias": (4,),
        "transformer.h.0.mlp.c_fc_0": (1, 2, 8), "transformer.h.0.mlp.c_fc_1": (1, 2, 2),
        "transformer.h.0.mlp.c_fc_bias": (16,),
        "transformer.h.0.mlp.c_proj_0": (1, 8, 2), "transformer.h.0.mlp.c_proj_1": (1, 2, 2),
        "transformer.h.0.mlp.c_proj_bias": (4,),
        "transformer.ln_f.weight": (4,), "transformer.ln_f.bias": (4,),
    }
    out = collections.OrderedDict(
        (prefix + name, values(k, shape)) for k, (name, shape) in enumerate(shapes.items()))
    out[prefix + "lm_head.weight"] = out[prefix + "transformer.wte.weight"]
    out._metadata = collections.OrderedDict([("", {"version": 1})])  # as state_dict() has
    return out


def kinds():
    """Every element type and every kind of view."""
    base = values(20, (6, 5))
    shared = values(21, (12,))
    out = {name: values(k, (2, 3), dtype) for k, (name, dtype) in enumerate([
        ("f64", torch.float64), ("f32", torch.float32), ("f16", torch.float16),
        ("bf16", torch.bfloat16), ("i64", torch.int64), ("i32", torch.int32),
        ("i16", torch.int16), ("i8", torch.int8), ("u8", torch.uint8), ("bool", torch.bool)])}
    out.update({
        "scalar": values(10, ()), "empty": values(11, (0, 4)), "parameter":
        torch.nn.Parameter(values(12, (2, 2))), "base": base, "turned": base.t(),
        "column": base[:, 1], "corner": base[1:5:2, 2:4], "first": shared[:4],
        "rest": shared[4:].view(2, 4), "expanded": values(13, (3, 1)).expand(3, 4),
        "deep": values(14, (2, 3, 4)).permute(2, 0, 1), "wide": values(15, (3, 2), torch.float64).t(),
    })
    return out


def training():
    sgd = torch.optim.AdamW([torch.nn.Parameter(values(0, (2, 2)))], lr=6e-4)
    sgd.param_groups[0]["params"][0].grad = values(1, (2, 2))
    sgd.step()
    optimizer = sgd.state_dict()
    for group in optimizer["param_groups"]:  # newer versions have more
        for key in set(group) - {"lr", "betas", "eps", "weight_decay", "amsgrad", "foreach",
                                 "maximize", "capturable", "params"}:
            del group[key]
    return {
        "model": model("_orig_mod."), "optimizer": optimizer,
        "model_args": {"n_layer": 1, "n_head": 2, "n_embd": 4, "block_size": 5, "bias": True,
                       "vocab_size": 7, "dropout": 0.0},
        "iter_num": 2000, "best_val_loss": torch.tensor(2.5),
        "config": {"out_dir": "out", "eval_only": False, "wandb_run_name": "gpt2-\u00e9",
                   "learning_rate": 6e-4, "init_from": None, "list": [1, (2.5, "x")],
                   "seed": 2 ** 31, "big": 2 ** 70, "nan": float("nan"), "minus": -5},
    }


def images():
    """As T2T-ViT and timm save: arguments, numpy's numbers, a moving average."""
    return {
        "epoch": 309, "arch": "t2t_vit_7",
        "state_dict": {"module.head.weight": values(0, (3, 2)), "module.head.bias": values(1, (3,))},
        "state_dict_ema": {"head.weight": values(2, (3, 2)), "head.bias": values(3, (3,))},
        "args": argparse.Namespace(lr=1e-3, model="t2t_vit_7", mean=(0.485, 0.456), cutmix=None,
                                   path=pathlib.PurePosixPath("/data/imagenet")),
        "metric": np.float64(71.75), "numbers": {
            "f32": np.float32(0.5), "f16": np.float16(-2), "i64": np.int64(-7), "u8": np.uint8(200),
            "bool": np.bool_(True), "array": np.arange(3)},
        "plain": {"set": {3}, "complex": 1 + 2j, "bytes": b"\x00\xff", "dtype": torch.float16,
                  "size": torch.Size([2, 3]), "device": torch.device("cpu"), "none": b"",
                  "default": collections.defaultdict(list, {"a": [1]})},
    }


# ---- pickles by hand ------------------------------------------------------------------------------

def text(s):
    b = s.encode()
    return b"X" + struct.pack("<I", len(b)) + b


def number(i):
    return b"K" + bytes([i]) if 0 <= i < 256 else b"\x8a\x08" + struct.pack("<q", i)


def name(module, what):
    return b"c" + module.encode() + b"\n" + what.encode() + b"\n"


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def tensor(size, stride, offset=0, elements=4, key="0", kind="FloatStorage"):
    storage = tup(text("storage"), name("torch", kind), text(key), text("cpu"),
                  number(elements)) + b"Q"
    args = tup(storage, number(offset), tup(*map(number, size)), tup(*map(number, stride)), b"\x89",
               name("collections", "OrderedDict") + b")R")
    return name("torch._utils", "_rebuild_tensor_v2") + args + b"R"


GOOD = tensor((2, 2), (2, 1))


def typed(kind):
    """As PyTorch 2 writes element types that have no storage class of their own."""
    storage = tup(text("storage"), name("torch", "UntypedStorage"), text("0"), text("cpu"),
                  number(16)) + b"Q"
    args = tup(storage, number(1), tup(number(3)), tup(number(1)), b"\x89",
               name("collections", "OrderedDict") + b")R", name("torch", kind))
    return name("torch._utils", "_rebuild_tensor_v3") + args + b"R"


def state(value, *more):
    """A state dict {"a": value} with further opcodes that set items."""
    return b"\x80\x02}" + text("a") + value + b"s" + b"".join(more) + b"."


def archive(path, pickle, storages=(b"\0\0\x80\x3f" * 4,), folder="hostile", method=zipfile.ZIP_STORED,
            more=()):
    with zipfile.ZipFile(path, "w", method) as z:
        def add(what, data):
            z.writestr(zipfile.ZipInfo(f"{folder}/{what}"), data, compress_type=method)
        add("data.pkl", pickle)
        for what, data in more:
            add(what, data)
        for i, data in enumerate(storages):
            add(f"data/{i}", data)
        add("version", b"3\n")


def laughs():
    """Tuples of the one before, twice: 2^40 leaves."""
    return text("x") + b")" + b"2\x86" * 40 + b"s"


def hostile():
    out = OUT / "hostile"
    out.mkdir(parents=True, exist_ok=True)
    call = tup(text("echo harm")) + b"R"
    item = text("b")
    rows = {
        "system": state(name("posix", "system") + call),
        "eval": state(name("builtins", "eval") + call),
        "getattr": state(name("__builtin__", "getattr") + call),
        "load": state(name("torch.storage", "_load_from_bytes") + call),
        "alias": state(name("evil", "OrderedDict") + call),
        "stack": b"\x80\x04}" + b"\x8c\x01a\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85Rs.",
        "newobj": state(name("subprocess", "Popen") + tup(text("sh")) + b"\x81"),
        "inst": state(b"(" + text("x") + b"ios\nsystem\n"),
        "persistent": state(b"Phttp://x\n"),
        "extension": state(b"\x82\x01"),
        "dotted": state(name("torch", "os.system") + call),
        "typecall": state(name("torch", "FloatStorage") + call),
        "nocall": state(text("x") + call),
        "badargs": state(name("torch._utils", "_rebuild_tensor_v2") + call),
        "module": state(tup(text("module"), name("collections", "OrderedDict"), text("m.py"),
                            text("import os")) + b"Q"),
        "huge": state(tensor((1 << 40,), (0,))),
        "overflow": state(tensor((1 << 40, 1 << 40), (0, 0))),
        "far": state(tensor((2, 2), (1 << 61, 1 << 61))),
        "beyond": state(tensor((2, 3), (3, 1))),
        "offset": state(tensor((2, 2), (2, 1), offset=1)),
        "negative": state(tensor((2, 2), (-2, 1))),
        "before": state(tensor((2,), (1,), offset=-1)),
        "dimensions": state(tensor((1,) * 9, (1,) * 9)),
        "missing": state(tensor((2, 2), (2, 1), key="7")),
        "upwards": state(tensor((2, 2), (2, 1), key="../data.pkl")),
        "length": state(tensor((2, 2), (2, 1), elements=5)),
        "elements": state(tensor((2, 2), (2, 1), elements=1 << 62)),
        "twice": state(GOOD, text("a") + GOOD + b"s"),
        "noname": state(GOOD, number(3) + GOOD + b"s"),
        "cycle": state(GOOD, item + b"]q\x05h\x05as"),
        "laughs": state(GOOD, laughs()),
        "deep": state(GOOD, item + b")" + b"\x85" * 300 + b"s"),
        "memo": state(GOOD, item + b"h\x2as"),
        "farmemo": state(GOOD, item + b"]r\xff\xff\xff\xffs"),
        "longtext": state(GOOD, b"X\xff\xff\xff\xffab"),
        "longint": state(GOOD, item + b"\x8b\xff\xff\xff\x7fs"),
        "underflow": b"\x80\x02....",
        "marks": b"\x80\x02((\x86.",
        "nomark": b"\x80\x02}t.",
        "odd": b"\x80\x02}(" + text("a") + b"u.",
        "noitems": b"\x80\x02" + text("a") + text("b") + text("c") + b"s.",
        "opcode": b"\x80\x02}\xfe.",
        "protocol": b"\x80\x09}.",
        "empty": b"\x80\x02}.",
        "list": b"\x80\x02].",
        "single": b"\x80\x02" + GOOD + b".",
        "tail": state(GOOD) + b"cos\nsystem\n",
        "unstopped": state(GOOD)[:-1],
    }
    for what, pickle in rows.items():
        archive(out / f"{what}.pt", pickle)
    archive(out / "deflated.pt", state(GOOD), method=zipfile.ZIP_DEFLATED)
    archive(out / "big.pt", state(GOOD), more=[("byteorder", b"big")])
    archive(out / "script.pt", state(GOOD), more=[("constants.pkl", b"\x80\x02).")])
    archive(out / "nopickle.pt", state(GOOD), folder="a/b")
    torch.save(torch.nn.Linear(1, 1), out / "linear.pt")
    # PyTorch 2's names, by hand: a dtype without storage class, numpy 2, a parameter with state.
    scalar = (name("numpy._core.multiarray", "scalar") + tup(
        name("numpy", "dtype") + tup(text("f8"), b"\x89", b"\x88") + b"R" +
        tup(number(3), text("<"), b"N", b"N", b"N") + b"b", b"C\x08" + struct.pack("<d", 0.25)) +
        b"R")
    parameter = (name("torch._utils", "_rebuild_parameter_with_state") + tup(GOOD, b"\x88", b"N", b"}")
                 + b"R")
    wrapped = (name("torch._tensor", "_rebuild_from_type_v2") + tup(
        name("torch._utils", "_rebuild_tensor_v2"), name("torch", "Tensor"),
        GOOD[len(name("torch._utils", "_rebuild_tensor_v2")):-1], b"}") + b"R")
    archive(OUT / "newer.pt", state(typed("uint16"), text("f8") + typed("float8_e4m3fn") + b"s",
                                    text("p") + parameter + b"s", text("w") + wrapped + b"s",
                                    text("score") + scalar + b"s"),
            folder="newer", more=[("byteorder", b"little"), (".data/serialization_id", b"1234")])


def write():
    torch.manual_seed(0)
    hostile()
    torch.save(model(), OUT / "krony.pt")
    torch.save(training(), OUT / "nanogpt.pt")
    torch.save(training(), OUT / "nanogpt-legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(images(), OUT / "images.pth.tar", _use_new_zipfile_serialization=False)
    torch.save(kinds(), OUT / "kinds.pt")
    torch.save(kinds(), OUT / "kinds-legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(kinds(), OUT / "kinds-4.pt", pickle_protocol=4)


# ---- what llm.c writes ----------------------------------------------------------------------------

def llmc(path):
    """A GPT-2 of two layers by llm.c's model and writer; only its vocabulary is not GPT-2's."""
    for missing in ("torch._inductor", "torch._inductor.config"):  # not in 1.13, not used here
        sys.modules.setdefault(missing, types.ModuleType(missing))
    spec = importlib.util.spec_from_file_location("train_gpt2", path)
    train_gpt2 = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train_gpt2)
    train_gpt2.GPT._init_weights = lambda self, module: None  # needs a newer PyTorch
    train_gpt2.pad_vocab = lambda t: torch.nn.functional.pad(t, (0, 0, 0, -t.size(0) % 128))
    gpt2 = train_gpt2.GPT(train_gpt2.GPTConfig(block_size=3, vocab_size=130, n_layer=2, n_head=2,
                                               n_embd=4))
    with torch.no_grad():
        for k, (_, parameter) in enumerate(sorted(gpt2.named_parameters())):
            parameter.copy_(values(k, parameter.shape))
    for dtype in ("float32", "bfloat16"):
        train_gpt2.write_model(gpt2, OUT / f"llmc-{dtype}.bin", dtype)


# ---- what gguf writes -----------------------------------------------------------------------------

def byte_names():
    """GPT-2's printable character of each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)]


def gguf_model():
    """A GPT-2 of two layers, 264 rows of embedding for 260 tokens, in three element types."""
    import gguf
    out = OUT / "gguf"
    out.mkdir(parents=True, exist_ok=True)
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the")]
    tokens = [*byte_names(), *("".join(pair) for pair in merges), "<|endoftext|>"]
    (out / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), "utf-8")
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges),
                                    "utf-8")
    shapes = {"transformer.wte.weight": (264, 4), "transformer.wpe.weight": (3, 4),
              "transformer.ln_f.weight": (4,), "transformer.ln_f.bias": (4,)}
    for i in range(2):
        for part, rows, cols in (("attn.c_attn", 12, 4), ("attn.c_proj", 4, 4), ("mlp.c_fc", 16, 4),
                                 ("mlp.c_proj", 4, 16)):
            shapes[f"transformer.h.{i}.{part}.weight"] = (rows, cols)
            shapes[f"transformer.h.{i}.{part}.bias"] = (rows,)
        for part in ("ln_1", "ln_2"):
            shapes[f"transformer.h.{i}.{part}.weight"] = shapes[f"transformer.h.{i}.{part}.bias"] = (4,)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, 2)
    w = gguf.GGUFWriter(out / "gpt2.gguf", "gpt2")
    w.add_type("model")
    w.add_name("tiny")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_custom_alignment(32)
    w.add_context_length(3)
    w.add_embedding_length(4)
    w.add_feed_forward_length(16)
    w.add_block_count(2)
    w.add_head_count(2)
    w.add_layer_norm_eps(1e-5)
    w.add_vocab_size(264)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([*tokens, *(f"[PAD{i}]" for i in range(260, 264))])
    w.add_token_types([*([gguf.TokenType.NORMAL] * 259), gguf.TokenType.CONTROL,
                       *([gguf.TokenType.UNUSED] * 4)])
    w.add_token_merges([f"{a} {b}" for a, b in merges])
    w.add_bos_token_id(259)
    w.add_eos_token_id(259)
    for k, (what, shape) in enumerate(sorted(shapes.items())):
        t, name_there = values(k, shape), names.get_name(what, try_suffixes=(".weight", ".bias"))
        if "c_attn.weight" in what:
            bits = t.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint8)
            w.add_tensor(name_there, bits, raw_dtype=gguf.GGMLQuantizationType.BF16)
        elif len(shape) == 2 and "wpe" not in what:
            w.add_tensor(name_there, t.to(torch.float16).numpy())
        else:
            w.add_tensor(name_there, t.numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- what strut writes ----------------------------------------------------------------------------

def check(path, expected):
    """Loads an archive in both ways and compares it with the JSON beside it."""
    want = json.loads(pathlib.Path(expected).read_text(encoding="utf-8"))
    for weights_only in (True, False):
        if weights_only and want["extra"] and int(torch.__version__.split(".")[0]) < 2:
            continue  # PyTorch 1's own checkpoints cannot be loaded so: no floats beside tensors
        root = torch.load(path, weights_only=weights_only)
        tensors = root.pop(want["key"]) if want["key"] else root
        assert type(tensors) is collections.OrderedDict, type(tensors)
        assert list(tensors) == list(want["tensors"]), list(tensors)
        for what, (dtype, shape, numbers) in want["tensors"].items():
            t = tensors[what]
            assert t.dtype == getattr(torch, dtype), (what, t.dtype)
            assert list(t.shape) == shape and t.is_contiguous(), (what, t.shape)
            assert t.to(torch.float64).flatten().tolist() == numbers, (what, t)
        if want["key"]:
            assert root == want["extra"], root
        for one, other in want["tied"]:
            assert tensors[one].data_ptr() == tensors[other].data_ptr(), (one, other)
        assert len({t.data_ptr() for t in tensors.values() if t.numel()}) == want["storages"]


if len(sys.argv) == 4 and sys.argv[1] == "check":
    check(*sys.argv[2:])
elif len(sys.argv) == 3 and sys.argv[1] == "llmc":
    llmc(sys.argv[2])
elif sys.argv[1:] == ["gguf"]:
    gguf_model()
else:
    write()
