#!/bin/sh
# SPDX-License-Identifier: MIT
# What CONTRIBUTING.md says a model has: every row of model/table.c has its file, its declaration and a
# test against the original code; and no room but model, and readers and writers of formats, asks for a
# family by its row.
set -eu
cd "$(dirname "$0")/.."
bad=0
lacks() {
    echo "check_models: $1 has no $2 in $3" >&2
    bad=1
}
rows=$(grep 'model_types\[\] = ' src/model/table.c | grep -o 'st_model_[a-z0-9_]*' | grep -v '_type' | sort -u)
[ -n "$rows" ] || { echo "check_models: no rows found in src/model/table.c" >&2 && exit 1; }
for row in $rows; do
    name=${row#st_model_}
    [ -f "src/model/$name.c" ] || lacks "$name" "file" "src/model/$name.c"
    grep -q "const st_model_type $row = {" "src/model/$name.c" || lacks "$name" "row $row" "src/model/$name.c"
    grep -Eq "extern const st_model_type .*$row" src/model/inner.h || lacks "$name" "declaration" src/model/inner.h
    [ -f "test/model/${name}_test.c" ] || lacks "$name" "test" "test/model/${name}_test.c"
    grep -q 'fixtures/' "test/model/${name}_test.c" || lacks "$name" "fixture" "test/model/${name}_test.c"
    if grep -rlw "$row" src | grep -v '^src/model/'; then
        echo "check_models: $row is asked for outside of src/model" >&2 && bad=1
    fi
done
exit $bad
