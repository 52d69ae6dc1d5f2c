#!/usr/bin/env python3
"""Makes test/fixtures/parquet: small files by pyarrow, and what is in them.

    python3 -m venv V && V/bin/pip install pyarrow==26.0.1
    V/bin/python tools/fixtures_parquet.py

cases.json lists for each file the column, the strings that are not null (as latin-1 of their bytes),
or a part of the message with which it is refused.
"""
import json
import os
import random
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = "test/fixtures/parquet"
cases = []


def texts(n, seed=1):
    r = random.Random(seed)
    words = ["the", "Software", "shall", "be", "", "naïve", "日本", "😀", "a\nb", "\x00", "x" * 70]
    return [" ".join(r.choice(words) for _ in range(r.randrange(9))) for _ in range(n)]


def nulls(values, seed=2):
    r = random.Random(seed)
    return [None if r.random() < 0.3 else v for v in values]


def save(name, values, column="text", table=None, **how):
    table = table or pa.table({"id": list(range(len(values))), column: pa.array(values, pa.string())})
    pq.write_table(table, f"{OUT}/{name}.parquet", **how)
    cases.append({"file": name + ".parquet", "column": column,
                  "values": [v.encode().decode("latin-1") for v in values if v is not None]})


def refuse(name, table, says, column="text", **how):
    pq.write_table(table, f"{OUT}/{name}.parquet", **how)
    cases.append({"file": name + ".parquet", "column": column, "says": says})


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def struct_of(*fields):
    """A Thrift struct of (id, value): whole numbers, bytes, lists of structs, structs."""
    out, last = b"", 0
    for at, value in fields:
        kind = 12
        if isinstance(value, int):
            kind, value = 6, varint(value * 2 if value >= 0 else -value * 2 - 1)
        elif isinstance(value, list):
            kind, value = 9, bytes([len(value) << 4 | 12]) + b"".join(value)
        elif isinstance(value, str):
            kind, value = 8, varint(len(value)) + value.encode()
        out += bytes([(at - last) << 4 | kind]) + value
        last = at
    return out + b"\0"


def page(data, values, kind=0, plain=None, codec=lambda d: d, encoding=0):
    packed = codec(data)
    part = {0: 5, 2: 7}[kind]
    counts = [(1, values), (2, encoding)] + ([(3, 3), (4, 3)] if kind == 0 else [])
    return struct_of((1, kind), (2, len(data) if plain is None else plain), (3, len(packed)),
                     (part, struct_of(*counts))) + packed


def hostile(name, says, chunks, rows, codec=0, at=None):
    """A file of column chunks as they are, which readers must refuse."""
    body, places = b"PAR1", []
    for chunk in chunks:
        places.append((len(body), len(chunk)))
        body += chunk
    groups = [struct_of((1, [struct_of((3, struct_of((1, 6), (4, codec), (5, rows), (7, n), (9, place))))]),
                        (2, n), (3, rows)) for place, n in (at or places)]
    footer = struct_of((1, 1), (2, [struct_of((4, "root"), (5, 1)), struct_of((1, 6), (3, 0), (4, "text"))]),
                       (3, rows * len(groups)), (4, groups))
    with open(f"{OUT}/{name}.parquet", "wb") as f:
        f.write(body + footer + struct.pack("<I", len(footer)) + b"PAR1")
    case = {"file": name + ".parquet", "column": "text"}
    case.update({"says": says} if says else {"values": ["ab"] * rows * len(groups)})
    cases.append(case)


def bombs():
    ab = b"\2\0\0\0ab"
    hostile("made", None, [page(ab * 3, 3)] * 2, 3)
    hostile("made-words", None, [page(ab, 1, kind=2) + page(b"\0" + b"\6\0", 3, encoding=8)], 3)
    hostile("bomb-page", "out of its range", [page(ab, 1, plain=513 << 20)], 1)
    hostile("bomb-values", "out of its range", [page(ab, 1 << 28)], 1 << 28)
    hostile("bomb-shared", "row group 1 is at 4", [page(ab * 3, 3)], 3, at=[(4, len(page(ab * 3, 3)))] * 9)
    hostile("bomb-more", "no gzip data of 6 bytes", [page(ab, 1, plain=6, codec=lambda d: zlib.compress(d * 999))],
            1, codec=2)
    hostile("bomb-less", "no gzip data of 60 bytes", [page(ab, 1, plain=60, codec=zlib.compress)], 1, codec=2)
    hostile("bomb-words", "more values than its bytes", [page(ab, 1 << 20, kind=2) + page(b"\0\6\0", 3, encoding=8)], 3)
    hostile("bomb-index", "none of the dictionary", [page(ab, 1, kind=2) + page(b"\1\6\1", 3, encoding=8)], 3)
    hostile("bomb-length", "values that end early", [page(b"\xff\xff\xff\xff" + b"ab", 1)], 1)
    hostile("two-words", "two dictionaries", [page(ab, 1, kind=2) * 2 + page(b"\0\6\0", 3, encoding=8)], 3)
    hostile("no-words", "a dictionary is used that is not there", [page(b"\0\6\0", 3, encoding=8)], 3)
    hostile("few-values", "values less than it says", [page(ab * 3, 3)], 4)
    hostile("many-values", "more values than it says", [page(ab * 3, 3)], 2)


def main():
    assert pa.__version__ == "26.0.1", pa.__version__
    os.makedirs(OUT, exist_ok=True)
    for codec in ("none", "snappy", "gzip", "zstd"):
        for version in ("1.0", "2.0"):
            save(f"{codec}-v{version[0]}", nulls(texts(60)), compression=codec, data_page_version=version)
            save(f"{codec}-plain-v{version[0]}", nulls(texts(40)), compression=codec,
                 data_page_version=version, use_dictionary=False)
    for encoding in ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"):
        for version in ("1.0", "2.0"):
            save(f"{encoding.lower()}-v{version[0]}", nulls(sorted(texts(300))), use_dictionary=False,
                 column_encoding={"text": encoding, "id": "PLAIN"}, data_page_version=version)
    # the dictionary grows too large and the rest is plain; several pages and row groups
    save("fallback", texts(400), dictionary_pagesize_limit=500, data_page_size=300, write_batch_size=16)
    save("groups", nulls(texts(200)), row_group_size=30, data_page_size=100, write_batch_size=7,
         write_page_checksum=True)
    save("same", ["all the same"] * 1000, data_page_size=100, write_batch_size=100)
    save("null", [None] * 500)
    save("null-v2", [None] * 50, data_page_version="2.0", compression="snappy")
    save("no-rows", [])
    save("empty-strings", [""] * 20 + ["x"], use_dictionary=False)
    required = pa.schema([pa.field("id", pa.int64()), pa.field("text", pa.string(), nullable=False)])
    values = texts(50)
    save("required", values, table=pa.table({"id": list(range(50)), "text": values}, schema=required))
    save("index", nulls(texts(60)), write_page_index=True, compression="zstd")
    inner = pa.array([None if v is None else {"raw": v} for v in nulls(texts(50))],
                     pa.struct([("raw", pa.string())]))
    save("struct", [None if v is None else v["raw"] for v in inner.to_pylist()], column="page.raw",
         table=pa.table({"page": inner}))
    save("large", texts(30), table=pa.table({"text": pa.array(texts(30), pa.large_string())}))
    save("bytes", texts(30), table=pa.table({"text": pa.array([t.encode() for t in texts(30)], pa.binary())}))

    plain = pa.table({"id": [1, 2], "content": ["a", "b"], "tags": [["x"], ["y", "z"]]})
    refuse("refused-missing", plain, 'no column "contents", did you mean "content"; it has "id" (int64), '
           '"content" (string), "tags.list.element" (a list); choose with --field', column="contents")
    refuse("refused-type", plain, 'column "id" is int64, expected a string column', column="id")
    refuse("refused-list", plain, 'column "tags" holds lists', column="tags")
    refuse("refused-group", pa.table({"page": inner}), 'column "page" holds groups', column="page")
    for codec in ("brotli", "lz4"):
        refuse("refused-" + codec, pa.table({"text": texts(9)}), "compressed with " + codec,
               compression=codec)
    bombs()
    json.dump(cases, open(OUT + "/cases.json", "w"), indent=0)
    print({f: os.path.getsize(f"{OUT}/{f}") for f in sorted(os.listdir(OUT))})


main()
