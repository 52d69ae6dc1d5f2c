#!/bin/sh
# Fails if a room of src/ includes a door that its row does not allow, or another room's inner header.
cd "$(dirname "$0")/.." || exit 2
allowed() {
    case $1 in
    base) echo base ;;
    tensor | io | linalg | backend) echo "$1 base tensor" ;;
    map) echo "map base tensor linalg backend" ;;
    model) echo "model base tensor backend map" ;;
    job) echo "job base tensor io linalg backend map model" ;;
    cmd) echo "cmd base job" ;;
    esac
}
bad=0
for room in src/*/; do
    room=$(basename "$room")
    ok=" $(allowed "$room") "
    for line in $(grep -rnoE '#include "[a-z0-9_]+/[a-z0-9_/]+\.[a-z]+"' "src/$room" | tr -d ' '); do
        target=${line#*\"} target=${target%\"} other=${target%%/*}
        [ "$other" = "$room" ] && continue
        case "$ok" in *" $other "*) [ "$target" = "$other/$other.h" ] && continue ;; esac
        echo "${line%%:*}: room '$room' may not include \"$target\" (allowed doors:$ok)" && bad=1
    done
done
exit $bad
