#!/bin/bash
# The tests in the environments that results or messages may depend on, one after the other: with and
# without OPENBLAS_CORETYPE, with 1 and 2 threads, on AVX2 alone, and all of it together with another
# language and without a home.
#   tools/test_matrix.sh [CTEST OPTION ...]      e.g. -R 'gemm|decompose'; BUILD=build-asan for that
# Prints a line for each environment with the tests that failed in it; their output is in
# BUILD/matrix-NAME.log. Exit 1 if any failed.
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build} options=("$@") bad=0
[ -e "$build/CTestTestfile.cmake" ] || {
    echo "$build: no build with tests is there; run make first, or say BUILD=FOLDER" >&2
    exit 2
}

row() { # row NAME [WORD ...]: the tests under `env WORD ...`
    local name=$1 log=$build/matrix-$1.log from=$SECONDS state="none failed"
    shift
    env -u OPENBLAS_CORETYPE -u OMP_NUM_THREADS -u ST_CPU_FORBID "$@" \
        ctest --test-dir "$build" --output-on-failure --no-tests=error "${options[@]}" >"$log" 2>&1 || {
        bad=1
        state="FAILED: $(sed -n 's/^[[:space:]]*[0-9]* - \([a-z0-9_]*\) (.*/\1/p' "$log" | tr '\n' ' ')"
    }
    printf '%-9s %4d s  %s\n' "$name" $((SECONDS - from)) "$state"
}

row plain
row coretype OPENBLAS_CORETYPE=Haswell
row one OMP_NUM_THREADS=1
row two OMP_NUM_THREADS=2
row avx2 ST_CPU_FORBID=avx512
row all -u HOME OPENBLAS_CORETYPE=Haswell OMP_NUM_THREADS=1 ST_CPU_FORBID=avx512 LC_ALL=C
exit $bad
