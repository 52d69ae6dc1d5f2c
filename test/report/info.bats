#!/usr/bin/env bats
# strut info of weights that leave something open, and of very many tensors.
# SPDX-License-Identifier: MIT
load ../helpers

setup() {
    STRUT=${STRUT:-build/strut}
    case $STRUT in /*) ;; *) STRUT=$PWD/$STRUT ;; esac
    cd "$BATS_TEST_TMPDIR" || return 1
}

# many.safetensors: $1 tensors of a byte.
many() {
    python3 -c "
import json, struct, sys
n = int(sys.argv[1])
head = {f't{i:06d}': {'dtype': 'U8', 'shape': [1], 'data_offsets': [i, i + 1]} for i in range(n)}
head = json.dumps(head).encode()
open('many.safetensors', 'wb').write(struct.pack('<Q', len(head)) + head + bytes(n))
" "$1"
}

@test "info takes what it advises: --dict and the heads of weights alone" {
    echo '{"model_type": "gpt2", "vocab_size": 300, "n_positions": 16, "n_embd": 128, "n_layer": 1, "n_head": 4}' >c.json
    "$STRUT" init c.json m -q
    "$STRUT" convert m m.pt --to pt -q
    apart "$STRUT" info m.pt --heads 4 --json
    [ "$code" = 0 ]
    [ "$(get heads)" = 4 ]
    apart "$STRUT" info m.pt --heads 2
    [[ $out == *"no model"*"has 4 heads by its config.json, --heads says 2"* ]]
    "$STRUT" convert m n.pt --to nanogpt -q
    apart "$STRUT" info n.pt --dict model --json
    [ "$code" = 0 ]
    [ "$(get heads)" = 4 ]
    apart "$STRUT" info n.pt --dict none
    [ "$code" = 1 ]
    [[ $err == *"none"* ]]
}

@test "info lists ten thousand tensors, and all of them where asked" {
    many 10000
    apart "$STRUT" info many.safetensors --json
    [ "$(get tensors.9999.name)" = t009999 ]
    not get tensors_left
    many 10012
    apart "$STRUT" info many.safetensors --json
    [ "$(get tensors_left)" = 12 ]
    [ "$(get numbers)" = 10012 ]
    apart "$STRUT" info many.safetensors
    [[ $out == *$'\n'"t009999"* ]]
    [[ $out != *"t010000"* ]]
    [[ $out == *$'\n'"and 12 tensors more, which --all lists"* ]]
    apart "$STRUT" info many.safetensors --all --json
    [ "$(get tensors.10011.name)" = t010011 ]
    not get tensors_left
}

@test "info of very many tensors takes little beyond their names" {
    ! nm -D "$STRUT" | grep -q __asan_init || skip "a sanitizer takes memory of its own"
    many 200000
    python3 -c "
import resource, subprocess, sys
out = subprocess.run([sys.argv[1], 'info', 'many.safetensors'], stdout=subprocess.PIPE, check=True).stdout
assert out.rstrip().endswith(b'and 190,000 tensors more, which --all lists'), out[-100:]
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
assert most < 150 * 1024, most
" "$STRUT"
}
