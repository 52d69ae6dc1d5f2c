#!/bin/sh
# How large things are: lines of each room of src/ and its share, the 95th percentile and the longest
# of files and of functions. Fails if a room has more than 15 % of the lines, a function more than 60,
# or a file more than 400 without a comment "Long: why" among its first 20 lines. The folder of a
# device (backend/cpu) is counted for itself: devices know nothing of each other.
# `tools/sizes.sh FOLDER` looks at another checkout; -q prints only what is too large.
cd "$(dirname "$0")/.." || exit 2
quiet=0
[ "$1" = -q ] && quiet=1 && shift
cd "${1:-.}" || exit 2
find src test bench -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | LC_ALL=C sort | xargs awk -v quiet=$quiet '
function end_file() {
    if (!file) return
    if (n > 400 && !why) wrong(file ": " n " lines; cut it, or say why at its head (/* Long: ... */)")
    if (part == "src") { rooms[room] += n; total += n }
    files[part, ++nfiles[part]] = n
    if (n > longest[part]) { longest[part] = n; longest_is[part] = file }
}
function wrong(text) { print text; bad = 1 }
# Sorts v[part, 1 .. count] by counting; lengths are small.
function p95(v, part, count,    i, most, seen, want) {
    delete tally
    for (i = 1; i <= count; i++) { tally[v[part, i]]++; if (v[part, i] > most) most = v[part, i] }
    want = count * 0.95
    for (i = 0; i <= most; i++) if ((seen += tally[i]) >= want) return i
}
FNR == 1 {
    end_file()
    file = FILENAME; n = 0; why = 0; start = 0
    depth = split(file, path, "/"); part = path[1]; room = path[2]
    if (room == "backend" && depth > 3) room = room "/" path[3]
}
{ n = FNR }
FNR <= 20 && /Long: [a-z]/ { why = 1 }
# A function: from the line with its name, which begins in the first column, to the brace that does.
/^[A-Za-z_].*\(/ && !/;$/ { start = FNR }
/^[a-z].*=/ { start = 0 }
/^}/ {
    if (start && /^}$/) {
        length_is = FNR - start + 1
        functions[part, ++nfunctions[part]] = length_is
        if (length_is > 60 && part == "src")
            wrong(file ":" start ": a function of " length_is " lines, at most 60")
        if (length_is > most[part]) { most[part] = length_is; most_is[part] = file ":" start }
    }
    start = 0
}
END {
    end_file()
    for (r in rooms) {
        share = 100 * rooms[r] / total
        if (!quiet) printf "%-12s %6d lines  %4.1f %%\n", r, rooms[r], share | "sort -k2nr"
        if (share > 15) wrong("src/" r ": " sprintf("%.1f", share) " % of the lines of src, at most 15")
    }
    close("sort -k2nr")
    for (i = split("src test", parts, " "); i && !quiet; i--) {
        p = parts[i]
        printf "%-4s %4d files, p95 %d lines, longest %d (%s)\n", p, nfiles[p], p95(files, p, nfiles[p]),
            longest[p], longest_is[p]
        printf "%-4s %4d functions, p95 %d lines, longest %d (%s)\n", p, nfunctions[p],
            p95(functions, p, nfunctions[p]), most[p], most_is[p]
    }
    exit bad
}'
