#!/usr/bin/env python3
"""Writes test/fixtures/{llama,mistral,qwen2,qwen3,gemma3}_*: tiny Llama-shaped models as transformers computes
them, in float64 but for what its code takes to float32 (norms, angles); files and names of tensors
are those of tools/fixtures.py.

    tools/fixtures_llama.py [OUT]

Between them they have grouped and multi-query heads, heads whose widths are no power of two or do not
add up to the model's, every scaling of rotary positions, windows in all or some blocks, biases, norms of
queries and keys, tied and separate heads, SiLU and both GELUs; Gemma's also norms around both halves of
a block, scaled embeddings and other angles within windows. Needs torch and transformers.
"""
# SPDX-License-Identifier: MIT
import json
import os
import random
import sys

import torch
import torch.nn as nn
import transformers

from fixtures import expect, save

TINY = dict(vocab_size=67, hidden_size=20, intermediate_size=28, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=6, max_position_embeddings=16,
            rms_norm_eps=1e-5, initializer_range=0.02, tie_word_embeddings=False, bos_token_id=1,
            eos_token_id=2, rope_theta=100.0)
MODELS = {
    "llama_plain": dict(model_type="llama", num_key_value_heads=4, rms_norm_eps=1e-3),
    "llama_long": dict(model_type="llama", num_key_value_heads=1, attention_bias=True, mlp_bias=True,
                       hidden_act="gelu", tie_word_embeddings=True, eos_token_id=[2, 5],
                       rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0,
                                         high_freq_factor=4.0, original_max_position_embeddings=8)),
    "mistral_window": dict(model_type="mistral", sliding_window=5, head_dim=12, rope_scaling=dict(
        rope_type="yarn", factor=2.0, beta_fast=1.0, beta_slow=0.1,
        original_max_position_embeddings=8)),
    "qwen2_mixed": dict(model_type="qwen2", hidden_size=24, head_dim=None, use_sliding_window=True,
                        sliding_window=3, max_window_layers=1, tie_word_embeddings=True,
                        hidden_act="gelu_pytorch_tanh",
                        rope_scaling=dict(rope_type="linear", factor=3.0)),
    "qwen3_dynamic": dict(model_type="qwen3", num_attention_heads=6, num_key_value_heads=2,
                          head_dim=10, max_position_embeddings=8,
                          rope_scaling=dict(rope_type="dynamic", factor=2.0)),
    "gemma3_mixed": dict(model_type="gemma3_text", num_hidden_layers=3, head_dim=8, sliding_window=4,
                         sliding_window_pattern=2, query_pre_attn_scalar=5, rope_local_base_freq=30.0,
                         tie_word_embeddings=True,
                         rope_scaling=dict(rope_type="linear", factor=2.0)),
}


class HF(nn.Module):
    def __init__(self, c):
        super().__init__()
        c = dict(c)
        config = transformers.AutoConfig.for_model(c.pop("model_type"), **c, use_cache=False)
        config.pad_token_id = None  # whose row would have no gradient
        self.model = transformers.AutoModelForCausalLM.from_config(config,
                                                                   attn_implementation="eager")

    def forward(self, ids):
        return self.model(ids).logits

    def named_parameters(self, *args, **kwargs):
        return self.model.named_parameters(*args, **kwargs)


def fill(model, seed):
    """Numbers that do not depend on torch's version, large enough that every part matters."""
    rng = random.Random(seed)
    gemma = model.model.config.model_type == "gemma3_text"  # whose gains are stored less 1, in few bits
    gain = 0.0 if gemma else 1.0
    for name, p in sorted(model.named_parameters()):
        norm = name.endswith("norm.weight")
        values = [rng.gauss(gain, 0.2) if norm else rng.gauss(0.0, 0.15) for _ in range(p.numel())]
        with torch.no_grad():
            p.copy_(torch.tensor(values, dtype=torch.float32).view(p.shape))
            if gemma and norm:
                p.copy_(p.bfloat16())
    return model.double().eval()


def greedy(model, ids):
    """With a cache, whose keys keep the angles they had when they came."""
    out, past, step = [], None, ids
    with torch.no_grad():
        for _ in range(12):
            r = model.model(step, past_key_values=past, use_cache=True)
            past, step = r.past_key_values, r.logits[:, -1].argmax(-1, keepdim=True)
            out.append(step)
    return torch.cat(out, 1)[0].int()


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "test",
                                                             "fixtures")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    meta = {"torch": torch.__version__, "reference": "hf", "transformers": transformers.__version__}
    for seed, (name, change) in enumerate(MODELS.items()):
        c = {k: v for k, v in dict(TINY, **change).items() if v is not None}
        dir_ = os.path.join(out, name)
        os.makedirs(dir_, exist_ok=True)
        model = fill(HF(c), 50 + seed)
        weights = {k: p.detach().clone() for k, p in model.named_parameters()}
        found = expect(model, dict(c, n_positions=16))
        fresh = fill(HF(c), 50 + seed)
        found["greedy"] = greedy(fresh, found["ids"][:1, :4].long())
        config = json.loads(fresh.model.config.to_json_string(use_diff=False))
        config["architectures"] = [type(fresh.model).__name__]
        with open(os.path.join(dir_, "config.json"), "w") as f:
            f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save(os.path.join(dir_, "model.safetensors"), weights, {})
        save(os.path.join(dir_, "expect.safetensors"), found, meta)
        print(name, "loss %.6f" % found["loss"].item(), "norms",
              " ".join("%.3f" % v for v in found["step.norm"].tolist()))


if __name__ == "__main__":
    main()
