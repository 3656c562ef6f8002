#!/usr/bin/env python3
"""Reduces a published CustomResourceDefinition to what a check of an object of it reads.

    third_party/schemas/reduce.py VERSION < crd.yaml > third_party/schemas/NAME.json.gz

Kept is the openAPIV3Schema of the served version, as JSON without descriptions, defaults, formats
and what only the API server evaluates (x-kubernetes-validations, list types); nothing is added.
`status` is left out: a manifest has none.
"""

import gzip
import json
import sys

import yaml

KEPT = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
DROPPED = ("description", "default", "format")


def reduced(schema):
    """A schema without what is not checked; names of properties are no keywords."""
    if not isinstance(schema, dict):
        return schema
    made = {}
    for keyword, value in schema.items():
        if keyword in DROPPED or (keyword.startswith("x-") and keyword not in KEPT):
            continue
        if keyword == "properties":
            value = {name: reduced(one) for name, one in value.items()}
        elif keyword in ("items", "additionalProperties", "not"):
            value = reduced(value)
        elif keyword in ("anyOf", "allOf", "oneOf"):
            value = [reduced(one) for one in value]
        made[keyword] = value
    return made


def main() -> None:
    """Writes the schema of the version that is named."""
    definition = yaml.safe_load(sys.stdin)
    versions = {one["name"]: one for one in definition["spec"]["versions"] if one["served"]}
    if sys.argv[1:] != [one for one in sys.argv[1:2] if one in versions]:
        sys.exit(f"{__doc__}\nserved versions: {', '.join(versions)}")
    schema = reduced(versions[sys.argv[1]]["schema"]["openAPIV3Schema"])
    schema["properties"].pop("status", None)
    text = json.dumps(schema, separators=(",", ":"), sort_keys=True)
    sys.stdout.buffer.write(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
