"""The manifest of what comes from elsewhere names every data set and every suite that the commands
can fetch, and every file that is vendored.
"""

import hashlib
import json

from amuro_jax.convert import suites
from amuro_jax.data import registry


def test_manifest_is_complete(root):
    manifest = json.loads((root / "third_party" / "manifest.json").read_text())
    listed = {(entry["source"], entry["config"]) for entry in manifest["data_sets"]}
    used = {
        (task.source.hub, task.source.config) for task in registry.TASKS.values() if task.source.hub
    }
    assert listed == used
    found = {suites.find_suite(entry["source"]) for entry in manifest["models"]}
    assert set(suites.SUITES) <= found
    assert all(entry["licence"] for kind in manifest.values() for entry in kind)


def test_vendored_files_are_those_of_the_manifest(root):
    folder = root / "third_party"
    listed = json.loads((folder / "manifest.json").read_text())["schemas"]
    found = {
        f"schemas/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "schemas").glob("*.gz")
    }
    assert found == {entry["file"]: entry["sha256"] for entry in listed}
