#!/bin/sh
# Compresses a model in stages and heals it after each with the uncompressed model as the teacher, as
# KnGPT2 (Edalati et al. 2021) and TQCompressor (Abronin et al. 2024) do.
#
#     configs/krony/stages.sh MODEL DATA OUT [STAGE ...] [KEY=VALUE ...]
#     configs/krony/stages.sh gpt2/ data/owt out/
#
# A STAGE is what `strut decompose` is told, in one word: '--preset NAME' or '--map GLOB=SPEC'. Without
# any: the embedding at half its weights (the head is tied to it), then TQCompressor's MLPs. A third
# could be '--map h.*[13579].attn.c_attn=kron:m1=384,n1=2304'. KEY=VALUE goes to every healing
# (configs/krony/distill-hidden.yaml). The same command again goes on where it stopped.
# SPDX-License-Identifier: MIT
set -euf
strut=${STRUT:-strut}
if [ $# -lt 3 ]; then
    sed -n '2,/^# SPDX/{s/^# \{0,1\}//;/SPDX/!p;}' "$0" >&2
    exit 2
fi
teacher=$1 data=$2 out=$3
shift 3
heal=$(dirname "$0")/distill-hidden.yaml
model=$teacher
n=0

# stage 'DECOMPOSE OPTIONS' KEY=VALUE...: the model so far becomes the next one.
stage() {
    options=$1
    shift
    n=$((n + 1))
    if [ ! -d "$out/$n-start" ]; then
        # shellcheck disable=SC2086 # options are several words
        "$strut" decompose "$model" "$out/$n-start" $options
    fi
    "$strut" train "$heal" "init=$out/$n-start" "distill=$teacher" "data=$data" \
        "out=$out/$n-healed" "$@"
    model=$out/$n-healed/ckpt/best
    if [ ! -d "$model" ]; then model=$out/$n-healed/ckpt/last; fi
}

mkdir -p "$out"
stages=
while [ $# -gt 0 ]; do
    case $1 in
    --*) stages="$stages$1
" ;;
    *) break ;;
    esac
    shift
done
if [ -z "$stages" ]; then
    stages='--map wte=kron:m1=384,n1=50257
--preset tqcompressor-mlp
'
fi
newline='
'
IFS=$newline
for each in $stages; do
    unset IFS
    stage "$each" "$@"
done
echo "$model"
