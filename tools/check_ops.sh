#!/bin/sh
# SPDX-License-Identifier: MIT
# What CONTRIBUTING.md says an operation has: every row of ops.def has its contract, its plain loops, its
# cost and its cases.
set -eu
cd "$(dirname "$0")/.."
bad=0
lacks() {
    echo "check_ops: $1 has no $2 in $3" >&2
    bad=1
}
# shellcheck disable=SC2013 # names of operations are words
for op in $(sed -n 's/^ST_OP(\([a-z0-9_]*\),.*/\1/p' src/backend/ops.def); do
    grep -q "st_${op}_args;" src/backend/ops.h || lacks "$op" "contract st_${op}_args" src/backend/ops.h
    grep -rqw "st_ref_${op}" src/backend/ref || lacks "$op" "plain loops st_ref_${op}" src/backend/ref
    grep -qw "dry_${op}" src/backend/dry.c || lacks "$op" "cost dry_${op}" src/backend/dry.c
    grep -rqw "cases_${op}" test/backend/support || lacks "$op" "cases cases_${op}" test/backend/support
done
exit $bad
