#!/usr/bin/env bats
# A checkpoint that would run code is refused by the name it asks for, and runs nothing.
# SPDX-License-Identifier: MIT

setup() {
    STRUT=${STRUT:-build/strut}
    cd "$BATS_TEST_TMPDIR" || return 1
    # {"model": os.system("touch harm")}, as torch.save(..., _use_new_zipfile_serialization=False)
    # would write it; Python's own pickle runs it
    python3 - <<'PY'
import os, pickle
class Harm:
    def __reduce__(self):
        return os.system, ("touch harm",)
with open("harm.pt", "wb") as f:
    for what in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True}, {"model": Harm()}, []):
        pickle.dump(what, f, protocol=2)
PY
    case $STRUT in /*) ;; *) STRUT=$OLDPWD/$STRUT ;; esac
}

@test "the file is what it says: Python runs it" {
    python3 -c "
import pickle
f = open('harm.pt', 'rb')
[pickle.load(f) for _ in range(4)]"
    [ -e harm ]
}

@test "info, perplexity and convert refuse it, naming posix.system, and run nothing" {
    echo text >text.txt
    for command in "info harm.pt" "perplexity harm.pt text.txt" "convert harm.pt out --to hf"; do
        # shellcheck disable=SC2086
        run "$STRUT" $command
        echo "$output"
        [ "$status" -ne 0 ]
        [[ $output == *"its model was made by posix.system, which is not read"* ]]
        [ ! -e harm ]
        [ ! -e out ]
    done
}

@test "a web page under the name of a checkpoint is called one" {
    echo "<!DOCTYPE html><html>Not Found</html>" >pytorch_model.bin
    run "$STRUT" info pytorch_model.bin
    [ "$status" -ne 0 ]
    [[ $output == *"a web page"* ]]
}
