#!/usr/bin/env python3
"""Makes test/fixtures/foreign: checkpoints with objects of programs beside their weights, as PyTorch
saves them (Debian's python3-torch 1.13.1; OmegaConf 2.4.0 of PyPI on PYTHONPATH).

    PYTHONPATH=.../site-packages /usr/bin/python3 tools/fixtures_foreign.py

In beside/ every file has the one tensor w, (2, 3), element i of it (i * 37 % 101 - 50) / 8, under
"state_dict" or "model", and one kind of object beside it. In needed/ it is the tensor itself that an
object stands for. None of the classes here can be imported where the files are read.
"""
# SPDX-License-Identifier: MIT
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import uuid

import numpy as np
import omegaconf
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "foreign"


def weights():
    return collections.OrderedDict(w=((torch.arange(6) * 37 % 101 - 50).double() / 8).float()
                                   .reshape(2, 3))


@dataclasses.dataclass
class GPTConfig:
    block_size: int = 8
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 6
    rate: float = 0.5
    name: str = "tiny"


class Slots:
    __slots__ = ("n_head", "other")

    def __init__(self):
        self.n_head = 4
        self.other = [1, 2]


class Precision(enum.Enum):
    HALF = 16


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Attributes(dict):
    """As Lightning's AttributeDict: a dict with attributes."""


class Named(collections.namedtuple("Named", "a b")):
    pass


class Keywords:
    """An object that pickle makes with keywords, of protocol 4 on."""

    def __new__(cls, *, value):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"value": 3}


class Lists(list):
    pass


class Odd:
    """An object whose state is no dict."""

    def __getstate__(self):
        return (1, 2, 3)

    def __setstate__(self, state):
        pass


def hook(value):
    return value


def objects():
    cyclic = Slots()
    cyclic.other = cyclic
    attributes = Attributes(lr=1e-3, model=GPTConfig())
    attributes.note = "x"
    parameter = torch.nn.Parameter(torch.zeros(2))
    return {
        "omegaconf": omegaconf.OmegaConf.create(
            {"model": {"n_head": 2, "list": [1, 2, {"a": "???"}], "ref": "${model.n_head}"}, "seed": 1}),
        "omegalist": omegaconf.ListConfig([1, "a", None]),
        "dataclass": GPTConfig(), "slots": Slots(), "cyclic": cyclic, "enum": Precision.HALF,
        "flags": Flags.A | Flags.B, "attributes": attributes, "named": Named(1, "b"),
        "keywords": Keywords(value=3), "listclass": Lists([1, 2]), "odd": Odd(),
        "datetime": datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.timezone.utc),
        "delta": datetime.timedelta(seconds=3), "decimal": decimal.Decimal("1.5"),
        "fraction": fractions.Fraction(1, 3), "uuid": uuid.UUID(int=5), "bytearray": bytearray(b"\x00\xff"),
        "range": range(3), "deque": collections.deque([1, 2], maxlen=4), "function": hook,
        "class": GPTConfig, "partial": functools.partial(hook, 3), "method": "a".upper,
        "chain": collections.ChainMap({"a": 1}), "exception": ValueError("x"),
        "random": np.random.RandomState(1), "generator": np.random.default_rng(1),
        "optimizer": torch.optim.SGD([parameter], lr=0.1), "module": torch.nn.Linear(2, 2),
        "objects": [GPTConfig(), {"a": Slots(), 3: {Precision.HALF}}],
    }


class Raw:
    """Stands for what it is told to, as any reduction may."""

    def __init__(self, *reduction):
        self.reduction = reduction

    def __reduce__(self):
        return self.reduction


def write():
    beside, needed = OUT / "beside", OUT / "needed"
    beside.mkdir(parents=True, exist_ok=True)
    needed.mkdir(parents=True, exist_ok=True)
    for i, (name, value) in enumerate(objects().items()):
        root = {"step": 3, "hyper_parameters": value, ("model", "state_dict")[i % 2]: weights()}
        torch.save(root, beside / f"{name}.pt", pickle_protocol=2 if name == "method" or i % 3 else 4)
    for name in ("omegaconf", "dataclass", "enum"):
        root = {"step": 3, "hyper_parameters": objects()[name], "model": weights()}
        torch.save(root, beside / f"{name}-legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({**weights(), "config": GPTConfig()}, beside / "flat.pt")  # among the tensors
    torch.save({"model": Attributes(weights())}, beside / "dictclass.pt")  # around them
    sparse = torch.eye(2).to_sparse()
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)
    torch.save({"model": {"w": sparse, "v": torch.ones(1)}}, needed / "sparse.pt")
    torch.save({"model": {"w": quantized, "v": torch.ones(1)}}, needed / "quantized.pt")
    torch.save({"model": {"w": Raw(hook, (torch.ones(2),)), "v": torch.ones(1)}}, needed / "call.pt")
    torch.save({"model": {"transformer.wte.weight": Raw(hook, (torch.ones(3, 2),)),
                          "transformer.wpe.weight": torch.ones(2, 2)}}, needed / "gpt2.pt")
    torch.save({"model": Raw(hook, (weights(),))}, needed / "around.pt")
    torch.save(torch.nn.Linear(2, 2), needed / "whole.pt")


write()
