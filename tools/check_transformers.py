#!/usr/bin/env python3
"""Loads what strut exports into Hugging Face's transformers and compares the numbers.

    tools/check_transformers.py [STRUT [CASE...]]    (default: $STRUT, else build/strut; every case)

For a small GPT-2 of every matrix type, and small Llama-shaped models of every family: `strut convert
--to hf-code` (structured, through the code beside the weights) and `--to hf` (dense, in one file and
in shards) are loaded with AutoModelForCausalLM; logits must agree with `strut generate --logits` to
1e-4 and greedy texts be the same. What transformers and torch.save then write must read back in strut
with the same logits. The exported tokenizer must give strut's ids. Needs python, torch, transformers
and the binary, nothing else.
Exit code: 0 all agree, 1 something differs, 77 transformers is not installed.
"""
# SPDX-License-Identifier: MIT
import json
import os
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as e:
    print("skipped: transformers is not installed (%s)" % e)
    sys.exit(77)

LIMIT = 1e-4
TINY = dict(model_type="gpt2", vocab_size=300, n_positions=32, n_embd=48, n_layer=2, n_head=3,
            initializer_range=0.15, bos_token_id=299, eos_token_id=299)
LLAMA = dict(vocab_size=300, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
             num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=64,
             initializer_range=0.15, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=299)
CASES = {
    "dense": (["*=dense"], {}),
    "erf, scaled by layer": (["*=dense"], dict(activation_function="gelu", n_inner=80,
                                               scale_attn_by_inverse_layer_idx=True,
                                               layer_norm_epsilon=1e-3)),
    "untied": (["*=dense"], dict(tie_word_embeddings=False)),
    "lowrank": (["h.*=lowrank:rank=7"], {}),
    "lowrank head": (["h.*.mlp.*=lowrank:rank=7", "lm_head=lowrank:rank=9"], {}),
    "blockdiag": (["h.*=blockdiag:blocks=4"], {}),
    "blockdiag, ragged": (["h.*=blockdiag:blocks=5"], {}),
    "monarch": (["h.*=monarch:blocks=4"], {}),
    "monarch, ragged": (["h.*=monarch:blocks=5,inner=11"], {}),
    "kron": (["h.*.mlp.c_fc=kron:m1=48,n1=48", "h.*.mlp.c_proj=kron:m1=48,n1=48"], {}),
    "kron, terms": (["h.*=kron:terms=3,m1=16,n1=12,scalars=1"], {}),
    "ss1": (["h.*=ss1:factor=3"], {}),
    "ss1, padded": (["h.*=ss1:factor=5,bk=8"], {}),
    "ss1, folds": (["h.*=ss1:factor=2,folds=5,signs=1"], {}),
    "btt": (["h.*=btt:rank=2"], {}),
    "btt, group": (["h.*=btt:rank=2,m1=4,n1=8,group=2"], {}),
    "sum, mean": (["h.*=lowrank:rank=3+blockdiag:blocks=4+mean"], {}),
    "btt, sum": (["h.*=lowrank:rank=3+btt:rank=1,m1=3,n1=16"], {}),
    "butterfly": (["h.*=butterfly:size=8,factors=2,block=4"], {}),
    "butterfly, dilated": (["h.*=butterfly:size=8,factors=1,block=16"], {}),
    "butterfly, gated": (["h.*=lowrank:rank=3+butterfly:size=4,factors=1,block=8+gate"], {}),
    "sum": (["h.*=lowrank:rank=3+blockdiag:blocks=4"], {}),
    "sum, gate": (["h.*=lowrank:rank=3+monarch:blocks=4+gate"], {}),
    "sum, dense": (["h.1.*=lowrank:rank=3+dense+gate"], {}),
    "low-rank embedding": (["wte=lowrank:rank=11"], {}),
    "kron embedding": (["wte=kron:terms=2,m1=24,n1=300,scalars=1", "h.*=monarch:blocks=4"], {}),
    "kron embedding, untied": (["wte=kron:m1=24,n1=300"], dict(tie_word_embeddings=False)),
    "mixed": (["h.0.attn.*=monarch:blocks=4", "h.0.mlp.*=kron:terms=2,m1=24,n1=24",
               "h.1.mlp.*=lowrank:rank=8"], {}),
    "llama": (["*=dense"], dict(LLAMA, model_type="llama", tie_word_embeddings=True, rope_scaling=dict(
        rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16))),
    "llama, biases": (["layers.*=monarch:blocks=4"], dict(LLAMA, model_type="llama", mlp_bias=True,
                                                          attention_bias=True)),
    "mistral": (["layers.*.mlp.*=lowrank:rank=7", "lm_head=lowrank:rank=9"],
                dict(LLAMA, model_type="mistral", sliding_window=5)),
    "qwen2": (["layers.*.mlp.*=blockdiag:blocks=4", "layers.1.self_attn.*=lowrank:rank=5"],
              dict(LLAMA, model_type="qwen2", tie_word_embeddings=True)),
    "qwen3": (["layers.*.self_attn.*=lowrank:rank=7", "embed_tokens=lowrank:rank=11"],
              dict(LLAMA, model_type="qwen3", head_dim=10, tie_word_embeddings=True)),
    "gemma3": (["layers.*.mlp.*=lowrank:rank=7", "layers.1.self_attn.*=monarch:blocks=4"],
               dict(LLAMA, model_type="gemma3_text", head_dim=10, sliding_window=5, sliding_window_pattern=2,
                    query_pre_attn_scalar=12, rope_scaling=dict(rope_type="linear", factor=2.0))),
    "gemma3, embedding": (["embed_tokens=lowrank:rank=11"], dict(LLAMA, model_type="gemma3_text", head_dim=8,
                                                                 sliding_window=6)),
}
IDS = [5, 17, 99, 0, 250, 31, 31, 8]
TEXT = "the cat sat on the mat; the dog didn't. 1234 cats!\n\nthat's all the cat had to say about it."


class Differs(Exception):
    pass


def strut(binary, *args):
    done = subprocess.run([binary, *args, "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise Differs("strut %s: %s" % (" ".join(args), done.stderr.strip()))
    return json.loads(done.stdout)


def strut_answers(binary, model, dir_):
    path = os.path.join(dir_, "logits.safetensors")
    got = strut(binary, "generate", model, "--ids", ",".join(map(str, IDS)), "--tokens", "12",
                "--temperature", "0", "--ignore-eos", "--logits", path, "--force")
    return load_file(path)["logits"], got["ids"]


def shake(path):
    """Noise on norms, biases and scalars, which a fresh model has at 1 and 0."""
    torch.manual_seed(1)
    w = load_file(path)
    for name, t in sorted(w.items()):
        if t.dim() == 1 or name.endswith("gate.weight"):
            w[name] = t + 0.2 * torch.randn(t.shape)
    save_file(w, path, metadata={"format": "pt"})


def theirs(folder, **more):
    # not loaded as they are stored and then widened: Gemma's buffers would have been rounded by then
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True,
                                                       dtype=torch.float32, **more)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(key):
            raise Differs("%s: %s: %s" % (folder, key, list(info[key])[:3]))
    return model.eval()


def compare(model, logits, greedy, what):
    ids = torch.tensor([IDS])
    with torch.no_grad():
        found = model(ids).logits[0].float()
        text = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              min_new_tokens=12, max_new_tokens=12, pad_token_id=0,
                              eos_token_id=None)
    off = (found - logits).abs().max().item()
    if not off <= LIMIT:
        raise Differs("%s: logits differ by %g" % (what, off))
    if text[0, len(IDS):].tolist() != greedy:
        raise Differs("%s: greedy text is %s, strut's %s" % (what, text[0, len(IDS):].tolist(),
                                                             greedy))
    return off


def check_torch(binary, dir_, model, logits, greedy):
    """torch.save's files: ours into their model, theirs into strut."""
    path, folder = os.path.join(dir_, "x.pt"), os.path.join(dir_, "bin")
    strut(binary, "convert", os.path.join(dir_, "hf"), path, "--to", "pt")
    state = torch.load(path, map_location="cpu")["model"]
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    missing = model.load_state_dict(state, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        raise Differs("pt: other names: %s" % (missing,))
    off = compare(model, logits, greedy, "pt")
    os.mkdir(folder)
    torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"))
    model.config.save_pretrained(folder)
    back, _ = strut_answers(binary, folder, dir_)
    return [off, (back - logits).abs().max().item()]


def check_case(binary, dir_, maps, change):
    at = lambda *name: os.path.join(dir_, *name)
    with open(at("tiny.json"), "w") as f:
        json.dump(change if "model_type" in change else dict(TINY, **change), f)
    strut(binary, "init", at("tiny.json"), at("m"), *[a for m in maps for a in ("--map", m)])
    shake(at("m", "model.safetensors"))
    logits, greedy = strut_answers(binary, at("m"), dir_)
    if logits.std() < 0.1:
        raise Differs("the model says nothing: logits of deviation %g" % logits.std())

    offs = []
    strut(binary, "convert", at("m"), at("code"), "--to", "hf-code")
    model = theirs(at("code"), trust_remote_code=True)
    offs.append(compare(model, logits, greedy, "hf-code"))
    model.save_pretrained(at("saved-code"))
    offs.append((strut_answers(binary, at("saved-code"), dir_)[0] - logits).abs().max().item())
    if not any("gate" in m for m in maps):
        strut(binary, "convert", at("m"), at("hf"), "--to", "hf")
        model = theirs(at("hf"))
        offs.append(compare(model, logits, greedy, "hf"))
        strut(binary, "convert", at("m"), at("shards"), "--to", "hf", "--shard-size", "40KB")
        offs.append(compare(theirs(at("shards")), logits, greedy, "hf, sharded"))
        model.save_pretrained(at("saved"))
        offs.append((strut_answers(binary, at("saved"), dir_)[0] - logits).abs().max().item())
        offs += check_torch(binary, dir_, model, logits, greedy)
        for dtype in ("bf16", "f16"):
            strut(binary, "convert", at("hf"), at(dtype), "--to", "hf", "--dtype", dtype)
            compare(theirs(at(dtype)), *strut_answers(binary, at(dtype), dir_), dtype)
    if max(offs) > LIMIT:
        raise Differs("what transformers saved gives other logits: %g" % max(offs))
    return max(offs)


def check_types(binary):
    """Types of the table that no case has."""
    specs = [m.partition("=")[2] for maps, _ in CASES.values() for m in maps]
    have = {part.partition(":")[0] for spec in specs for part in spec.split("+")}
    have |= {"sum" for spec in specs if "+" in spec}
    return [m["name"] for m in strut(binary, "maps")["maps"] if m["name"] not in have]


def check_tokenizer(binary, dir_):
    at = lambda *name: os.path.join(dir_, *name)
    with open(at("text"), "w") as f:
        f.write(TEXT * 20)
    with open(at("tiny.json"), "w") as f:
        json.dump(dict(TINY), f)
    strut(binary, "tokenizer", at("text"), "--out", at("t"), "--vocab", "300")
    strut(binary, "init", at("tiny.json"), at("m"), "--tokenizer", at("t"))
    strut(binary, "convert", at("m"), at("hf"), "--to", "hf")
    ours = strut(binary, "generate", at("hf"), "--prompt", TEXT, "--tokens", "0")["prompt_ids"]
    tokenizer = AutoTokenizer.from_pretrained(at("hf"))
    if tokenizer(TEXT)["input_ids"] != ours or tokenizer.decode(ours) != TEXT:
        raise Differs("the tokenizer gives other ids: %s" % tokenizer(TEXT)["input_ids"])


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1
                             else os.environ.get("STRUT", "build/strut"))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print("transformers %s, torch %s" % (transformers.__version__, torch.__version__))
    bad = 0
    for name in check_types(binary):
        bad += 1
        print("%-22s no case, and strut maps has such a type" % name)
    cases = {k: CASES[k] for k in sys.argv[2:]} or CASES
    for name, (maps, change) in cases.items():
        with tempfile.TemporaryDirectory() as dir_:
            try:
                print("%-22s ok, logits to %.1e" % (name, check_case(binary, dir_, maps, change)))
            except Differs as e:
                bad += 1
                print("%-22s %s" % (name, e))
    with tempfile.TemporaryDirectory() as dir_:
        try:
            check_tokenizer(binary, dir_)
            print("%-22s ok, the same ids" % "tokenizer")
        except Differs as e:
            bad += 1
            print("%-22s %s" % ("tokenizer", e))
    print("%d of %d agree" % (len(cases) + 1 - bad, len(cases) + 1))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
