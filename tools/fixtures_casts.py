#!/usr/bin/env python3
"""Makes test/fixtures/compose/casts.json: what the parser of Hydra (PyPI's hydra-core 1.3) makes of casts
in overrides: {WORD: value}; refused ones have {"error": true}.

    .../python tools/fixtures_casts.py
"""
# SPDX-License-Identifier: MIT
import json
import pathlib

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "compose" / "casts.json"
VALUES = ["3", "3.9", "-3.9", "'10'", '"1.5"', "true", "false", "'true'", "abc", "1e3", "0", "0.0",
          "[1, 2.5]", "{a: 1, b: [2]}", "'False'"]


def value(word):
    try:
        found = OverridesParser.create().parse_override(word)._value
        return json.loads(json.dumps(found, default=lambda o: getattr(o, "text", None)))
    except (HydraException, ValueError):
        return {"error": True}


words = [f"x={cast}({v})" for cast in ("int", "float", "bool", "str") for v in VALUES]
words += ["x=int(float(2.7))", "x=[int(1.5),str(2)]", "x=int (4)", "x=float(int(2.5))", "x=str(str(1))"]
OUT.write_text(json.dumps({w: value(w) for w in words}, indent=0) + "\n", "utf-8")
