#!/usr/bin/env python3
"""Makes src/vision/imagenet_classes.txt: the 1000 classes of ImageNet (ILSVRC 2012) in the order of
their numbers, which is that of their WordNet ids: "n01440764 tench, Tinca tinca".

    apt install wordnet-base                       # WordNet 3.0
    tools/imagenet_classes.py /path/to/ILSVRC/val  # any folder with the 1000 class folders
    tools/imagenet_classes.py --check              # is the file what WordNet says?

The ids are those of the data set's folders, the names WordNet's words of these synsets. WordNet's
licence wants to go with them: it stands at the head of the file, in lines that begin with "#".
"""
# SPDX-License-Identifier: MIT
import os
import sys

OUT = "src/vision/imagenet_classes.txt"
WORDNET = os.environ.get("WORDNET", "/usr/share/wordnet") + "/data.noun"


def wordnet():
    """The licence, as comments, and {"n01440764": "tench, Tinca tinca"} of every noun."""
    licence, names = "# Names of synsets in WordNet 3.0, which is licensed as follows.\n#\n", {}
    with open(WORDNET, encoding="utf-8") as f:
        for line in f:
            if line.startswith("  "):
                licence += ("# " + line.split(None, 1)[1].rstrip()).rstrip() + "\n" if line.split()[1:] else "#\n"
                continue
            at, _, kind, count, *rest = line.split(" ")
            words = rest[: 2 * int(count, 16) : 2]
            names[kind + at] = ", ".join(w.replace("_", " ") for w in words)
    return licence, names


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    check = sys.argv[1] == "--check"
    if check:
        with open(OUT, encoding="utf-8") as f:
            ids = [line.split(" ")[0] for line in f if line[0] != "#"]
    else:
        ids = sorted(n for n in os.listdir(sys.argv[1]) if n[0] == "n" and n[1:].isdigit())
    if len(set(ids)) != 1000 or ids != sorted(ids):
        sys.exit(f"{len(set(ids))} class ids, expected 1000 in order")
    licence, names = wordnet()
    text = licence + "".join(f"{i} {names[i]}\n" for i in ids)
    if not check:
        with open(OUT, "w", encoding="utf-8") as f:
            f.write(text)
    elif open(OUT, encoding="utf-8").read() != text:
        sys.exit(f"{OUT} differs from what {WORDNET} says")


main()
