#!/usr/bin/env bats
# strut report from the outside: real runs and benchmarks in, one page out.
# SPDX-License-Identifier: MIT

bats_require_minimum_version 1.5.0

setup() {
    load ../helpers
    export LSAN_OPTIONS=suppressions=$BATS_TEST_DIRNAME/lsan.supp:print_suppressions=0
    cd "$BATS_TEST_TMPDIR" || exit 1
    tiny_run 4 2
}

@test "runs and benchmarks become one page without network" {
    "$STRUT" train tiny.yaml name=plain -q
    "$STRUT" train tiny.yaml name=ss model.mlp.map=ss1:factor=2 -q
    "$STRUT" bench map --in 32 --out 64 --rows 8 --fit 2 --reps 1 --budget 0.1 --csv layers.csv -q
    apart "$STRUT" report runs/ layers.csv -o page.html --json
    [ "$code" -eq 0 ]
    [ "$(get runs.0.name)" = plain ]
    [ "$(get runs.1.maps)" = ss1:factor=2 ]
    [ "$(get runs.1.complete)" = true ]
    [ -s page_files/perplexity-parameters.svg ]
    not grep -qE 'src="http|href="http' page.html
    grep -q 'id="run-1"' page.html
    run "$STRUT" report runs/ layers.csv -o page.html
    [ "$status" -eq 1 ] && [[ "$output" == *"--force"* ]]
    run --separate-stderr "$STRUT" report runs/ layers.csv -o page.html --force
    [[ "$output" == *"2 runs"* ]]
}

@test "what cannot be reported is said" {
    run "$STRUT" report gone.csv
    [ "$status" -eq 1 ]
    [[ "$output" == *"gone.csv: no such file or folder"* ]]
    mkdir -p runs
    run "$STRUT" report runs
    [ "$status" -eq 1 ]
    [[ "$output" == *"nothing to report"* ]]
    run "$STRUT" report train.bin -o .
    [ "$status" -eq 1 ]
    [[ "$output" == *"is a folder"* ]]
    [ ! -e report.html ]
}

@test "pipes in a run are not waited for; a diverged run does not spoil the page" {
    "$STRUT" train tiny.yaml name=plain -q
    mkdir -p runs/pipe runs/wild
    mkfifo runs/pipe/metrics.jsonl runs/wild/config.yaml runs/wild/result.json
    for i in $(seq 1 2 200); do
        printf '{"step": %d, "tokens": %d, "loss": 1e308}\n{"step": %d, "tokens": %d, "loss": -1e308}\n' \
            "$i" "$i" "$((i + 1))" "$((i + 1))"
    done >runs/wild/metrics.jsonl
    run timeout 200 "$STRUT" report runs/wild -o page.html
    [ "$status" -eq 0 ]
    run timeout 200 "$STRUT" report runs -o page.html -f
    [ "$status" -eq 0 ]
    [[ "$output" == *"2 runs"* ]]
}

@test "what is no page is not replaced, and a failure leaves nothing" {
    "$STRUT" train tiny.yaml name=plain -q
    echo precious >layers.csv
    for name in layers.csv '' report .html; do
        run "$STRUT" report runs -o "$name"
        [ "$status" -eq 1 ]
        [[ "$output" == *"ends in .html"* ]]
    done
    [ "$(cat layers.csv)" = precious ]
    mkfifo pipe.html
    run "$STRUT" report runs -o pipe.html
    [ "$status" -eq 1 ]
    [ ! -e pipe_files ]
    run "$STRUT" report runs -o train.bin/page.html
    [ "$status" -eq 1 ]
    [ "$(echo *_files)" = '*_files' ]
}

@test "a page and its figures appear together or not at all" {
    "$STRUT" train tiny.yaml name=plain -q
    "$STRUT" report runs -o whole.html -q
    [ -s whole_files/perplexity-parameters.png ]
    local page largest
    page=$(stat -c %s whole.html)
    largest=$(stat -c %s whole_files/* | sort -n | tail -1)
    [ "$page" -gt "$((largest + 8192))" ]
    # KiB a file: a figure fails, or the page alone, at once or at its end
    for most in 1 20 $((largest / 1024 + 4)) $(((page - 1) / 1024)); do
        mkdir part
        (trap '' XFSZ && ulimit -f "$most" && not "$STRUT" report runs -o part/p.html -q 2>part.err)
        cat part.err
        grep -q "cannot be written: File too large" part.err
        rmdir part
    done
    # an older page stays as it was
    cp -r whole_files old_files
    cp whole.html old.html
    (trap '' XFSZ && ulimit -f $((largest / 1024 + 4)) && not "$STRUT" report runs -o old.html -f -q 2>part.err)
    cmp old.html whole.html
    diff -r old_files whole_files
    [ "$(ls -A | grep -c strut-)" = 0 ]
    "$STRUT" report runs -o old.html -f -q
}
