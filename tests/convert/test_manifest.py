"""The manifest of what comes from elsewhere names every data set and every suite that the commands
can fetch.
"""

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
