#!/usr/bin/env bats
# The recipes in configs/: each trains, on a tiny model; what its groups come to; compression in
# stages.
# SPDX-License-Identifier: MIT

bats_require_minimum_version 1.5.0

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    cat >"$DIR/tiny.json" <<'JSON'
{"model_type": "gpt2", "vocab_size": 96, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
JSON
    python3 -c "
import random, struct, sys
random.seed(4)
t = [0]
for i in range(5999):
    t.append((t[-1] + 1) % 96 if random.random() < .9 else random.randrange(96))
for name in ('train', 'val'):
    open(sys.argv[1] + '/' + name + '.bin', 'wb').write(struct.pack('<6000H', *t))
" "$DIR"
    "$STRUT" init "$DIR/tiny.json" "$DIR/fresh" --seed 3 -q
    "$STRUT" train "init=$DIR/fresh" "data=$DIR" "out=$DIR/run" train.steps=150 train.lr=1e-2 \
        eval.every=0 log.every=100 train.dropout=0 -q
    mv "$DIR/run/ckpt/last" "$DIR/dense"
    "$STRUT" decompose "$DIR/dense" "$DIR/krony" --map 'h.*.mlp.*=kron:terms=2,m1=8,n1=16,scalars=1' -q
}

# Sizes of a run that the tiny model can do.
small() {
    echo "data=$DIR out=$BATS_TEST_TMPDIR/run train.steps=3 train.micro_batch=2 train.context=16
        train.tokens_per_step=64 train.warmup=1 train.decay_steps=3 eval.every=2 eval.batches=2
        ckpt.every=0 ckpt.best_below=null"
}

# Every recipe, three steps of it.
@test "each recipe trains" {
    for file in configs/*.yaml configs/krony/*.yaml; do
        rm -rf "$BATS_TEST_TMPDIR/run"
        more=
        if grep -q '^model:' "$file"; then
            more="model.n_layer=1 model.n_head=2 model.n_embd=16 model.n_positions=16
                model.vocab_size=96"
        else
            more="init=$DIR/krony"
        fi
        if grep -q '^distill:' "$file"; then more="$more distill=$DIR/dense"; fi
        # shellcheck disable=SC2046,SC2086 # several words
        run --separate-stderr "$STRUT" train "$file" $(small) $more -q
        [ "$status" -eq 0 ] || { echo "$file: $stderr" >&2; return 1; }
        [ "$(grep -c '^3,' "$BATS_TEST_TMPDIR/run/metrics.csv")" -eq 2 ] || { echo "$file" >&2; return 1; }
    done
}

# groups FILE 'PYTHON on g, {name: row}'
groups() {
    # shellcheck disable=SC2046 # several words
    "$STRUT" train "$1" $(small) "init=$DIR/krony" --dry-run --json -q | python3 -c "
import json, sys
g = {r['name']: r for r in json.load(sys.stdin)['groups']}
rate = lambda n: (g[n]['lr'], g[n]['schedule'], g[n]['decay'])
$2"
}

@test "the first repository decays Kronecker tensors only" {
    for file in head stage-2 67m 74m 80m-2 81m 86m-3 95m 96m; do
        groups "configs/krony/$file.yaml" "
lr = 6e-6 if '$file' == 'stage-2' else 6e-5
for n, r in g.items():
    want = 0.1 if '.mlp.' in n and n[-2:] in ('.a', '.b') else 0
    assert rate(n) == (lr, True, want), (n, rate(n))"
    done
}

@test "the second has constant rates for wte and scalars" {
    groups configs/krony/fork.yaml "
for n, r in g.items():
    two = len(r['shape']) > 1
    want = (1.8e-3, True, 0.1 if two else 0)
    if n == 'wte.weight' or n.endswith('.s'): want = (6e-4, False, 0.01)
    assert rate(n) == want, (n, rate(n))"
    groups configs/krony/92m-4.yaml "
assert rate('h.1.mlp.c_fc.s') == (6e-4, False, 0.01) and rate('wte.weight') == (6e-5, True, 0)"
}

@test "freezing trains the factors alone" {
    groups configs/krony/freeze.yaml "
for n, r in g.items(): assert r['frozen'] == (n[-2:] not in ('.a', '.b', '.s')), r"
}

@test "a dry run prints a table, and writes nothing" {
    # shellcheck disable=SC2046 # several words
    run --separate-stderr "$STRUT" train configs/krony/fork.yaml $(small) "init=$DIR/krony" --dry-run
    [ "$status" -eq 0 ]
    [[ "$output" == *"wte.weight"*"0.0006 constant"*"0.01"*"h.*.mlp.c_fc.a"*"0.0018"*"0.1"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/run" ]
}

@test "stages: each is healed by the dense model, and a second run goes on" {
    out=$BATS_TEST_TMPDIR/out
    stages() {
        # shellcheck disable=SC2046 # several words
        configs/krony/stages.sh "$DIR/dense" "$DIR" "$out" '--map wte=kron:m1=8,n1=96' \
            '--map h.1.mlp.*=kron:m1=4,n1=8' $(small | sed "s|out=[^ ]*||") train.steps=150 \
            train.decay_steps=150 train.lr=5e-3 -q
    }
    run --separate-stderr stages
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = "$out/2-healed/ckpt/best" ]
    "$STRUT" info "${lines[-1]}" --json | python3 -c "
import json, sys
m = json.load(sys.stdin)['maps']
assert m['wte'].startswith('kron') and m['h.1.mlp.c_fc'].startswith('kron'), m
assert m['h.0.mlp.c_fc'] == m['h.1.attn.c_attn'] == 'dense', m"
    for n in 1 2; do
        head -1 "$out/$n-healed/metrics.csv" | grep -q ',ce,kl,hidden,embedding,'
        python3 -c " # healed
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
val = [r['val_loss'] for r in rows if 'val_loss' in r]
assert val[-1] < val[0] - 0.02, val" "$out/$n-healed/metrics.jsonl"
    done
    before=$(cat "$out"/*/metrics.csv)
    run --separate-stderr stages # complete: nothing is done again
    [ "$status" -eq 0 ]
    [ "$before" = "$(cat "$out"/*/metrics.csv)" ]
}

@test "blocks fitted by themselves make a better whole" {
    # shellcheck disable=SC2046 # several words
    "$STRUT" train configs/krony/blocks.yaml $(small) "init=$DIR/krony" "distill=$DIR/dense" \
        train.steps=60 train.decay_steps=60 train.lr=1e-2 train.min_lr=1e-3 eval.every=60 -q
    python3 -c "
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
val = [r['val_loss'] for r in rows if 'val_loss' in r]
hidden = [r['hidden'] for r in rows if 'hidden' in r]
assert val[-1] < val[0] - 0.05 and hidden[-1] < 0.8 * hidden[0], (val, hidden)" \
        "$BATS_TEST_TMPDIR/run/metrics.jsonl"
}

@test "stages without a model say how they are used" {
    run --separate-stderr configs/krony/stages.sh
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"MODEL DATA OUT"* ]]
}
