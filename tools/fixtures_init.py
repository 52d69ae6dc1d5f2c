#!/usr/bin/env python3
"""Writes test/fixtures/map/inits.json: where Kronecker factors start, in numpy, from the papers.

    tools/fixtures_init.py [OUT]

W^T = sum_f A_f (x) B_f with W^T (in, out), by Van Loan's rearrangement and numpy's SVD; pruning as
slices. R is filled entry by entry from its definition, products are numpy.kron, so that an order of
indices changed in all places of ours alike shows. Singular values are checked to be apart, so that
vectors are defined but for the sign, which is: the largest entry of B (by size) is positive.
Needs Debian's python3-numpy only.
"""
# SPDX-License-Identifier: MIT
import json
import os
import sys

import numpy as np

# (in, out), (m1, n1), terms
CASES = [
    ((6, 8), (3, 8), 1),
    ((8, 6), (8, 3), 1),
    ((6, 24), (6, 6), 1),
    ((24, 6), (6, 6), 1),
    ((12, 18), (4, 6), 2),
    ((12, 18), (4, 6), 9),
    ((12, 20), (2, 2), 3),
]


def flat(x):
    return [float("%.9g" % v) for v in np.asarray(x, dtype=np.float64).reshape(-1)]


def rearranged(w, m1, n1):
    m2, n2 = w.shape[0] // m1, w.shape[1] // n1
    r = np.zeros((m1 * n1, m2 * n2))
    for i1 in range(m1):
        for j1 in range(n1):
            block = w[i1 * m2:(i1 + 1) * m2, j1 * n2:(j1 + 1) * n2]
            r[i1 * n1 + j1] = block.reshape(-1)
    return r


def case(rng, shape, side, terms):
    w = rng.standard_normal(shape).astype(np.float32).astype(np.float64)
    (m1, n1), (m2, n2) = side, (shape[0] // side[0], shape[1] // side[1])
    u, s, vt = np.linalg.svd(rearranged(w, m1, n1), full_matrices=False)
    assert all(s[f] > 1.02 * s[f + 1] for f in range(min(terms, len(s) - 1))), s
    a, b, near = [], [], np.zeros_like(w)
    for f in range(terms):
        v = vt[f] * np.sign(vt[f][np.argmax(np.abs(vt[f]))])
        x = (rearranged(w, m1, n1) @ v).reshape(m1, n1)  # sigma u
        near += np.kron(x, v.reshape(m2, n2))
        a.append(x / np.sqrt(m2 * n2))  # rms(B) = 1
        b.append(v.reshape(m2, n2) * np.sqrt(m2 * n2))
    total = (w ** 2).sum()
    alpha = np.sqrt(total / (near ** 2).sum())
    prune = np.kron(w[0::m2, 0::n2], np.where(np.arange(m2 * n2) == 0, 1, 0.1).reshape(m2, n2))
    return {"spec": "kron:terms=%d,m1=%d,n1=%d" % (terms, m1, n1), "in": shape[0], "out": shape[1],
            "w": flat(w.T), "a": flat(a), "b": flat(b), "near": flat(near.T),
            "energy": float((s[:terms] ** 2).sum() / total), "alpha": float(alpha),
            "error": float(np.sqrt(((w - near) ** 2).sum() / total)),
            "error_norm": float(np.sqrt(((w - alpha * near) ** 2).sum() / total)),
            "prune": flat(prune.T)}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../test/fixtures/map")
    os.makedirs(out, exist_ok=True)
    rng = np.random.default_rng(20240310)
    with open(os.path.join(out, "inits.json"), "w") as f:
        f.write('{"made_by": "tools/fixtures_init.py, numpy %s",\n"cases": [\n' % np.__version__)
        f.write(",\n".join(json.dumps(case(rng, *c)) for c in CASES))
        f.write("\n]}\n")


main()
