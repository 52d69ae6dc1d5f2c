# SPDX-License-Identifier: MIT
"""GPT-2 and Llama-shaped models with structured matrices, as strut stores them: transformers loads the folder beside this file
with AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True).

config.json says under "strut" which matrix is what ("h.0.mlp.c_fc": "kron:terms=1,m1=768,n1=768");
every such matrix takes the place of the family's own of that name. W is (out, in), y = W x + bias.
Nothing here is a buffer, so that models made on the meta device are whole.
"""
import torch
from torch import nn
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM)


def _ceil(a, b):
    return -(-a // b)


TYPES = {}  # by the name in a spec


class StrutMap(nn.Module):
    """A matrix of some type. `knob` are the numbers of its spec, parameters are named as stored.
    A subclass says in its first line which type it is; that is how strut knows what this file has."""

    embedding, times = False, 1.0

    def __init_subclass__(cls, type=None, **more):
        super().__init_subclass__(**more)
        if type is not None:
            TYPES[type] = cls

    def __init__(self, knob, n_in, n_out):
        super().__init__()
        self.knob, self.n_in, self.n_out = knob, n_in, n_out
        for name, shape in self.shapes().items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) * 0.02))
        self.register_parameter("bias", None)

    def shapes(self):
        raise NotImplementedError

    def product(self, x):
        """(rows, in) -> (rows, out)"""
        raise NotImplementedError

    def rows(self, ids):
        """Rows of W, (n) -> (n, in)"""
        raise NotImplementedError

    def multiply(self, x):
        y = self.product(x.reshape(-1, self.n_in))
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(x.shape[:-1] + (self.n_out,))

    def forward(self, x):
        """A matrix multiplies, an embedding looks rows up."""
        if not self.embedding:
            return self.multiply(x)
        return self.rows(x.reshape(-1)).reshape(x.shape + (self.n_in,)) * self.times

    def pad(self, x, n):
        """Inputs beyond n_in count as zero."""
        return nn.functional.pad(x, (0, n - self.n_in)) if n > self.n_in else x


class Dense(StrutMap, type="dense"):
    def shapes(self):
        return {"weight": (self.n_out, self.n_in)}

    def product(self, x):
        return x @ self.weight.T


class LowRank(StrutMap, type="lowrank"):
    """W = U V"""

    def shapes(self):
        return {"u": (self.n_out, self.knob["rank"]), "v": (self.knob["rank"], self.n_in)}

    def product(self, x):
        return (x @ self.v.T) @ self.u.T

    def rows(self, ids):
        return self.u[ids] @ self.v


class BlockDiag(StrutMap, type="blockdiag"):
    """W[i s + o, i p + j] = blocks[i, o, j], else 0; p = ceil(in/b), s = ceil(out/b)"""

    def shapes(self):
        b = self.knob.get("blocks", 4)
        return {"blocks": (b, _ceil(self.n_out, b), _ceil(self.n_in, b))}

    def product(self, x):
        b, s, p = self.blocks.shape
        x = self.pad(x, b * p).reshape(-1, b, p)
        return torch.einsum("nip,isp->nis", x, self.blocks).reshape(-1, b * s)[:, :self.n_out]


class Monarch(StrutMap, type="monarch"):
    """t[i q + c] = sum_j l1[i, c, j] x[i p + j];  y[o b + l] = sum_r l2[l, o, r] t[r b + l]"""

    def shapes(self):
        b = self.knob.get("blocks", 4)
        p, s = _ceil(self.n_in, b), _ceil(self.n_out, b)
        q = self.knob.get("inner", 0) or min(p, s)
        return {"l1": (b, q, p), "l2": (b, s, q)}

    def product(self, x):
        (b, q, p), s = self.l1.shape, self.l2.shape[1]
        t = torch.einsum("nip,icp->nic", self.pad(x, b * p).reshape(-1, b, p), self.l1)
        y = torch.einsum("nrl,lor->nol", t.reshape(-1, q, b), self.l2)
        return y.reshape(-1, s * b)[:, :self.n_out]


class BTT(StrutMap, type="btt"):
    """z[i, a, k] = sum_j r[i, (a, k), j] x[i m2 + j];  y[a n2 + b] = sum l[a, b, (i, k)] z[i, a, k];
    with a group the a take turns, `group` outputs each"""

    def shapes(self):
        rank, m1, n1 = (self.knob[name] for name in ("rank", "m1", "n1"))
        return {"r": (m1, n1 * rank, self.n_in // m1), "l": (n1, self.n_out // n1, m1 * rank)}

    def product(self, x):
        (m1, _, m2), n1 = self.r.shape, self.l.shape[0]
        z = torch.einsum("nij,icj->nic", x.reshape(-1, m1, m2), self.r)
        z = z.reshape(-1, m1, n1, self.knob["rank"]).transpose(1, 2).reshape(z.shape[0], n1, -1)
        y = torch.einsum("nac,abc->nab", z, self.l)
        group = self.knob.get("group", 0)
        if group:
            y = y.reshape(y.shape[0], n1, -1, group).transpose(1, 2)
        return y.reshape(-1, self.n_out)


class Butterfly(StrutMap, type="butterfly"):
    """On a size x size grid cell (i, j) is on if i = j or i xor j = 2^e, e < factors; tiles that
    meet such a cell are stored, by tile row, then tile column."""

    def shapes(self):
        k = self.knob.get("block", 32)
        self._rows, self._cols = _ceil(self.n_out, k), _ceil(self.n_in, k)
        return {"tiles": (len(self._on(k)), k, k)}

    def _on(self, k):
        size, factors = self.knob.get("size", 16), self.knob.get("factors", 2)
        high, wide = self._rows * k // size, self._cols * k // size
        on = set()
        for i in range(size):
            for j in [i] + [i ^ 1 << e for e in range(factors)]:
                for r in range(i * high // k, ((i + 1) * high - 1) // k + 1):
                    on.update((r, c) for c in range(j * wide // k, ((j + 1) * wide - 1) // k + 1))
        return sorted(on)

    def product(self, x):
        k = self.tiles.shape[1]
        at = torch.tensor(self._on(k), device=x.device)
        w = self.tiles.new_zeros(self._rows, self._cols, k, k)
        w = w.index_put((at[:, 0], at[:, 1]), self.tiles)
        w = w.transpose(1, 2).reshape(self._rows * k, self._cols * k)
        return (self.pad(x, self._cols * k) @ w.T)[:, :self.n_out]


class Kron(StrutMap, type="kron"):
    """W^T = sum_f s_f A_f (x) B_f: a token's numbers are X (m1, m2), Y = sum_f s_f A_f^T X B_f"""

    def shapes(self):
        f, m1, n1 = self.knob.get("terms", 1), self.knob["m1"], self.knob["n1"]
        shapes = {"a": (f, m1, n1), "b": (f, self.n_in // m1, self.n_out // n1)}
        if self.knob.get("scalars", 0):
            shapes["s"] = (f,)
        return shapes

    def product(self, x):
        (_, m1, n1), (_, m2, n2) = self.a.shape, self.b.shape
        b = self.b * self.s[:, None, None] if hasattr(self, "s") else self.b
        x = x.reshape(-1, m1, m2)
        if m1 * n1 * m2 + n1 * m2 * n2 <= m1 * m2 * n2 + m1 * n1 * n2:
            z = torch.einsum("fij,nik->nfjk", self.a, x)
            y = torch.einsum("nfjk,fkl->njl", z, b)
        else:
            z = torch.einsum("nik,fkl->nfil", x, b)
            y = torch.einsum("fij,nfil->njl", self.a, z)
        return y.reshape(-1, self.n_out)

    def rows(self, ids):
        n2, b = self.b.shape[2], self.b
        if hasattr(self, "s"):
            b = b * self.s[:, None, None]
        a, b = self.a[:, :, ids // n2], b[:, :, ids % n2]
        return torch.einsum("fin,fjn->nij", a, b).reshape(-1, self.n_in)


def _philox(seed, stream, n):
    """Block n of Philox4x32-10's stream (seed, stream) (Salmon et al. 2011)."""
    low = 0xFFFFFFFF
    c = [n & low, n >> 32, stream & low, stream >> 32]
    k0, k1 = seed & low, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & low, (p0 >> 32) ^ c[3] ^ k1, p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c


class SS1(StrutMap, type="ss1"):
    """z[k bk + j] = sum_l g(l) x[(k c + l) bk + (j + s(l)) mod bk];  y = weight z. With folds > 1
    each group of outputs has its own z."""

    def shapes(self):
        k = self.knob
        supers = _ceil(self.n_in, k["factor"] * k["bk"])
        self._fold = None
        return {"weight": (self.n_out, supers * k["bk"])}

    def _term(self, h, k, l, supers):
        knob, q = self.knob, self.knob["bk"] // self.knob["vec"]
        if knob.get("folds", 1) <= 1 and not knob.get("signs", 0):
            return knob["r0"] * (l + 1) % q * knob["vec"], 1.0
        word = _philox(knob["seed"], 0x551, (h * supers + k) * knob["factor"] + l)
        sign = -1.0 if knob.get("signs", 0) and word[1] >> 31 else 1.0
        return word[0] % q * knob["vec"], sign

    def _columns(self, x):
        """Of z's entries (folds * supers * bk, factor): the inputs they add up, and the signs."""
        if self._fold is None or self._fold[0].device != x.device or self._fold[1].dtype != x.dtype:
            bk, c, folds = self.knob["bk"], self.knob["factor"], self.knob.get("folds", 1)
            supers = self.weight.shape[1] // bk
            column, sign = [], []
            for h in range(folds):
                for k in range(supers):
                    terms = [self._term(h, k, l, supers) for l in range(c)]
                    for j in range(bk):
                        column.append([(k * c + l) * bk + (j + terms[l][0]) % bk
                                       for l in range(c)])
                        sign.append([g for _, g in terms])
            self._fold = (torch.tensor(column, device=x.device),
                          torch.tensor(sign, device=x.device, dtype=x.dtype))
        return self._fold

    def product(self, x):
        folds, width = self.knob.get("folds", 1), self.weight.shape[1]
        column, sign = self._columns(x)
        x = self.pad(x, width * self.knob["factor"])
        z = (x[:, column] * sign).sum(-1).reshape(-1, folds, width)
        group = _ceil(self.n_out, folds)
        w = nn.functional.pad(self.weight, (0, 0, 0, folds * group - self.n_out))
        y = torch.einsum("nhk,hgk->nhg", z, w.reshape(folds, group, width))
        return y.reshape(-1, folds * group)[:, :self.n_out]


class Sum(StrutMap):
    """y = S x + L x, L the low-rank part; gated: (1 - g) S x + g L x, g = sigmoid(w_g x + b_g), or
    ("mean") 1/2"""

    def __init__(self, parts, way, n_in, n_out):
        super().__init__({}, n_in, n_out)
        for name, knob in parts:
            self.add_module(name, TYPES[name](knob, n_in, n_out))
        self.other = next(name for name, _ in parts if name != "lowrank")
        if way == "gate":
            self.gate = nn.Linear(n_in, 1)
        self.way = way

    def shapes(self):
        return {}

    def product(self, x):
        low, other = self.lowrank.product(x), getattr(self, self.other).product(x)
        if self.way != "gate":
            return (other + low) * 0.5 if self.way else other + low
        g = torch.sigmoid(self.gate(x))
        return (1 - g) * other + g * low


def make_map(spec, n_in, n_out, bias):
    """The module of a spec text: "type:knob=value,..." or two joined by '+', with "+gate" or
    "+mean"."""
    words = spec.split("+")
    way = words.pop() if words[-1] in ("gate", "mean") else ""
    parts = []
    for word in words:
        name, _, knobs = word.partition(":")
        if name not in TYPES:
            raise ValueError(f'strut: unknown matrix type in "{spec}"')
        pairs = (k.split("=") for k in knobs.split(",") if k)
        parts.append((name, {k: int(v) for k, v in pairs}))
    if len(parts) == 1:
        m = TYPES[parts[0][0]](parts[0][1], n_in, n_out)
    else:
        m = Sum(parts, way, n_in, n_out)
    if bias:
        m.bias = nn.Parameter(torch.zeros(n_out))
    return m


class StrutTiedHead(nn.Module):
    """Logits by the embedding's factors; it has no parameters of its own."""

    def __init__(self, wte):
        super().__init__()
        self._wte = [wte]  # in a list, so that it is no part of this module

    def forward(self, x):
        return self._wte[0].multiply(x)


class _Strut:
    """What a model of any family does with config.strut: matrices become those of their specs. `table` is
    its embedding's name in `body`, `conv` says whether its matrices are Conv1D, (in, out)."""

    body, table, conv = "model", "embed_tokens", False

    def _restructure(self, config):
        maps = (getattr(config, "strut", None) or {}).get("maps", {})
        width, vocab = config.hidden_size, config.vocab_size
        bias = bool(getattr(config, "lm_head_bias", False))
        if bias:
            self.lm_head = nn.Linear(width, vocab)
        for name, spec in maps.items():
            path, _, leaf = name.rpartition(".")
            if name == "lm_head":
                self.lm_head = make_map(spec, width, vocab, bias)
            elif name == self.table:
                self._embed(make_map(spec, width, vocab, False))
            else:
                parent = getattr(self, self.body).get_submodule(path)
                old = getattr(parent, leaf)
                sides = old.weight.shape if self.conv else old.weight.shape[::-1]
                setattr(parent, leaf, make_map(spec, *sides, old.bias is not None))
        self.post_init()

    def _embed(self, table):
        table.embedding = True
        if self.config.model_type == "strut_gemma3_text":
            table.times = self.config.hidden_size ** 0.5
        setattr(getattr(self, self.body), self.table, table)
        if self.config.tie_word_embeddings:
            self.lm_head = StrutTiedHead(table)
        self._tied_weights_keys = None

    def tie_weights(self, *args, **kwargs):
        if not isinstance(getattr(getattr(self, self.body), self.table), StrutMap):
            return super().tie_weights(*args, **kwargs)


class StrutConfig(GPT2Config):
    model_type = "strut_gpt2"


class StrutForCausalLM(_Strut, GPT2LMHeadModel):
    config_class, body, table, conv = StrutConfig, "transformer", "wte", True

    def __init__(self, config):
        super().__init__(config)
        self._restructure(config)


class StrutLlamaConfig(LlamaConfig):
    model_type = "strut_llama"


class StrutLlamaForCausalLM(_Strut, LlamaForCausalLM):
    config_class = StrutLlamaConfig

    def __init__(self, config):
        super().__init__(config)
        self._restructure(config)


class StrutMistralConfig(MistralConfig):
    model_type = "strut_mistral"


class StrutMistralForCausalLM(_Strut, MistralForCausalLM):
    config_class = StrutMistralConfig

    def __init__(self, config):
        super().__init__(config)
        self._restructure(config)


class StrutQwen2Config(Qwen2Config):
    model_type = "strut_qwen2"


class StrutQwen2ForCausalLM(_Strut, Qwen2ForCausalLM):
    config_class = StrutQwen2Config

    def __init__(self, config):
        super().__init__(config)
        self._restructure(config)


try:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig
except ImportError:  # before transformers 4.50
    pass
else:
    class StrutGemma3Config(Gemma3TextConfig):
        model_type = "strut_gemma3_text"

    class StrutGemma3ForCausalLM(_Strut, Gemma3ForCausalLM):
        config_class = StrutGemma3Config

        def __init__(self, config):
            super().__init__(config)
            self._restructure(config)


try:
    from transformers import Qwen3Config, Qwen3ForCausalLM
except ImportError:  # before transformers 4.51
    pass
else:
    class StrutQwen3Config(Qwen3Config):
        model_type = "strut_qwen3"

    class StrutQwen3ForCausalLM(_Strut, Qwen3ForCausalLM):
        config_class = StrutQwen3Config

        def __init__(self, config):
            super().__init__(config)
            self._restructure(config)
