#!/bin/sh
# The two figures that strut's core has to show, each in one run on this machine:
#   1. a GPT-2 124M float32 training step (1 x 1024 tokens, AdamW) against PyTorch (python3-torch)
#   2. every structured map of 4x fewer parameters against strut's own dense layer, 1024 tokens,
#      768 -> 3072 and 3072 -> 768, forward and backward
# usage: bench/run.sh [steps|maps|all] [ROUNDS]     STRUT=build/strut, OUT=out/bench
set -e
cd "$(dirname "$0")/.."
what=${1:-all}
rounds=${2:-3}
strut=${STRUT:-build/strut}
out=${OUT:-out/bench}
threads=${OMP_NUM_THREADS:-$(nproc)}
mkdir -p "$out"

# One round: a few strut steps, then a few PyTorch steps. Rounds alternate, so that a slow phase of
# the machine meets both; the verdict is the median over all steps and over the rounds' ratios.
steps() {
    /usr/bin/python3 -c 'import torch' 2>/dev/null || {
        echo "bench: PyTorch is missing; as root: apt-get install python3-torch" >&2
        return 1
    }
    /usr/bin/python3 - "$out" <<'PY'
import random, struct, sys
random.seed(0)
for name, n in (("train", 65536), ("val", 4096)):
    with open(f"{sys.argv[1]}/{name}.bin", "wb") as f:
        f.write(struct.pack(f"<{n}H", *(random.randrange(50257) for _ in range(n))))
PY
    : >"$out/steps.jsonl"
    for round in $(seq "$rounds"); do
        rm -rf "$out/run"
        "$strut" train data="$out" out="$out/run" model.preset=gpt2 train.steps=6 train.warmup=1 \
            train.micro_batch=1 train.context=1024 train.dropout=0 eval.every=0 ckpt.every=0 \
            log.every=1 threads="$threads" --quiet >/dev/null
        sed "s/^{/{\"round\": $round, \"who\": \"strut\", /" "$out/run/metrics.jsonl" >>"$out/steps.jsonl"
        # PyTorch at its best on a CPU: the OpenMP flavour of OpenBLAS, memory kept by the allocator.
        OMP_NUM_THREADS=$threads LD_LIBRARY_PATH=/usr/lib/$(uname -m)-linux-gnu/openblas-openmp \
            MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000 MALLOC_TOP_PAD_=1000000000 \
            /usr/bin/python3 bench/torch_gpt2.py train --seconds 30 --threads "$threads" |
            sed "s/^{/{\"round\": $round, \"who\": \"torch\", /" >>"$out/steps.jsonl"
    done
    rm -rf "$out/run"
    /usr/bin/python3 - "$out/steps.jsonl" <<'PY'
import json, statistics as st, sys
rate = {"strut": {}, "torch": {}}
for line in open(sys.argv[1]):
    row = json.loads(line)
    value = row.get("tokens_per_second")
    if isinstance(value, list):
        rate[row["who"]].setdefault(row["round"], []).extend(value)
    elif value and row["step"] > 1:
        rate[row["who"]].setdefault(row["round"], []).append(value)
for who, by_round in rate.items():
    every = [v for r in by_round.values() for v in r]
    print(f"{who:6s} tokens/s: median {st.median(every):7.1f}  best {max(every):7.1f}  "
          f"steps {len(every)}")
ratios = [st.median(rate["strut"][r]) / st.median(rate["torch"][r]) for r in rate["strut"]]
print("strut / torch, medians by round:", " ".join(f"{r:.2f}" for r in ratios),
      f" median {st.median(ratios):.2f}")
PY
}

maps() {
    for shape in "768 3072" "3072 768"; do
        # shellcheck disable=SC2086
        set -- $shape
        "$strut" bench map --in "$1" --out "$2" --rows 1024 --fit 4 --backward --budget 60 \
            --threads "$threads" --csv "$out/map-$1-$2.csv"
    done
}

case $what in
steps) steps ;;
maps) maps ;;
all) steps && maps ;;
*) echo "usage: bench/run.sh [steps|maps|all] [ROUNDS]" >&2 && exit 2 ;;
esac
