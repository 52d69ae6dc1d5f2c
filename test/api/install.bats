#!/usr/bin/env bats
# What `make install` puts down: examples in C over pkg-config and CMake, and Python, against the
# installed library alone, which is then moved. Skipped where the build cannot be installed.
# SPDX-License-Identifier: MIT
load ../helpers

setup_file() {
    export STRUT=${STRUT:-build/strut} DIR=$BATS_FILE_TMPDIR
    build=$(dirname "$STRUT")
    DESTDIR="$DIR/root" cmake --install "$build" --prefix /opt/strut >"$DIR/log" 2>&1
    mv "$DIR/root/opt/strut" "$DIR/moved" # found from where it is, not from where it was built
    export PKG_CONFIG_PATH="$DIR/moved/lib/pkgconfig" LD_LIBRARY_PATH="$DIR/moved/lib"
    printf 'the cat sat on the mat; the dog did not. %.0s' $(seq 20) >"$DIR/text"
    echo '{"model_type": "gpt2", "vocab_size": 300, "n_positions": 64, "n_embd": 24, "n_layer": 2,
        "n_head": 3, "initializer_range": 0.3}' >"$DIR/tiny.json"
    "$STRUT" tokenizer "$DIR/text" --out "$DIR/words" --vocab 300 --quiet
    "$STRUT" init "$DIR/tiny.json" "$DIR/m" --seed 3 --tokenizer "$DIR/words" --quiet
}

setup() {
    # a library with a sanitizer in it needs a program that has it too
    ! nm -D "$DIR/moved/lib/libstrut.so" | grep -q __asan || skip "a sanitized build"
}

example() { # example NAME: built with nothing but what pkg-config says
    # shellcheck disable=SC2046
    cc -Wall -Wextra -Werror -o "$DIR/$1" "examples/$1.c" $(pkg-config --cflags --libs strut)
}

@test "the library shows strut_ and nothing else, with a version" {
    [ -z "$(nm -D --defined-only "$DIR/moved/lib/libstrut.so" | grep -v ' strut_\| STRUT_0')" ]
    [ "$(nm -D --defined-only "$DIR/moved/lib/libstrut.so" | grep -c ' strut_')" -eq \
        "$(grep -oE '\bstrut_[a-z_]+\(' "$DIR/moved/include/strut.h" | sort -u | wc -l)" ]
    readelf -d "$DIR/moved/lib/libstrut.so" | grep -q 'SONAME.*libstrut.so.0'
    [ "$(pkg-config --modversion strut)" = "$("$STRUT" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)" ]
}

@test "generate: the program's own text" {
    example generate
    "$STRUT" generate "$DIR/m" --prompt 'the cat' --tokens 32 --temperature 0 --device cpu --json \
        --quiet >"$BATS_TEST_TMPDIR/out"
    run "$DIR/generate" "$DIR/m" 'the cat'
    [ "$status" -eq 0 ] && [[ "$output" == "$(get text)"*"tokens after"* ]]
    run "$DIR/generate" "$DIR/none" 'the cat'
    [ "$status" -ne 0 ] && [[ "$output" == *"$DIR/none"* ]]
}

@test "decompose and matrix" {
    example decompose
    run "$DIR/decompose" "$DIR/m" "$DIR/small" 'h.*.mlp.*=lowrank:rank=4'
    [ "$status" -eq 0 ] && [[ "$output" == *"energy kept"* ]]
    "$STRUT" info "$DIR/small" | grep -q 'lowrank:rank=4'
    run "$DIR/decompose" "$DIR/m" "$DIR/small" 'h.*.mlp.*=lowrank:rank=4'
    [ "$status" -ne 0 ] && [[ "$output" == *"$DIR/small"* ]]
    example matrix
    run "$DIR/matrix" dense lowrank:rank=64 monarch:blocks=4
    [ "$status" -eq 0 ] && [ "$(grep -c '= 0.0000' <<<"$output")" -eq 2 ]
}

@test "CMake finds it" {
    mkdir "$DIR/project"
    cp examples/matrix.c "$DIR/project"
    cat >"$DIR/project/CMakeLists.txt" <<'TXT'
cmake_minimum_required(VERSION 3.16)
project(uses_strut LANGUAGES C)
find_package(strut 0.1 REQUIRED)
add_executable(uses matrix.c)
target_link_libraries(uses PRIVATE strut::strut)
TXT
    cmake -S "$DIR/project" -B "$DIR/project/build" -DCMAKE_PREFIX_PATH="$DIR/moved" >"$DIR/log"
    cmake --build "$DIR/project/build" >>"$DIR/log"
    "$DIR/project/build/uses" dense | grep -q '0.0000'
}

@test "Python: the same numbers, and errors by name" {
    python=python3
    for p in "${STRUT_TOKENIZERS_PYTHON:-}" python3; do
        [ -n "$p" ] && "$p" -c 'import numpy' 2>/dev/null && python=$p && break
    done
    "$python" -c 'import numpy' 2>/dev/null || skip "no numpy"
    "$STRUT" generate "$DIR/m" --prompt 'the cat' --tokens 9 --temperature 0 --device cpu --json \
        --quiet --logits "$DIR/l.safetensors" >"$BATS_TEST_TMPDIR/out"
    PYTHONPATH="$DIR/moved/lib/python3/dist-packages" "$python" - "$DIR" "$(get ids)" <<'PY'
import json, sys, numpy, strut
where, want = sys.argv[1], json.loads(sys.argv[2])
with strut.Model(where + "/m", device="cpu") as m:
    ids = m.encode("the cat")
    assert m.decode(ids) == "the cat" and m.vocab == 300 and m.has_tokenizer
    heard = []
    made = m.generate(ids, tokens=9, say=heard.append)
    assert made.tolist() == want and "".join(heard) == m.decode(made)
    assert m.logits("the cat").shape == (len(ids), 300)
    assert int(m.logits("the cat")[-1].argmax()) == want[0]
    raw = open(where + "/l.safetensors", "rb").read()
    n = int.from_bytes(raw[:8], "little")
    at = json.loads(raw[8:8 + n])["logits"]["data_offsets"]
    stored = numpy.frombuffer(raw[8 + n + at[0]:8 + n + at[1]], dtype="<f4").reshape(-1, 300)
    assert (stored == m.logits(ids)).all()
    for wrong, part in ((lambda: m.logits([300]), "number 0 is 300"),
                        (lambda: strut.Model(where + "/none"), "none"),
                        (lambda: strut.Matrix("monarc", 8, 8), "monarch")):
        try:
            wrong()
            raise SystemExit("nothing was refused")
        except strut.Error as error:
            assert part in str(error), error
    try:
        m.generate(ids, tokens=9, say=lambda text: 1 / 0)
        raise SystemExit("an exception was lost")
    except ZeroDivisionError:
        pass
w = numpy.random.default_rng(1).normal(size=(64, 96)).astype("float32")
c = numpy.diag(numpy.linspace(0.01, 4, 96)).astype("float32")
a, b = strut.Matrix("lowrank:rank=8", 96, 64), strut.Matrix("lowrank:rank=8", 96, 64)
off = a.project(w)
s = numpy.linalg.svd(w, compute_uv=False)
assert abs(off - numpy.sqrt((s[8:] ** 2).sum() / (s ** 2).sum())) < 1e-4
b.project(w, c)
far = [numpy.trace((w - m.expand()) @ c @ (w - m.expand()).T) for m in (a, b)]
assert far[1] < far[0]
x = numpy.random.default_rng(2).normal(size=(2, 3, 96)).astype("float32")
assert abs(a.apply(x) - x @ a.expand().T).max() < 1e-3
f = a.factors()
assert f["u"].shape == (64, 8) and abs(f["u"] @ f["v"] - a.expand()).max() < 1e-5
assert strut.decompose(where + "/m", where + "/py", ["h.*.mlp.*=lowrank:rank=4"]) < 1
assert "monarch" in strut.matrix_types()
PY
}
