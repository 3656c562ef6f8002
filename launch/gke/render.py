#!/usr/bin/env python3
"""Prints a manifest of this folder with its variables filled in; needs Python alone.

  launch/gke/render.py MANIFEST VERB [--flags…]

Variables come from the environment; VARIABLES has their defaults. A line whose variable is empty is
left out, and so is a key that has nothing below it any more.
"""

import json
import os
import re
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NUMBER, TEXT, OBJECT = "number", "text", "name of an object"
# What Kubernetes takes as one; Kueue's schema has the same pattern for the name of a queue.
NAMED = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
LONGEST = 63  # of a label's value, which the name of a queue becomes
# name → (kind, default; None: has to be set)
VARIABLES = {
    "NAME": (OBJECT, None),
    "IMAGE": (TEXT, None),
    "NAMESPACE": (OBJECT, "default"),
    "QUEUE": (OBJECT, ""),  # Kueue's LocalQueue
    "SERVICE_ACCOUNT": (OBJECT, ""),  # of Workload Identity, for gs://
    "SPOT": (TEXT, ""),  # true: on spot nodes
    "RESTARTS": (NUMBER, "10"),
    "HOSTS": (NUMBER, "1"),  # pods of a slice: its chips / CHIPS
    "CHIPS": (NUMBER, ""),  # TPU chips of a pod
    "TPU_ACCELERATOR": (TEXT, ""),  # tpu-v5-lite-podslice
    "TPU_TOPOLOGY": (TEXT, ""),  # 4x4
    "GPUS": (NUMBER, ""),  # of a pod
    "GPU_ACCELERATOR": (TEXT, ""),  # nvidia-h100-80gb
    "CPUS": (NUMBER, "8"),  # of a Ray worker
    "MEMORY": (TEXT, "64Gi"),
    "SHARDS": (NUMBER, "8"),  # into which a study is cut
    "PARALLEL": (NUMBER, "4"),  # shards, or Ray workers, at a time
}


def render(manifest: str, command: list[str], environ=os.environ) -> str:
    """The manifest's text; SystemExit says which variable is missing or wrong."""
    text = (HERE / f"{manifest}.yaml").read_text()
    values = {name: _value(name, environ) for name in VARIABLES if _uses(text, name)}
    values["ARGS"] = json.dumps(command)
    values["ENTRYPOINT"] = json.dumps(shlex.join(["amuro", *command]))
    values["SHARDS_TEXT"] = json.dumps(values.get("SHARDS", ""))
    values["RAY_VERSION"] = json.dumps(_pinned("ray"))
    if _uses(text, "RAY_CLUSTER_SPEC"):
        cluster = render("ray_cluster", [], environ)
        spec = cluster[cluster.index("\nspec:\n") + len("\nspec:\n") :]
        values["RAY_CLUSTER_SPEC"] = "\n" + re.sub("^", "  ", spec.rstrip(), flags=re.MULTILINE)
    lines = []
    for line in text.splitlines():
        names = re.findall(r"\$(\w+)", line)
        if all(values[name] for name in names):
            lines.append(re.sub(r"\$(\w+)", lambda match: values[match[1]], line).rstrip())
    return "\n".join(_without_empty_keys(lines)) + "\n"


def _uses(text, name):
    return re.search(rf"\${name}\b", text) is not None


def _value(name, environ):
    kind, default = VARIABLES[name]
    value = environ.get(name, default)
    if value is None:
        sys.exit(f"{name} is not set: see launch/env.sh.example")
    if kind == NUMBER and value and not value.isdigit():
        sys.exit(f"{name} is not a number: {value!r}")
    if kind == OBJECT and value and not (re.fullmatch(NAMED, value) and len(value) <= LONGEST):
        sys.exit(
            f"{name} is no name that Kubernetes takes: {value!r}; give at most {LONGEST} lower-case"
            " letters, digits, - and ., with a letter or digit at both ends"
        )
    return json.dumps(value) if kind != NUMBER and value else value


def _pinned(package):
    pins = (HERE.parents[1] / "constraints.txt").read_text()
    return re.search(rf"^{package}==([\w.]+)", pins, re.MULTILINE)[1]


def _without_empty_keys(lines):
    kept = []
    for line in reversed(lines):
        below = next((one for one in reversed(kept) if not one.lstrip().startswith("#")), "")
        if re.fullmatch(r"[\w\s./-]+:", line) and _depth(below) <= _depth(line):
            continue
        kept.append(line)
    return kept[::-1]


def _depth(line):
    return len(line) - len(line.lstrip())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print(render(sys.argv[1], sys.argv[2:]), end="")
