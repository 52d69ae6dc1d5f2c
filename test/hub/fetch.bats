#!/usr/bin/env bats
# strut fetch against a server on loopback (hub_server.py) that behaves and misbehaves.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    python3 test/hub/hub_server.py "$DIR/port" "$DIR/log" 3>&- &
    echo $! >"$DIR/pid"
    for _ in $(seq 1200); do [ -s "$DIR/port" ] && break; sleep 0.05; done
    export HF_ENDPOINT="http://127.0.0.1:$(cat "$DIR/port")"
    export HF_HOME="$DIR/home"
    unset HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HUB_CACHE HUGGINGFACE_HUB_CACHE \
        HF_HUB_OFFLINE TRANSFORMERS_OFFLINE http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY
    export COMMIT=0123456789abcdef0123456789abcdef01234567
    export SHA=$(python3 -c "
import hashlib; print(hashlib.sha256(bytes((i * 7919 + i // 251) & 255 for i in range(300000))).hexdigest())")
}
teardown_file() {
    kill "$(cat "$DIR/pid")"
}
setup() {
    : >"$DIR/log"
    rm -rf "$HF_HOME"
}
blobs() { echo "$HF_HOME/hub/models--org--$1/blobs"; }
sum() { sha256sum "$1" | cut -c1-64; }

@test "fetch: blobs, links and refs as huggingface_hub lays them out; again costs one request" {
    apart "$STRUT" fetch org/good --json
    [ "$code" = 0 ]
    d=$HF_HOME/hub/models--org--good
    [ "$(cat "$d/refs/main")" = "$COMMIT" ]
    [ "$(readlink "$d/snapshots/$COMMIT/model.safetensors")" = "../../blobs/$SHA" ]
    [ "$(sum "$d/blobs/$SHA")" = "$SHA" ]
    [ "$(sed 's/2/2/' "$d/snapshots/$COMMIT/config.json")" = '{"model_type": "gpt2"}' ]
    [ "$(ls "$d/blobs" | wc -l)" = 2 ] # what strut reads: neither onnx/ nor .gitattributes
    [ "$(get commit)" = "$COMMIT" ]
    [ "$(get folder)" = "$d/snapshots/$COMMIT" ]
    [ "$(get fetched)" = 300023 ]
    [ "$(get files.1.fetched)" = true ]
    : >"$DIR/log"
    apart "$STRUT" fetch org/good --json
    [ "$code" = 0 ]
    [ "$(get fetched)" = 0 ]
    [ "$(get files.1.fetched)" = false ]
    [ "$(wc -l <"$DIR/log")" = 1 ]
}

@test "fetch: bytes are on disk before a blob has its name" {
    ST_DISK_LOG="$DIR/disk" LD_PRELOAD=${ST_DISK_JUDGE:-build/libdisk_judge.so} \
        ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
        "$STRUT" fetch org/good -q >/dev/null
    not grep '^early ' "$DIR/disk"
    [ "$(awk '/^renames / { n += $2 } END { print n + 0 }' "$DIR/disk")" -ge 4 ] # two blobs, two links
}

@test "fetch: globs, folders in names, a name that is not there" {
    apart "$STRUT" fetch org/good 'onnx/*' config.json
    [ "$code" = 0 ]
    link=$HF_HOME/hub/models--org--good/snapshots/$COMMIT/onnx/'model [1].onnx'
    [[ $(readlink "$link") == ../../../blobs/* ]]
    [ -s "$link" ]
    apart "$STRUT" fetch org/good config.jsn
    [ "$code" = 1 ]
    [[ $err == *'no file matches "config.jsn"; did you mean config.json?'* ]]
    apart "$STRUT" fetch org/good '*'
    [ "$code" = 0 ]
    [ "$(ls "$(blobs good)" | wc -l)" = 3 ] # two files have the same content
}

@test "fetch: the token goes to the Hub and to nobody else" {
    HF_TOKEN=hf_secret apart "$STRUT" fetch org/good
    [ "$code" = 0 ]
    grep -q "^hub GET /api/models/org/good/revision/main.* auth=Bearer_hf_secret$" "$DIR/log"
    grep -q "^storage GET /good .*auth=-$" "$DIR/log"
    [ "$(grep -c "^storage.*hf_secret" "$DIR/log")" = 0 ]
}

@test "fetch: a token from its file; 401, 403, 404 say what to do" {
    apart "$STRUT" fetch org/secret --tries 1
    [ "$code" = 1 ]
    [[ $err == *"org/secret"*"401"*"HF_TOKEN"* ]]
    mkdir -p "$HF_HOME"
    echo hf_secret >"$HF_HOME/token"
    apart "$STRUT" fetch org/secret
    [ "$code" = 0 ]
    apart "$STRUT" fetch org/gated
    [ "$code" = 1 ]
    [[ $err == *"403"*"accept the conditions"* ]]
    apart "$STRUT" fetch org/missing
    [ "$code" = 1 ]
    [[ $err == *"404"*"RepoNotFound"* ]]
    apart "$STRUT" fetch org/good@v9
    [ "$code" = 1 ]
    [[ $err == *"404"*"RevisionNotFound"* ]]
    [ ! -e "$HF_HOME/hub/models--org--missing" ]
}

@test "fetch: a connection that is cut is gone on with, with and without Range" {
    apart "$STRUT" fetch org/cut
    [ "$code" = 0 ]
    [ "$(sum "$(blobs cut)/$SHA")" = "$SHA" ]
    grep -q "^storage GET /cut range=bytes=100000- " "$DIR/log"
    grep -q "^storage GET /cut range=bytes=200000- " "$DIR/log"
    apart "$STRUT" fetch org/norange
    [ "$code" = 0 ]
    [ "$(sum "$(blobs norange)/$SHA")" = "$SHA" ]
    [ "$(ls "$(blobs norange)" | grep -c incomplete)" = 0 ]
}

@test "fetch: a part that another run left is gone on with; a wrong one is found out" {
    mkdir -p "$(blobs good)"
    python3 -c "
import sys
sys.stdout.buffer.write(bytes((i * 7919 + i // 251) & 255 for i in range(250000)))" >"$(blobs good)/$SHA.incomplete"
    apart "$STRUT" fetch org/good --json
    [ "$code" = 0 ]
    [ "$(get fetched)" = 50023 ]
    [ "$(sum "$(blobs good)/$SHA")" = "$SHA" ]
    rm "$(blobs good)/$SHA"
    head -c 1000 /dev/zero >"$(blobs good)/$SHA.incomplete"
    apart "$STRUT" fetch org/good
    [ "$code" = 1 ]
    [[ $err == *"model.safetensors"*"checksum"* ]]
    [ ! -e "$(blobs good)/$SHA" ]
    [ ! -e "$(blobs good)/$SHA.incomplete" ]
    apart "$STRUT" fetch org/good
    [ "$code" = 0 ]
}

@test "fetch: wrong content, more than announced and no room leave no file" {
    for repo in wrong more; do
        apart "$STRUT" fetch org/$repo
        [ "$code" = 1 ]
        [ ! -e "$(blobs $repo)/$SHA" ]
        [ ! -e "$(blobs $repo)/$SHA.incomplete" ]
        [ ! -e "$HF_HOME/hub/models--org--$repo/refs/main" ]
    done
    [[ $err == *"sends more than the 300000 bytes"* ]]
    apart "$STRUT" fetch org/wide
    [ "$code" = 1 ]
    [[ $err == *"No space left"*"make room"* ]]
}

@test "fetch: 429 is waited for, 500 is tried again, then named" {
    apart "$STRUT" fetch org/busy config.json
    [ "$code" = 0 ]
    [ "$(grep -c "api/models/org/busy" "$DIR/log")" = 3 ]
    apart "$STRUT" fetch org/broken --tries 2
    [ "$code" = 1 ]
    [[ $err == *"answers 500"* ]]
    [ "$(grep -c "api/models/org/broken" "$DIR/log")" = 2 ]
}

@test "fetch: a huge, a nonsensical and an evil list are refused" {
    apart "$STRUT" fetch org/huge
    [ "$code" = 1 ]
    [[ $err == *"longer than 64 MiB"* ]]
    apart "$STRUT" fetch org/nonsense
    [ "$code" = 1 ]
    [[ $err == *"JSON"* ]]
    apart "$STRUT" fetch org/evil '*'
    [ "$code" = 1 ]
    [[ $err == *"no path inside it"* ]]
    [ ! -e "$HF_HOME/evil" ]
}

@test "fetch: a server that stalls is given up, what came is kept" {
    HF_HUB_DOWNLOAD_TIMEOUT=1 apart "$STRUT" fetch org/slow --tries 1
    [ "$code" = 1 ]
    [ "$(stat -c %s "$(blobs slow)/$SHA.incomplete")" -ge 50000 ]
}

@test "fetch: a second one waits for the first and has its file" {
    "$STRUT" fetch org/twice >"$BATS_TEST_TMPDIR/first" 2>&1 &
    pid=$!
    for _ in $(seq 1200); do
        [ -s "$(blobs twice)/$SHA.incomplete" ] && break
        sleep 0.05
    done
    apart "$STRUT" fetch org/twice --json
    [ "$code" = 0 ]
    [[ $err == *"another process is fetching it"* ]]
    wait $pid
    [ "$(sum "$(blobs twice)/$SHA")" = "$SHA" ]
    [ ! -e "$(blobs twice)/$SHA.incomplete" ]
    [ "$(get fetched)" -lt 300000 ]
}

@test "fetch: Ctrl-C ends it at once and the next run goes on" {
    "$STRUT" fetch org/drip >"$BATS_TEST_TMPDIR/out" 2>&1 &
    pid=$!
    for _ in $(seq 1200); do
        [ "$(stat -c %s "$(blobs drip)/$SHA.incomplete" 2>/dev/null)" = 50000 ] && break
        sleep 0.05
    done
    kill -TERM $pid
    code=0
    wait $pid || code=$?
    [ "$code" = 143 ]
    apart "$STRUT" fetch org/drip --json
    [ "$code" = 0 ]
    [ "$(get fetched)" = 250000 ]
    [ "$(sum "$(blobs drip)/$SHA")" = "$SHA" ]
}

@test "fetch: a list without checksums asks for headers" {
    apart "$STRUT" fetch org/mirror
    [ "$code" = 0 ]
    [ "$(sum "$(blobs mirror)/$SHA")" = "$SHA" ]
    grep -q "^hub HEAD /org/mirror/resolve/$COMMIT/model.safetensors" "$DIR/log"
}

@test "fetch: offline only the cache counts" {
    HF_HUB_OFFLINE=1 apart "$STRUT" fetch org/good
    [ "$code" = 1 ]
    [[ $err == *"HF_HUB_OFFLINE"* ]]
    [ ! -s "$DIR/log" ]
    "$STRUT" fetch org/good
    : >"$DIR/log"
    HF_HUB_OFFLINE=1 apart "$STRUT" fetch org/good config.json --json
    [ "$code" = 0 ]
    [ "$(get files.0.name)" = config.json ]
    [ ! -s "$DIR/log" ]
    HF_HUB_OFFLINE=1 apart "$STRUT" fetch org/good README.md
    [ "$code" = 1 ]
    [[ $err == *"README.md"* ]]
}

@test "fetch: offline there is no --to" {
    "$STRUT" fetch org/good
    HF_HUB_OFFLINE=1 apart "$STRUT" fetch org/good --to "$DIR/offline"
    [ "$code" = 1 ]
    [[ $err == *"leave out --to"* ]]
    [ ! -e "$DIR/offline" ]
}

@test "fetch: data sets, revisions and --to" {
    apart "$STRUT" fetch org/good@$COMMIT config.json --dataset
    [ "$code" = 0 ]
    grep -q "^hub GET /api/datasets/org/good/revision/$COMMIT" "$DIR/log"
    grep -q "^hub GET /datasets/org/good/resolve/$COMMIT/config.json" "$DIR/log"
    [ -s "$HF_HOME/hub/datasets--org--good/snapshots/$COMMIT/config.json" ]
    [ ! -e "$HF_HOME/hub/datasets--org--good/refs" ]
    apart "$STRUT" fetch org/good --to "$DIR/plain"
    [ "$code" = 0 ]
    [ "$(sum "$DIR/plain/model.safetensors")" = "$SHA" ]
    [ "$(ls -A "$DIR/plain" | wc -l)" = 2 ]
    [ ! -L "$DIR/plain/config.json" ]
    apart "$STRUT" fetch org/good --to "$DIR/plain" --json
    [ "$(get fetched)" = 0 ]
}

@test "fetch: bad names and a bad endpoint are refused before anything is asked" {
    for name in ../x org/../x a/b/c org/a--b /x 'org/a b' org/; do
        apart "$STRUT" fetch "$name"
        [ "$code" = 1 ]
        [[ $err == *"no name of a repository"* ]]
    done
    apart "$STRUT" fetch org/good@../../x
    [ "$code" = 1 ]
    [[ $err == *"no name of a branch"* ]]
    HF_ENDPOINT=ftp://x apart "$STRUT" fetch org/good
    [ "$code" = 1 ]
    [[ $err == *"HF_ENDPOINT"* ]]
    [ ! -s "$DIR/log" ]
}
