#!/usr/bin/env bats
# The program's frame: help, usage errors, exit codes, --json, standard output that cannot be written.

setup() {
    STRUT=${STRUT:-build/strut}
    T=$(mktemp -d)
}
teardown() {
    rm -rf "$T"
}
# Runs with the two outputs apart: $out, $err, $code.
apart() {
    code=0
    "$@" >"$T/out" 2>"$T/err" || code=$?
    out=$(cat "$T/out")
    err=$(cat "$T/err")
}
commands() {
    "$STRUT" help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'
}

@test "without a command: help on standard error, exit 2" {
    apart "$STRUT"
    [ "$code" = 2 ]
    [ -z "$out" ]
    [[ $err == *"usage: strut COMMAND"* ]]
}

@test "help lists every command, and each one explains itself" {
    [ -n "$(commands)" ]
    for name in $(commands); do
        apart "$STRUT" help "$name"
        [ "$code" = 0 ]
        [[ $out == "strut $name: "* ]]
        [[ $out == *"usage:"*"--json"* ]]
        cp "$T/out" "$T/first"
        apart "$STRUT" "$name" --help
        [ "$code" = 0 ]
        cmp "$T/out" "$T/first"
    done
}

@test "help keeps to 80 columns" {
    for name in $(commands); do
        "$STRUT" help "$name" | sed '/^examples:/,$d; /^usage:/,/^$/d' >"$T/help"
        run awk 'length($0) > 80' "$T/help"
        [ -z "$output" ]
    done
}

@test "--version" {
    run "$STRUT" --version
    [ "$status" = 0 ]
    [[ $output =~ ^strut\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "an unknown command is named, the nearest proposed, exit 2" {
    apart "$STRUT" mapz
    [ "$code" = 2 ]
    [ -z "$out" ]
    [[ $err == *'unknown command "mapz"; did you mean "maps"?'* ]]
    apart "$STRUT" help mapz
    [ "$code" = 2 ]
    apart "$STRUT" xyzzyxyzzy
    [ "$code" = 2 ]
    [[ $err != *"did you mean"* ]]
}

@test "unknown options are named, the nearest proposed, exit 2" {
    apart "$STRUT" maps --jsno
    [ "$code" = 2 ]
    [ -z "$out" ]
    [[ $err == *"unknown option --jsno; did you mean --json?"* ]]
    apart "$STRUT" maps -Z
    [ "$code" = 2 ]
    [[ $err == *"unknown option -Z"* ]]
}

@test "option values: missing, not a number, out of range, where none is wanted" {
    apart "$STRUT" maps --threads
    [ "$code" = 2 ]
    [[ $err == *"--threads needs a value: --threads N"* ]]
    apart "$STRUT" maps --threads many
    [ "$code" = 2 ]
    [[ $err == *'--threads: "many" is not a whole number'* ]]
    apart "$STRUT" maps --threads=0
    [ "$code" = 2 ]
    [[ $err == *"--threads: 0 is not between 1 and 4096"* ]]
    apart "$STRUT" maps --json=yes
    [ "$code" = 2 ]
    [[ $err == *'--json takes no value (found "yes")'* ]]
}

@test "too many words, and -- ends the options" {
    apart "$STRUT" maps lowrank dense
    [ "$code" = 2 ]
    [[ $err == *'"dense" is one argument too many'* ]]
    apart "$STRUT" maps -- --json
    [ "$code" = 1 ]
    [[ $err == *'unknown map type "--json"'* ]]
    apart "$STRUT" maps lowrank --json
    [ "$code" = 0 ]
}

@test "a failing command: exit 1, its message on standard error, nothing on standard output" {
    apart "$STRUT" maps lowrnk --json
    [ "$code" = 1 ]
    [ -z "$out" ]
    [[ $err == *'strut maps: unknown map type "lowrnk" (did you mean lowrank?)'* ]]
}

@test "control characters of an argument do not reach the terminal" {
    apart "$STRUT" maps $'\e[31mred'
    [ "$code" = 1 ]
    [[ $err != *$'\e'* ]]
    [[ $err == *"?[31mred"* ]]
}

@test "--json is one object and nothing else" {
    apart "$STRUT" maps --json
    [ "$code" = 0 ]
    [ -z "$err" ]
    python3 -m json.tool "$T/out" >/dev/null
    [[ $out == "{"*"}" ]]
    for name in dense lowrank; do
        [[ $out == *"\"name\": \"$name\""* ]]
    done
}

@test "a full or closed standard output is an error" {
    [ -c /dev/full ] || skip "no /dev/full"
    code=0
    "$STRUT" maps >/dev/full 2>"$T/err" || code=$?
    [ "$code" = 1 ]
    grep -q "standard output could not be written: No space left" "$T/err"
    code=0
    "$STRUT" maps >&- 2>"$T/err" || code=$?
    [ "$code" = 1 ]
    grep -q "standard output could not be written" "$T/err"
}

@test "a reader that goes away ends the program quietly" {
    code=$(bash -c '{ sleep 0.2; "$1" maps 2>"$2"; echo $? >&3; } 3>&1 >&4 | cat' _ "$STRUT" "$T/err" \
        4> >(exec true))
    [ "$code" = 141 ]
    [ ! -s "$T/err" ]
}

# starts FILE: how often the program was loaded, by what OpenMP printed each time.
starts() {
    grep -c 'OMP_NUM_THREADS' "$1"
}

@test "waiting threads do not spin unless the user asks, and --threads is handed on" {
    unset OMP_WAIT_POLICY GOMP_SPINCOUNT OMP_NUM_THREADS OPENBLAS_CORETYPE
    OMP_DISPLAY_ENV=verbose "$STRUT" maps --threads 3 2>"$T/env" >/dev/null
    # Once as the program is loaded, once more as it has started itself again.
    [ "$(starts "$T/env")" = 2 ]
    tail -n 40 "$T/env" | grep -q "OMP_NUM_THREADS = '3'"
    tail -n 40 "$T/env" | grep -q "GOMP_SPINCOUNT = '2000'"
    # With all that it would set given by the user: once.
    OMP_WAIT_POLICY=active OMP_NUM_THREADS=2 OPENBLAS_CORETYPE=Haswell OMP_DISPLAY_ENV=true \
        "$STRUT" maps 2>"$T/env" >/dev/null
    [ "$(starts "$T/env")" = 1 ]
    grep -q "OMP_NUM_THREADS = '2'" "$T/env"
}

@test "the BLAS is told of a processor that it does not know, and what the user says stays" {
    export OMP_WAIT_POLICY=active OMP_NUM_THREADS=2 OMP_DISPLAY_ENV=true OPENBLAS_VERBOSE=2
    unset OPENBLAS_CORETYPE ST_CPU_FORBID
    ST_CPU_FORBID=avx2 "$STRUT" maps 2>"$T/env" >/dev/null # nothing to tell: what it found is kept
    [ "$(starts "$T/env")" = 1 ]
    found=$(sed -n 's/^Core: //p' "$T/env")
    [ -n "$found" ] || skip "this OpenBLAS does not choose kernels as it is loaded"
    "$STRUT" maps 2>"$T/env" >/dev/null
    told=$(sed -n 's/^Core: //p' "$T/env" | tail -n 1)
    n=1
    [ "$told" = "$found" ] || n=2 # one more start is all that it takes
    [ "$(starts "$T/env")" = $n ]
    if grep -qw avx512vl /proc/cpuinfo 2>/dev/null; then
        [[ $told =~ ^(SkylakeX|Cooperlake|SapphireRapids)$ ]]
    elif grep -qw avx2 /proc/cpuinfo 2>/dev/null; then
        [[ $told =~ ^(Haswell|Zen|Excavator)$ ]]
    fi
    OPENBLAS_CORETYPE=Haswell "$STRUT" maps 2>"$T/env" >/dev/null
    [ "$(starts "$T/env")" = 1 ]
}
