#!/usr/bin/env bats
# strut classify on a small random model and real photographs (Debian's palapeli-data).
# SPDX-License-Identifier: MIT
load ../helpers

photos=/usr/share/palapeli/collection
fixtures=test/fixtures/images

setup_file() {
    export STRUT=${STRUT:-build/strut} MODEL=$BATS_FILE_TMPDIR/model DATA=$BATS_FILE_TMPDIR/imagenet
    cat >"$BATS_FILE_TMPDIR/config.json" <<END
{"model_type": "t2t_vit", "tokens_type": "transformer", "img_size": 64, "embed_dim": 16, "depth": 1,
 "num_heads": 2, "mlp_dim": 32, "token_dim": 8, "num_classes": 1000}
END
    "$STRUT" init "$BATS_FILE_TMPDIR/config.json" "$MODEL" --seed 5
    # castle, honeycomb's maker, chameleon, lemon, suspension bridge
    set -- n02980441 castle-maintenon n02206856 european-honey-bee n01682714 \
        panther-chameleon-female n07749582 citrus-fruits n04366367 cincinnati-bridge
    while [ $# -gt 0 ]; do
        mkdir -p "$DATA/val/$1"
        [ ! -e "$photos/$2.jpg" ] || cp "$photos/$2.jpg" "$DATA/val/$1/$2.JPEG"
        shift 2
    done
    cp $fixtures/cmyk.jpg "$DATA/val/n04366367/"
    cp $fixtures/png-in-disguise.JPEG "$DATA/val/n07749582/"
    head -c 300 $fixtures/rgb-444.jpg >"$DATA/val/n07749582/torn.jpg"
}

photographs() {
    [ -e $photos/citrus-fruits.jpg ] || skip "no photographs: apt install palapeli-data"
}

# check EXPRESSION: of v, the JSON that was printed, and rows, the CSV's.
check() {
    python3 -c "
import csv, json, math, os, sys
v = json.load(open('$BATS_TEST_TMPDIR/out'))
rows = list(csv.DictReader(open('$BATS_TEST_TMPDIR/r.csv'))) if os.path.exists('$BATS_TEST_TMPDIR/r.csv') else []
assert $1, (v, rows)"
}

@test "classify: names, probabilities and logits agree" {
    apart "$STRUT" classify "$MODEL" $fixtures/grey.jpg $fixtures/rgb-8.png --json -k 3
    [ "$code" = 0 ]
    check "len(v['images']) == 2 and v['classified'] == 2 and v['broken'] == 0"
    check "all(len(i['top']) == 3 and len(i['logits']) == 1000 for i in v['images'])"
    check "all(i['top'][0]['class'] == i['logits'].index(max(i['logits'])) for i in v['images'])"
    check "all(abs(i['top'][k]['probability'] - math.exp(i['logits'][i['top'][k]['class']]) /
        sum(map(math.exp, i['logits']))) < 1e-9 for i in v['images'] for k in range(3))"
    apart "$STRUT" classify "$MODEL" $fixtures/grey.jpg
    [ "$code" = 0 ]
    [[ $out == *grey.jpg*" %  n"* ]]
    [ "$(grep -c ' %  n' <<<"$out")" = 5 ]
}

@test "classify: broken pictures are named, the others go on" {
    mkdir -p "$BATS_TEST_TMPDIR/d.jpg"
    : >"$BATS_TEST_TMPDIR/empty.png"
    ln -s . "$BATS_TEST_TMPDIR/d.jpg/loop"
    cp $fixtures/ycck.jpg "$BATS_TEST_TMPDIR/d.jpg/x.jpg"
    apart "$STRUT" classify "$MODEL" "$BATS_TEST_TMPDIR" --json
    [ "$code" = 0 ]
    check "v['classified'] == 1 and v['broken'] == 1"
    check "[i['error'] for i in v['images'] if 'error' in i][0].endswith('expected a JPEG or PNG picture')"
    [[ $err == *"empty.png: is empty"* ]]
    apart "$STRUT" classify "$MODEL" "$BATS_TEST_TMPDIR/empty.png"
    [ "$code" = 1 ]
    [[ $err == *"empty.png: is empty"* ]] && [ "$(grep -c 'is empty' <<<"$err")" = 1 ]
    : >"$BATS_TEST_TMPDIR/more.png"
    apart "$STRUT" classify "$MODEL" "$BATS_TEST_TMPDIR/empty.png" "$BATS_TEST_TMPDIR/more.png"
    [ "$code" = 1 ] && [ "$(grep -c 'is empty' <<<"$err")" = 2 ]
    [[ $err == *"of 2 pictures none can be read"* ]]
    apart "$STRUT" classify "$MODEL" "$BATS_TEST_TMPDIR/nowhere.jpg"
    [ "$code" = 1 ]
    [[ $err == *nowhere.jpg* ]]
}

@test "classify: ImageNet as a folder, a tar and a zip" {
    photographs
    csv=$BATS_TEST_TMPDIR/r.csv
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" --json
    [ "$code" = 0 ]
    [[ $err == *torn.jpg*"ends early"* ]]
    check "v['images'] == 7 and v['broken'] == 1 and v['classes'] == 5 and v['labels'] == 'wnid'"
    check "len(rows) == 8 and [r['path'] for r in rows] == sorted(r['path'] for r in rows)"
    check "abs(v['loss'] - sum(float(r['loss'] or 0) for r in rows) / 7) < 1e-6"
    check "v['top1'] == sum(r['label'] == r['prediction'] for r in rows) / 7"
    check "v['top5'] == sum(r['label'] in r['top5'].split() for r in rows) / 7"
    # The numbers of the classes in all of ImageNet, though five are there.
    check "[int(r['label']) for r in rows] == [40, 309, 483, 839, 839, 951, 951, 951]"
    loss=$(get loss)
    tar -C "$DATA" -cf "$BATS_TEST_TMPDIR/in.tar" val
    apart "$STRUT" classify "$MODEL" --imagenet "$BATS_TEST_TMPDIR/in.tar" --json -b 3
    check "v['images'] == 7 and abs(v['loss'] - $loss) < 1e-5"
    (cd "$DATA/val" && python3 -m zipfile -c "$BATS_TEST_TMPDIR/in.zip" n*)
    apart "$STRUT" classify "$MODEL" --imagenet "$BATS_TEST_TMPDIR/in.zip" --json
    check "v['images'] == 7 and v['labels'] == 'wnid' and abs(v['loss'] - $loss) < 1e-5"
    # A tar of a tar for each class, each made in its folder: names begin with ./
    mkdir "$BATS_TEST_TMPDIR/tars"
    for d in "$DATA"/val/n*; do tar -C "$d" -cf "$BATS_TEST_TMPDIR/tars/${d##*/}.tar" .; done
    tar -C "$BATS_TEST_TMPDIR/tars" -cf "$BATS_TEST_TMPDIR/nested.tar" .
    apart "$STRUT" classify "$MODEL" --imagenet "$BATS_TEST_TMPDIR/nested.tar" --json
    check "v['images'] == 7 and v['labels'] == 'wnid' and abs(v['loss'] - $loss) < 1e-5"
    # Against the logits of the same picture.
    apart "$STRUT" classify "$MODEL" "$DATA/val/n02980441/castle-maintenon.JPEG" --json
    check "abs(-v['images'][0]['logits'][483] + math.log(sum(map(math.exp, v['images'][0]['logits']))) -
        float(rows[2]['loss'])) < 1e-5"
}

@test "classify: a name cannot speak to the terminal" {
    photographs
    cp "$DATA/val/n02980441/castle-maintenon.JPEG" "$BATS_TEST_TMPDIR/$(printf 'a\033[31mb.jpg')"
    : >"$BATS_TEST_TMPDIR/$(printf 'c\033[31md.jpg')"
    apart "$STRUT" classify "$MODEL" "$BATS_TEST_TMPDIR"/*.jpg
    [[ $out == *"a?[31mb.jpg"*"c?[31md.jpg"* ]]
    not grep -q "$(printf '\033')" "$BATS_TEST_TMPDIR/out" "$BATS_TEST_TMPDIR/err"
}

@test "classify: names that are not UTF-8 cost nobody anything" {
    bad=$(printf '%s/\377' "$BATS_TEST_TMPDIR")
    mkdir -p "$bad/d/cat" "$bad/d/dog"
    printf x >"$bad/d/cat/$(printf 'a\377.jpg')"
    printf x >"$bad/d/cat/$(printf 'd\377.jpg')"
    cp $fixtures/grey.jpg "$bad/d/cat/b.jpg"
    cp $fixtures/rgb-8.png "$bad/d/dog/$(printf 'c\377.png')"
    cp -r "$MODEL" "$bad/model"
    apart "$STRUT" classify "$MODEL" $fixtures/grey.jpg $fixtures/rgb-8.png --json
    a=$(get images.0.logits) b=$(get images.1.logits)
    apart "$STRUT" classify "$bad/model" "$bad/d" --batch 2 --json
    [ "$code" = 0 ]
    check "v['classified'] == v['broken'] == 2 and v['model'].endswith('/\ufffd/model')"
    check "[i['path'][-7:] for i in v['images']] == ['/a\ufffd.jpg', 't/b.jpg', '/d\ufffd.jpg', '/c\ufffd.png']"
    check "['neither JPEG' in i.get('error', '') for i in v['images']] == [True, False, True, False]"
    check "v['images'][1]['logits'] == $a and v['images'][3]['logits'] == $b"
    "$STRUT" init "$BATS_FILE_TMPDIR/config.json" "$bad/two" --classes 2 -q
    for end in 0 4; do
        apart "$STRUT" classify "$bad/two" --imagenet "$bad/d" --csv "$bad/r.csv" --json
        [ "$code" = 0 ]
        check "v['images'] == 2 and v['broken'] == 2 and v['resumed'] == $end"
    done
    apart "$STRUT" convert "$bad/two" "$bad/two.pt" --json
    check "v['out'].endswith('/\ufffd/two.pt')"
    apart "$STRUT" decompose "$bad/two" "$bad/small" --map 'blocks.*.mlp.*=lowrank:rank=4' --json
    check "v['out'].endswith('/\ufffd/small')"
    apart "$STRUT" info "$bad/small" --json
    check "v['path'].endswith('/\ufffd/small')"
}

@test "classify: an evaluation that ended early goes on" {
    photographs
    csv=$BATS_TEST_TMPDIR/r.csv whole=$BATS_TEST_TMPDIR/whole.csv
    "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$whole" -b 1 -q
    "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" -b 1 -n 3 -q
    [ "$(wc -l <"$csv")" = 4 ]
    printf '"n07749582/torn.jpg",951,0,,' >>"$csv" # a row that was being written
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" -b 1 --json
    [ "$code" = 0 ]
    cmp "$csv" "$whole"
    check "v['resumed'] == 3 and v['images'] == 7"
    first=$(get loss)
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" -b 1 --json
    check "v['resumed'] == 8 and v['loss'] == $first"
    sed -i '3s/,/;/; 5d' "$csv"
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" -b 1 --json
    [[ $err == *"1 row is of no use, the first is row 2 (it has not 8 fields); 2 pictures between others have no rows and are classified again; 6 are kept"* ]]
    cmp "$csv" "$whole"
    check "v['resumed'] == 6 and v['loss'] == $first and v['images'] == 7"
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA//" --csv "$csv" -n 1 --json
    check "v['resumed'] == 8 and v['loss'] == $first"
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" --dtype bf16
    [ "$code" = 1 ]
    [[ $err == *'was made with dtype "float32", not "bfloat16"'*--replace* ]]
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" --interp bilinear
    [ "$code" = 1 ]
    [[ $err == *"was made with transform"*bicubic*--replace* ]]
    "$STRUT" init "$BATS_FILE_TMPDIR/config.json" "$BATS_TEST_TMPDIR/other" --seed 6
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/other" --imagenet "$DATA" --csv "$csv"
    [ "$code" = 1 ]
    [[ $err == *"was made with weights"* ]]
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/other" --imagenet "$DATA" --csv "$csv" --replace -q
    [ "$code" = 0 ]
    not cmp -s "$csv" "$whole"
    sed -i '3s/n0/n1/' "$csv"
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/other" --imagenet "$DATA" --csv "$csv"
    [ "$code" = 1 ]
    [[ $err == *"row 2 is of n1"*"delete the row"* ]]
    rm "$csv.json"
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv"
    [ "$code" = 1 ]
    [[ $err == *"says how it was made"* ]]
    cp "$MODEL/config.json" "$BATS_TEST_TMPDIR/config.json"
    for name in config config.json; do
        apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$BATS_TEST_TMPDIR/$name" --replace
        [ "$code" = 1 ]
        [[ $err == *"config.json: is no file of an evaluation, so it is not replaced"* ]]
        cmp "$MODEL/config.json" "$BATS_TEST_TMPDIR/config.json"
    done
}

@test "classify: one evaluation at a time writes to a file" {
    photographs
    csv=$BATS_TEST_TMPDIR/r.csv
    "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" -n 3 -q
    flock "$csv" sleep 30 &
    holder=$!
    sleep 0.3
    for more in '' --replace; do
        apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv" $more
        [ "$code" = 1 ]
        [[ $err == *"another process is writing to it"* ]]
        [ "$(wc -l <"$csv")" = 4 ]
    done
    pkill -P $holder
    wait $holder || true
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --csv "$csv"
    [ "$code" = 0 ]
}

@test "classify: labels from a file" {
    mkdir "$BATS_TEST_TMPDIR/flat"
    cp $fixtures/{grey,cmyk,ycck}.jpg "$BATS_TEST_TMPDIR/flat"
    labels=$BATS_TEST_TMPDIR/labels csv=$BATS_TEST_TMPDIR/r.csv
    run_with() {
        printf '%b' "$1" >"$labels"
        apart "$STRUT" classify "$MODEL" --imagenet "$BATS_TEST_TMPDIR/flat" --labels "$labels" \
            --csv "$csv" --replace --json
    }
    run_with 'cmyk.jpg 7\nycck.jpg 9\ngrey.jpg 8\nother.jpg 1\n'
    check "[r['label'] for r in rows] == ['7', '8', '9'] and v['labels'] == 'file'"
    best=$(check "not print(*[r['prediction'] for r in rows])")
    # shellcheck disable=SC2086
    set -- $best
    run_with "val/cmyk.jpg $1\ngrey.jpg $2\nycck.jpg $3\n"
    check "v['top1'] == 1 and v['top5'] == 1"
    run_with '\xef\xbb\xbfcmyk.jpg 7\nycck.jpg 9\ngrey.jpg 8\nval/grey.jpg 8\n'
    check "[r['label'] for r in rows] == ['7', '8', '9']"
    run_with 'cmyk.jpg 7\nycck.jpg 9\ngrey.jpg 8\ncmyk.jpg 6\n'
    [ "$code" = 1 ]
    [[ $err == *"cmyk.jpg has two labels, in lines 1 and 4"* ]]
    run_with 'ImageId,PredictionString\r\nycck,n01440764 1 2 3 4\r\ngrey,n01443537 1 2\r\ncmyk,n01484850 1\r\n'
    check "[r['label'] for r in rows] == ['2', '1', '0']"
    run_with 'n01443537\nn01440764\n\nn01484850\n'
    check "[r['label'] for r in rows] == ['1', '0', '2']"
    run_with '490\n361\n171\n'
    [ "$code" = 1 ]
    [[ $err == *"labels:1: a number alone"* ]]
    run_with 'n01443537\nn01440764\n'
    [[ $err == *"2 labels for 3 pictures"* ]]
    run_with 'cmyk.jpg 7\nycck.jpg 9\n'
    [[ $err == *"no label of grey.jpg"* ]]
    run_with 'cmyk.jpg 7\nycck.jpg 1000\n'
    [[ $err == *"labels:2: 1000 is no class"* ]]
    apart "$STRUT" classify "$MODEL" --imagenet "$BATS_TEST_TMPDIR/flat"
    [ "$code" = 1 ]
    [[ $err == *"1 folders (flat)"*--labels* ]]
}

@test "classify: classes of other models by rank and by name" {
    sed 's/1000/3/' "$BATS_FILE_TMPDIR/config.json" >"$BATS_TEST_TMPDIR/config.json"
    "$STRUT" init "$BATS_TEST_TMPDIR/config.json" "$BATS_TEST_TMPDIR/three"
    mkdir -p "$BATS_TEST_TMPDIR/d/"{ant,bee,cow}
    for k in ant bee cow; do cp $fixtures/grey.jpg "$BATS_TEST_TMPDIR/d/$k/"; done
    csv=$BATS_TEST_TMPDIR/r.csv
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/three" --imagenet "$BATS_TEST_TMPDIR/d" --csv "$csv" --json
    check "v['labels'] == 'rank' and [r['label'] for r in rows] == ['0', '1', '2']"
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/three" $fixtures/grey.jpg
    [[ $out == *"class 2"* ]]
    sed -i 's/{/{"id2label": {"0": "cow", "1": "ant", "2": "bee"},/' "$BATS_TEST_TMPDIR/three/config.json"
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/three" --imagenet "$BATS_TEST_TMPDIR/d" --csv "$csv" --replace --json
    check "v['labels'] == 'name' and [r['label'] for r in rows] == ['1', '2', '0']"
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/three" $fixtures/grey.jpg
    [[ $out == *cow* ]]
    mkdir "$BATS_TEST_TMPDIR/d/dog"
    cp $fixtures/grey.jpg "$BATS_TEST_TMPDIR/d/dog/"
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/three" --imagenet "$BATS_TEST_TMPDIR/d"
    [ "$code" = 1 ]
    [[ $err == *"folder dog is no class of the model"* ]]
}

@test "classify: attention of the token modules" {
    apart "$STRUT" classify "$MODEL" $fixtures/rgb-444.jpg --json
    full=$(get images.0.logits.0) all=$(get images.0.logits)
    apart "$STRUT" classify "$MODEL" $fixtures/rgb-444.jpg --json --attention local:window=3
    [ "$code" = 0 ]
    [ "$(get images.0.logits.0)" != "$full" ]
    [ "$(get attention)" = local:window=3 ]
    for way in smyrf:hashes=1 reformer:hashes=3; do
        apart "$STRUT" classify "$MODEL" $fixtures/rgb-444.jpg --json --attention $way
        [ "$code" = 0 ]
        [ "$(get images.0.logits.0)" != "$full" ]
        [ "$(get attention)" = $way ]
    done
    apart "$STRUT" classify "$MODEL" $fixtures/rgb-444.jpg --attention locl
    [ "$code" = 1 ]
    [[ $err == *local* ]]
    for way in full local performer:features=3,ortho=1 sblocal:window=4,features=6 linear linformer:k=5; do
        apart "$STRUT" classify "$MODEL" $fixtures/rgb-444.jpg --json --attention "$way"
        [ "$code" = 0 ]
        check "v['attention'] == '$way' and all(map(math.isfinite, v['images'][0]['logits']))"
        check "(v['images'][0]['logits'] == $all) == ('$way' == 'full')"
    done
    apart "$STRUT" classify "$MODEL" $fixtures/rgb-444.jpg --json --attention local:window=1000
    check "abs(v['images'][0]['logits'][0] - $full) < 1e-5"
    mkdir -p "$BATS_TEST_TMPDIR/d/"{n01440764,n01443537}
    cp $fixtures/{grey,ycck}.jpg "$BATS_TEST_TMPDIR/d/n01440764"
    cp $fixtures/rgb-444.jpg "$BATS_TEST_TMPDIR/d/n01443537"
    csv=$BATS_TEST_TMPDIR/r.csv
    how=(--imagenet "$BATS_TEST_TMPDIR/d" --attention performer --seeds 3 --csv "$csv" --json)
    apart "$STRUT" classify "$MODEL" "${how[@]}" -n 2
    apart "$STRUT" classify "$MODEL" "${how[@]}"
    check "v['resumed'] == 2 and v['images'] == 3 and [r['seed'] for r in rows] == ['0', '1', '2'] * 3"
    check "len({r['loss'] for r in v['runs']}) == 3 and v['loss_std'] > 0"
    check "all(abs(v['runs'][k]['loss'] - sum(float(r['loss']) for r in rows[k::3]) / 3) < 1e-6
        for k in range(3))"
    apart "$STRUT" classify "$MODEL" --imagenet "$BATS_TEST_TMPDIR/d" --attention performer:seed=2 --json
    check "abs(v['loss'] - sum(float(r['loss']) for r in rows[2::3]) / 3) < 1e-5"
    apart "$STRUT" classify "$MODEL" --imagenet $fixtures --seeds 3
    [ "$code" = 1 ]
    [[ $err == *"nothing random"* ]]
    sed 's/transformer/performer/' "$BATS_FILE_TMPDIR/config.json" >"$BATS_TEST_TMPDIR/config.json"
    "$STRUT" init "$BATS_TEST_TMPDIR/config.json" "$BATS_TEST_TMPDIR/p"
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/p" $fixtures/grey.jpg --attention local
    [ "$code" = 1 ]
    [[ $err == *"attend by random features of their"* ]]
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/p" $fixtures/grey.jpg --json
    own=$(get images.0.logits.0)
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/p" $fixtures/grey.jpg --json --attention full
    [ "$(get images.0.logits.0)" = "$own" ]
}

@test "classify: what makes no sense is refused" {
    apart "$STRUT" classify "$MODEL"
    [[ $err == *"no picture given"* ]]
    apart "$STRUT" classify "$MODEL" x.jpg --csv y.csv
    [[ $err == *"--csv needs --imagenet"* ]]
    apart "$STRUT" classify "$MODEL" x.jpg --mean 1,2
    [[ $err == *"mean '1,2'"* ]]
    apart "$STRUT" classify "$MODEL" x.jpg --image-size 224
    [[ $err == *"64 pixels"*"--image-size 224"* ]]
    "$STRUT" convert "$MODEL" "$BATS_TEST_TMPDIR/m.pth" --to pt
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/m.pth" $fixtures/grey.jpg
    [ "$code" = 0 ]
    apart "$STRUT" classify "$BATS_TEST_TMPDIR/m.pth" $fixtures/grey.jpg --dict state_dic
    [ "$code" = 1 ]
    [[ $err == *state_dic* ]]
    apart "$STRUT" classify "$MODEL" "$BATS_FILE_TMPDIR/model"
    [ "$code" = 1 ]
    [[ $err == *"no pictures in it"* ]]
    "$STRUT" classify "$MODEL" $fixtures/grey.jpg --mean 0.5 --std 0.5 --crop-pct 1 --interp bilinear
}

@test "classify: Ctrl-C prints what was classified until then" {
    python3 - "$STRUT" "$MODEL" $fixtures/rgb-444.jpg <<'PY'
import json, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
MANY = 5000
for wait in (0.5, 1, 2, 4, 8, 16):  # until some are, even on a slow machine
    p = subprocess.Popen([sys.argv[1], "classify", sys.argv[2], *[sys.argv[3]] * MANY, "-b", "16", "-k", "2",
                          "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        p.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=100)
    if p.returncode == -signal.SIGINT:  # it was not yet listening
        continue
    assert p.returncode == 130, (p.returncode, err)
    if out:
        break
v = json.loads(out)
n = v["classified"]
assert 0 < n < MANY and len(v["images"]) == n and all(len(r["top"]) == 2 for r in v["images"]), n
assert f"after {n} images: interrupted" in err, err
PY
    apart "$STRUT" classify "$MODEL" --imagenet "$DATA" --top 3
    [ "$code" = 1 ]
    [[ $err == *"--top is for pictures"* ]]
}
