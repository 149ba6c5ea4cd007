"""Applies JSON patches with PyPI's jsonpatch. Standard input and output as those of apply.mjs."""

import json
import sys

import jsonpatch

counts = {}
for line in sys.stdin:
    case = json.loads(line)
    if case["kind"] != "json-patch":
        continue
    made = jsonpatch.apply_patch(json.loads(case["base"]), json.loads(case["patch"]))
    if made != json.loads(case["target"]):
        sys.exit(f"{case['patch']}\nmakes of {case['base']}\n{json.dumps(made)}\ninstead of {case['target']}")
    counts["json-patch"] = counts.get("json-patch", 0) + 1
print(json.dumps(counts))
