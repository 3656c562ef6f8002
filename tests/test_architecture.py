"""The imports run one way, and what is foreign stays where it belongs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "amuro_jax"
LEVELS = {
    "errors": 0,
    "chips": 0,
    "spelling": 0,
    "parquet": 0,
    "libtpu": 0,
    "files": 1,
    "claims": 1,
    "config": 1,
    "sharding": 1,
    "storage": 1,
    "sentinel": 0,
    "peers": 1,
    "preemption": 1,
    "processes": 1,
    "watchdog": 1,
    "logs": 1,
    "compiles": 1,
    "curves": 2,
    "devices": 1,
    "records": 2,
    "variants": 1,
    "models": 2,
    "data": 2,
    "array_store": 2,
    "keys": 3,
    "checkpoint": 3,
    "convert": 4,
    "opened": 5,
    "averaged": 5,
    "train": 6,
    "scoring": 6,
    "evals": 7,
    "results": 7,
    "interchange": 8,
    "lab": 8,
    "study": 8,
    "analyses": 8,
    "report": 9,
    "planning": 9,
    "doctor": 9,
    "api": 9,
    "cli": 10,
}
SIBLINGS_APART = [
    ("models", "data"),
    ("data", "models"),
    ("train", "evals"),
    ("train", "scoring"),
    ("scoring", "train"),
    ("evals", "train"),
    ("lab", "study"),
    ("study", "lab"),
]
CONFINED = {
    "orbax": ["checkpoint.py", "train/states.py"],
    "tensorstore": ["array_store.py"],
    "flax.linen": ["models"],
    "ray": ["study/ray_executor.py"],
    "huggingface_hub": ["convert/hub.py", "data/sources.py"],
    "torch": ["convert/verify.py", "evals/lm_eval.py"],
    "transformers": ["convert/verify.py"],
}
NO_JAX = [
    "config",
    "records.py",
    "files.py",
    "storage",
    "claims.py",
    "peers.py",
    "preemption.py",
    "sentinel.py",
    "errors.py",
    "chips.py",
    "curves",
    "doctor/finding.py",
    "analyses",
    "data",
    "evals/metrics.py",
    "evals/audit.py",
    "cli",
]


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def area(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = area(path)
    if here in ("__init__", "__main__"):
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "amuro_jax" or len(parts) < 2 or parts[1] not in LEVELS:
            continue
        assert LEVELS[parts[1]] <= LEVELS[here], f"{here} imports upward: {name}"
        assert (here, parts[1]) not in SIBLINGS_APART, f"{here} imports its sibling {name}"


@pytest.mark.parametrize("package,allowed", CONFINED.items())
def test_foreign_packages_are_confined(package, allowed):
    for path in modules():
        where = str(path.relative_to(PACKAGE))
        if any(where == place or where.startswith(place + "/") for place in allowed):
            continue
        found = [
            name for name in imports(path) if name == package or name.startswith(package + ".")
        ]
        assert not found, f"{where} imports {found[0]}; allowed in {allowed}"


def test_parquet_is_read_without_threads():
    readers = {"read_table", "read_parquet", "ParquetFile", "ParquetDataset"}
    for path in modules():
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        found = [
            call.attr
            for call in calls
            if isinstance(call, ast.Attribute)
            and call.attr in readers
            and isinstance(call.value, ast.Name)
            and call.value.id in ("pq", "pd")
        ]
        where = path.relative_to(PACKAGE)
        assert str(where) == "parquet.py" or not found, f"{where}: parquet.read, not {found[0]}"


@pytest.mark.parametrize("place", NO_JAX)
def test_no_jax_where_none_is_needed(place):
    paths = [PACKAGE / place] if place.endswith(".py") else sorted((PACKAGE / place).rglob("*.py"))
    top = place == "cli"
    for path in paths:
        found = [
            name
            for name in imports(path, top_level_only=top)
            if name.split(".")[0] in ("jax", "flax", "optax", "orbax")
        ]
        assert not found, f"{path.relative_to(PACKAGE)} imports {found}"


def test_every_public_name_has_a_docstring():
    bare = []
    for path in modules():
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" and not ast.get_docstring(tree):
            bare.append(str(path.relative_to(PACKAGE)))
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                bare.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}")
    assert not bare, "\n".join(bare)


def test_package_imports_without_jax_in_under_a_second():
    script = (
        "import time; t = time.perf_counter(); import amuro_jax.cli.main, sys; "
        "print(time.perf_counter() - t); assert 'jax' not in sys.modules"
    )
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert float(out.stdout) < 1.0
