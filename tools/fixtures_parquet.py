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
    json.dump(cases, open(OUT + "/cases.json", "w"), indent=0)
    print({f: os.path.getsize(f"{OUT}/{f}") for f in sorted(os.listdir(OUT))})


main()
