#!/bin/sh
# Builds layers.cu with the fused kernels, checks them against plain loops, and times structured
# layers beside cuBLASLt's dense ones into a table:
#   bench/gpu/layers.sh TABLE.tsv [ARCH]      ARCH: what nvcc compiles for, 90a if not given
set -eu
table=$1
arch=${2:-90a}
here=$(cd "$(dirname "$0")" && pwd)
kernels=$here/../../src/backend/cuda
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
for file in "$kernels"/fold.cu "$kernels"/grouped.cu "$kernels"/grouped_mma.cu "$here"/layers.cu; do
    nvcc -std=c++17 -O3 -gencode="arch=compute_$arch,code=sm_$arch" -I"$kernels/../.." -c \
        -o "$room/$(basename "$file").o" "$file" &
done
wait
nvcc -o "$room/layers" "$room"/*.o -lcublasLt
"$room/layers" check
device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
commit=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)
echo "# $device; commit $commit; bench/gpu/layers.sh $table $arch" >"$table"
printf 'shape\tvariant\tmedian_us\tbest_us\tof_dense\n' >>"$table"
for part in 0 1 2 3 4 5 6 7; do
    "$room/layers" time $part "$table"
done
