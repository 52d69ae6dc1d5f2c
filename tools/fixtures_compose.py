#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Composes test/fixtures/compose/tree with hydra-core and writes what comes out, or that it was
refused, to test/fixtures/compose/cases.json.

    python3 tools/fixtures_compose.py        # needs hydra-core and omegaconf
"""

import json
import math
import os
import sys
import warnings

import hydra
import omegaconf
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "test", "fixtures", "compose")

# Primary config, then the words of the command line.
CASES = [
    ["config"],
    ["config", "db=postgres"],
    ["config", "db=both"],
    ["config", "opt=sgd"],
    ["config", "opt=grouped"],
    ["config", "opt=elsewhere"],
    ["config", "experiment=one"],
    ["config", "experiment=two"],
    ["config", "experiment=two.yaml"],
    ["config", "experiment=deep/three"],
    ["config", "experiment=one", "db=mysql"],
    ["config", "experiment=one", "db.port=8"],
    ["config", "db=null"],
    ["config", "~db"],
    ["config", "~db=mysql"],
    ["config", "~db=postgres"],
    ["config", "~nope"],
    ["config", "model=flat"],
    ["config", "model/cfg@model.first=narrow"],
    ["config", "model/cfg@model.second=global"],
    ["config", "model/cfg=narrow"],
    ["config", "server/apache@web=large"],
    ["config", "+server/apache@other=large"],
    ["config", "+server/apache=large"],
    ["config", "+server/apache@_global_=small"],
    ["config", "db=[mysql,postgres]"],
    ["config", "++db=postgres"],
    ["config", "db=oracle"],
    ["config", "nothing=x"],
    ["config", "experiment=bad_order"],
    ["config", "experiment=bad_override"],
    ["config", "experiment=bad_missing"],
    ["config", "experiment=self_twice"],
    ["config", "lr=2"],
    ["config", "lr=2e-3"],
    ["config", "lr=1_0.5"],
    ["config", "lr=.5"],
    ["config", "lr=-.5"],
    ["config", "lr=5."],
    ["config", "lr=1e1_0"],
    ["config", "lr=+7"],
    ["config", "lr=010"],
    ["config", "lr=1__0"],
    ["config", "lr=0x10"],
    ["config", "lr=inf"],
    ["config", "lr=null"],
    ["config", "lr=NULL"],
    ["config", "lr=nullx"],
    ["config", "lr=TrUe"],
    ["config", "lr=yes"],
    ["config", "lr="],
    ["config", "lr=' '"],
    ["config", "lr=a b c"],
    ["config", "lr=  a  "],
    ["config", "lr='a b'"],
    ["config", "lr='1'"],
    ["config", 'lr="it\'s"'],
    ["config", "lr='it\\'s'"],
    ["config", "lr='a\\\\'"],
    ["config", "lr='a\\nb'"],
    ["config", "lr=a\\,b"],
    ["config", "lr=a\\ b"],
    ["config", "lr=\\ a\\ "],
    ["config", "lr=a\\=b"],
    ["config", "lr=a\\[b\\]"],
    ["config", "lr=a\\\\b"],
    ["config", "lr=a\\xb"],
    ["config", "lr=/usr/lib-1.2/*.so?@%|$x"],
    ["config", "lr=http://x.y:80/z"],
    ["config", "lr=a:b"],
    ["config", "lr=[1,2.5,x,null,true,'q, r']"],
    ["config", "lr=[ 1 , 2 ]"],
    ["config", "lr=[]"],
    ["config", "lr=[[1,2],[],{a:[b]}]"],
    ["config", "lr={a:1,b:{c:d e},'e':f}"],
    ["config", "lr={a:1,b:{c:d e}}"],
    ["config", "lr={}"],
    ["config", "lr={a:${steps}}"],
    ["config", "lr=${steps}"],
    ["config", "lr=x${steps}y"],
    ["config", "lr='${steps} times'"],
    ["config", "lr=${nested.a}${nested.a}"],
    ["config", "lr=${oc.env:STRUT_NO_SUCH_VAR,x y}"],
    ["config", "nested.b.c=7"],
    ["config", "nested.b={c:8}"],
    ["config", "nested.b={new:8}"],
    ["config", "+nested.b={new:8}"],
    ["config", "nested.b=5", "sel2=0", "up=0", "ref=0"],
    ["config", "nested.new=1"],
    ["config", "+nested.new=1"],
    ["config", "+nested.x.y.z=1"],
    ["config", "+lr=1"],
    ["config", "++lr=1"],
    ["config", "++fresh.key=[a]"],
    ["config", "+empty=1"],
    ["config", "+list=[4]", "item=0", "item2=0"],
    ["config", "list.0=9"],
    ["config", "list.9=9"],
    ["config", "list=[7,8]"],
    ["config", "list={a:1}"],
    ["config", "nested=[1]"],
    ["config", "~list", "item=0", "item2=0"],
    ["config", "~nested.a", "nested.rel=0", "sel2=0", "dec=0", "inner=0"],
    ["config", "~key=a", "inner=0"],
    ["config", "~key=b"],
    ["config", "~empty"],
    ["config", "~lr=0.001", "nested.up=0"],
    ["config", "db.host=a"],
    ["config", "lr=1", "lr=2"],
    ["config", "db=postgres", "db=mysql"],
    ["config", "lr"],
    ["config", "=1"],
    ["config", "a..b=1"],
    ["config", ".a=1"],
    ["config", "a.=1"],
    ["config", "lr=[1"],
    ["config", "lr=1]"],
    ["config", "lr={a:1"],
    ["config", "lr={a}"],
    ["config", "lr='a"],
    ["config", "lr=a'b"],
    ["config", "lr=a(b)"],
    ["config", "lr=)"],
    ["config", "lr=[a,,b]"],
    ["config", "lr=,"],
    ["config", "lr=a!b"],
    ["config", "lr=a#b"],
    ["config", "lr=a~b"],
    ["config", "lr=a;b"],
    ["config", "lr=a&b"],
    ["config", "a b=1"],
    ["config", "+++lr=1"],
    ["config", "~~lr"],
    ["config", "lr=${"],
    ["config", "lr=${nope}"],
    ["config", "lr=${nested.nope}"],
    ["config", "lr=${lr}"],
    ["config", "nested.a=${nested}"],
    ["config", "lr=${unknown_resolver:1}"],
    ["config", "lr=1,2"],
    ["config", "lr=choice(1,2)"],
    ["config", "lr=range(3)"],
    ["interp"],
    ["interp", "db=mysql"],
    ["interp", "opt=adam"],
    ["lists"],
    ["lists", "db=postgres"],
    ["packages"],
    ["plain"],
    ["plain", "a=2", "b.c='y'"],
    ["plain", "b=z"],
    ["plain", "+db=mysql"],
    ["plain", "db=mysql"],
    ["plain", "a.b=1"],
    ["onlyover"],
    ["onlyover", "db=both"],
    ["loop"],
    ["loop", "c=5"],
    ["badref"],
    ["badref", "+b.c=1"],
    ["absent"],
]


def plain(value):
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def compose_case(case):
    try:
        config = compose(config_name=case[0], overrides=case[1:])
        return {"tree": plain(OmegaConf.to_container(config, resolve=True))}
    except Exception as error:  # every kind of refusal counts
        return {"refused": type(error).__name__}


def main():
    warnings.filterwarnings("ignore")
    OmegaConf.register_new_resolver("div_up", lambda a, b: -(-a // b))
    cases = []
    with initialize_config_dir(os.path.abspath(os.path.join(HERE, "tree")), version_base="1.1"):
        for case in CASES:
            cases.append({"words": case, **compose_case(case)})
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as f:
        f.write('{"hydra": "%s", "omegaconf": "%s", "cases": [\n' %
                (hydra.__version__, omegaconf.__version__))
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        f.write("\n]}\n")
    refused = sum("refused" in c for c in cases)
    print(f"{len(cases)} cases, {refused} refused", file=sys.stderr)


main()
