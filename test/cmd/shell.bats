#!/usr/bin/env bats
# Completions and man pages, made from the table of commands: what shells and groff make of them.
# SPDX-License-Identifier: MIT

setup() {
    load ../helpers
    commands=$("$STRUT" help | sed -n 's/^  \([a-z]*\) .*/\1/p')
}

completed() { # completed WORD...: what bash offers for the last one
    bash -c 'source <("$1" completion bash) && shift && COMP_WORDS=("$@") &&
        COMP_CWORD=$(($# - 1)) && _strut && echo "${COMPREPLY[@]}"' bash "$STRUT" strut "$@"
}

@test "bash completes commands, options and their choices" {
    [ "$(completed dec)" = decompose ]
    [ "$(completed convert --dt)" = --dtype ]
    [ "$(completed generate --dtype b)" = "bf16 bfloat16" ]
    [ "$(completed help per)" = perplexity ]
    [ -z "$(completed convert model/)" ] # files are bash's own
    for c in $commands; do # every option is offered once for itself
        "$STRUT" help "$c" | grep -oE '^  [-a-zA-Z, ]*--[a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+' |
            sed "s/^/$c /"
    done >"$BATS_TEST_TMPDIR/options"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/options")" -gt 100 ]
    bash -c 'source <("$1" completion bash)
        while read -r command option; do
            COMP_WORDS=(strut "$command" "$option") COMP_CWORD=2
            _strut
            printf "%s\n" "${COMPREPLY[@]}" | grep -cx -- "$option" | grep -qx 1 ||
                { echo "$command $option: ${COMPREPLY[*]}" && exit 1; }
        done' bash "$STRUT" <"$BATS_TEST_TMPDIR/options"
}

@test "zsh and fish read theirs" {
    run "$STRUT" completion tcsh
    [ "$status" -eq 1 ] && [[ "$output" == *"bash, zsh, fish"* ]]
    for shell in zsh fish; do
        "$STRUT" completion $shell >"$BATS_TEST_TMPDIR/$shell"
        [ "$(grep -c decompose "$BATS_TEST_TMPDIR/$shell")" -ge 2 ]
        ! command -v $shell >/dev/null || $shell -n "$BATS_TEST_TMPDIR/$shell"
    done
}

@test "man pages have every command and option, and groff has nothing to say" {
    "$STRUT" help --man >"$BATS_TEST_TMPDIR/strut.1"
    for c in $commands; do
        grep -q "strut.-$c" "$BATS_TEST_TMPDIR/strut.1"
        "$STRUT" help --man "$c" >"$BATS_TEST_TMPDIR/strut-$c.1"
        options=$("$STRUT" help "$c" | sed -n '/^options:/,/^examples:/p' |
            grep -cE '^  (-[a-zA-Z]+, |    )--[a-z0-9-]+')
        [ "$(grep -c '^\.TP' "$BATS_TEST_TMPDIR/strut-$c.1")" -eq "$options" ]
    done
    command -v groff >/dev/null || skip "no groff"
    run groff -man -Tutf8 -ww -z "$BATS_TEST_TMPDIR"/strut*.1
    [ "$status" -eq 0 ] && [ -z "$output" ]
}
