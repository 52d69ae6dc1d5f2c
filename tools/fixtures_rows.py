#!/usr/bin/env python3
"""Makes test/fixtures/rows: rows of text as Python 3 itself reads them (json, csv, its codecs), and what
datasets (5.2.0) finds in one object of JSON under its `field`.

    python3 tools/fixtures_rows.py

lines.jsonl has a row a line, good and bad; lines.want the documents that json.loads finds under
"text" (or in a row that is a text), one a line in hexadecimal UTF-8, surrogates alone as U+FFFD; a
line "bad N" at the end counts the others. table*.csv and table*.want: the column "text" by csv.DictReader.
nested.json is shaped as SQuAD's files are; nested.want the contexts of the rows of field="data".
columns.json holds columns in place of rows; columns.want its column "text", of field="data".
utf16*: a text in both orders, by Python's codecs. window31.jsonl.zst: by zstd (1.5.4), from a pipe.
"""
# SPDX-License-Identifier: MIT
import csv
import json
import pathlib
import subprocess
import tempfile

import datasets

OUT = pathlib.Path(__file__).resolve().parent.parent / "test" / "fixtures" / "rows"

ROWS = [
    '{"text": "plain"}', '{"text": "esc \\" \\\\ \\/ \\b\\f\\n\\r\\t \\u00e9"}',
    '{"text": "pair \\ud83d\\ude00 high \\ud83d alone, low \\ude00 alone, two \\ud83d\\ud83d\\ude00"}',
    '{"text": "high \\ud83d\\n then a newline, high \\ud83d\\u0041 then A"}',
    '{"score": NaN, "text": "nan"}', '{"score": [Infinity, -Infinity], "text": "inf"}',
    '{"id": 123456789012345678901234567890, "text": "big"}', '{"x": 1e999, "text": "overflow"}',
    '{"x": -0.5E+3, "y": 0, "z": 1e5, "text": "numbers"}', '{"text": "first", "text": "last"}',
    '{"a": {"text": "inner"}, "text": "outer"}', '{"text": null}', '{"text": 7}', '{"text": ["x"]}',
    '{"text": {"text": "x"}}', '{"other": "x"}', '"a text itself"', '[1]', '3', 'null', '{}', '{"text": "x"',
    '{"text": "x"}}', "{'text': 'x'}", '{"text": "x",}', '{"text": "tab\there"}', '{"text" "x"}',
    '{"text": "x" "y": 1}', '{"text": "bad \\x"}', '{"text": "bad \\u12g4"}', '{"n": 01, "text": "x"}',
    '{"n": .5, "text": "x"}', '{"n": 1., "text": "x"}', '{"n": +1, "text": "x"}', '{"n": nan, "text": "x"}',
    '{"n": tru, "text": "x"}', '  {"text": "blanks"} \t', '{"text": "é ünï 漢字"}', '{"a": [[[[{}]]]], "text": "deep"}',
    '{"text": "\\u0000nul"}', '{"\\u0074ext": "escaped name"}', '{"": 1, "text": "empty name"}',
    '{"text": "brackets ] } , {"}', '{"text": "end"}',
]

TABLE = '''id,text,other
1,plain,x
2,"with, comma",y
3,"two
lines",z
4,"a ""quote""",w
5,5" pipe,v
6,,empty
7,"",empty too
8,last,"x
y"
'''

NESTED = {"version": "1.1", "data": [
    {"title": "one", "paragraphs": [
        {"context": "first", "qas": [{"question": "?", "answers": [{"text": "a", "answer_start": 0}]}]},
        {"context": "second \u00e9, [ ] { }", "qas": []}]},
    {"title": "none", "paragraphs": []},
    {"title": "two", "paragraphs": [{"context": "third", "qas": [{"question": "context", "answers": []}]}]}]}

COLUMNS = {"data": {"id": [1, 2, 3], "text": ["column a", None, "column b"]}}


def encode(text):
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode().hex()


def field_rows(name):
    with tempfile.TemporaryDirectory() as cache:
        found = datasets.load_dataset("json", data_files=str(OUT / name), field="data", split="train", cache_dir=cache)
        return found[:]


def write():
    OUT.mkdir(parents=True, exist_ok=True)
    want, bad = [], 0
    for row in ROWS:
        try:
            value = json.loads(row)
        except ValueError:
            value = None
        if isinstance(value, list):
            value = value[0]  # the elements of an array are rows
        text = value.get("text") if isinstance(value, dict) else value
        if isinstance(text, list):
            text = text[0]  # and texts
        if isinstance(text, str):
            want.append(encode(text))
        else:
            bad += 1
    (OUT / "lines.jsonl").write_text("\n".join(ROWS) + "\n", "utf-8")
    (OUT / "lines.want").write_text("\n".join(want) + f"\nbad {bad}\n", "utf-8")
    for name, table in (("table", TABLE), ("table-crlf", "\ufeff" + TABLE.replace("\n", "\r\n"))):
        (OUT / f"{name}.csv").write_bytes(table.encode())
        with open(OUT / f"{name}.csv", encoding="utf-8-sig", newline="") as f:
            rows = [r["text"] for r in csv.DictReader(f)]
        (OUT / f"{name}.want").write_text("\n".join(encode(r) for r in rows if r) + "\n", "utf-8")
    (OUT / "nested.json").write_text(json.dumps(NESTED, indent=1) + "\n", "utf-8")
    rows = field_rows("nested.json")
    want = [encode(p["context"]) for row in rows["paragraphs"] for p in row]
    (OUT / "nested.want").write_text("\n".join(want) + "\n", "utf-8")
    (OUT / "columns.json").write_text(json.dumps(COLUMNS), "utf-8")
    want = [encode(text) for text in field_rows("columns.json")["text"] if text is not None]
    (OUT / "columns.want").write_text("\n".join(want) + "\nbad 1\n", "utf-8")
    text = "UTF-16: é 漢字 😀 and\nmore lines\n" * 1100 + "😀"
    (OUT / "utf16le.txt").write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    (OUT / "utf16be.txt").write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    subprocess.run(["zstd", "-q", "-f", "--long=31", "-o", str(OUT / "window31.jsonl.zst")], check=True,
                   input=b'{"text": "a window of 2^31 bytes"}\n')
    (OUT / "utf16.jsonl").write_bytes(('\ufeff{"text": "a 😀"}\n').encode("utf-16-le"))


write()
