#!/bin/sh
# The table of rooms: each row a room of src/ and the rooms it may use, of which all stand in rows
# above. Fails if a row names a room below it, if a file includes a door that its room's row does not
# name or an inner header of another room, and if headers include each other in a circle.
cd "$(dirname "$0")/.." || exit 2
rooms='
base
tensor:   base
linalg:   base tensor
backend:  base tensor
map:      base tensor linalg backend
model:    base tensor backend map
files:    base
text:     base files
weights:  base tensor files text
image:    base files
config:   base tensor files
hub:      base files
store:    base tensor linalg backend map model files text weights config hub
data:     base files text hub
fit:      base tensor linalg backend map model files text weights store
convert:  base tensor map model files text weights store fit
eval:     base tensor backend map model files text weights hub store data
vision:   base tensor backend map model files image hub store data
train:    base tensor backend map model files text weights config store data fit
bench:    base tensor backend map model files config store
chart:    base files
report:   base tensor map model files text weights config store chart
demo:     base tensor backend map model files text config store data fit eval train bench report
api:      base tensor backend map model text store fit eval
cmd:      base tensor backend files config hub store data fit convert eval vision train bench report demo
'
bad=0
say() { echo "$*" && bad=1; }
above=" "
while IFS=: read -r room uses; do
    [ -n "$room" ] || continue
    for other in $uses; do
        case "$above" in *" $other "*) ;; *) say "table: $room may not use $other, which stands below it" ;; esac
    done
    above="$above$room "
done <<EOF
$rooms
EOF
for room in src/*/; do
    room=$(basename "$room")
    case "$above" in *" $room "*) ;; *) say "src/$room: no row in the table of $0" ;; esac
    ok=" $(echo "$rooms" | sed -n "s/^$room: *//p") "
    for line in $(grep -rnoE '#include "[a-z0-9_]+/[a-z0-9_/]+\.[a-z]+"' "src/$room" | tr -d ' '); do
        target=${line#*\"} target=${target%\"} other=${target%%/*}
        [ "$other" = "$room" ] && continue
        case "$ok" in *" $other "*) [ "$target" = "$other/$other.h" ] && continue ;; esac
        say "${line%%:*}: room '$room' may not include \"$target\" (its doors:$ok)"
    done
done
circles=$(grep -roE '#include "[a-z0-9_/]+\.h"' src --include='*.h' |
    sed 's/^src\///; s/:#include "/ /; s/"$//' | tsort 2>&1 >/dev/null | sed 's/^tsort: -: //; s/^tsort: //')
[ -z "$circles" ] || say "headers that include each other: $circles"
exit $bad
