#!/bin/bash
# same_outputs.sh OLD NEW: do two builds of strut give the same bytes? Runs commands of the README with
# each on the same text and compares everything they print and write, but for times and the commit.
set -euo pipefail
# shellcheck disable=SC2034 # both are read by name
old=$(realpath "$1") new=$(realpath "$2")
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive
commands() {
    local s=$1
    "$s" tokenizer --vocab 512 --out tok "$here"/doc "$here"/README.md --json
    "$s" prepare --tokenizer tok --out data "$here"/doc "$here"/CONTRIBUTING.md --json
    "$s" train "$here"/configs/small.yaml data=data out=run model.n_layer=2 model.n_head=2 model.n_embd=64 \
        train.steps=12 train.micro_batch=2 train.context=64 train.tokens_per_step=256 eval.every=6 \
        train.ema=0.99 ckpt.top_k=2 --json
    "$s" decompose run/ckpt/best small --map 'h.*.mlp.*=monarch:blocks=4' --weights data --json
    "$s" decompose run/ckpt/best low --map 'h.*=lowrank:rank=8' --permute hidden --json
    "$s" train "$here"/configs/heal.yaml init=small data=data out=healed train.steps=6 train.micro_batch=2 \
        train.context=64 train.tokens_per_step=256 distill=run/ckpt/best --json
    "$s" perplexity healed/ckpt/best data/val.bin --json
    "$s" perplexity small "$here"/README.md --protocol openai --json
    "$s" generate healed/ckpt/best --prompt 'A matrix' --tokens 40 --seed 3 --json
    "$s" info healed/ckpt/best --json
    for to in hf hf-code pt safetensors strut; do "$s" convert small "out.$to" --to $to --json; done
    for to in gguf nanogpt llmc; do "$s" convert run/ckpt/best "out.$to" --to $to --json; done
    "$s" init t2t-vit-t-14 vit --seed 5 --json
    "$s" info vit
    "$s" maps
    "$s" help train
    "$s" train "$here"/configs/small.yaml data=data --cfg job
    "$s" train "$here"/configs/small.yaml data=data --info --json
}
mask() {
    python3 -c '
import json, re, sys
# Numbers below keys that tell of time, and the parts of a text that do.
def clean(v, hide=False):
    if isinstance(v, dict): return {k: clean(x, hide or re.search("second|_ms$|intra|inter$|gflops|date|commit", k)) for k, x in v.items()}
    if isinstance(v, list): return [clean(x, hide) for x in v]
    return "-" if hide else v
text = sys.stdin.read()
out, at, d = [], 0, json.JSONDecoder()
while at < len(text):
    if text[at] in "{[":
        try:
            v, at = d.raw_decode(text, at)
            out.append(json.dumps(clean(v), indent=1))
            continue
        except ValueError: pass
    out.append(text[at])
    at += 1
print("".join(out))'
}
for side in old new; do
    mkdir "$work/$side"
    (cd "$work/$side" && commands "${!side}") >"$work/$side.printed" 2>"$work/$side.said" ||
        { tail -n 5 "$work/$side.said" && exit 1; }
    # Event files and metrics carry times in every row; result.json and state.json a few.
    (cd "$work/$side" && find . -type f ! -name '*tfevents*' ! -name 'metrics.*' | sort |
        while read -r f; do
            case $f in *.json) echo "$(mask <"$f" | md5sum | cut -c1-32) $f" ;; *) md5sum "$f" ;; esac
        done) | sed 's/  / /' >"$work/$side.files"
    (cd "$work/$side" && find . -name 'metrics.jsonl' | sort | xargs cat | grep -oE '"(step|loss|val_loss|lr|grad_norm)": ?[^,}]*') \
        >>"$work/$side.files"
    mask <"$work/$side.printed" >"$work/$side.masked"
done
diff "$work/old.masked" "$work/new.masked" && diff "$work/old.files" "$work/new.files" &&
    echo "same: $(wc -l <"$work/new.masked") lines printed, $(wc -l <"$work/new.files") files and losses"
