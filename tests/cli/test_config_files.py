"""Configuration files are found by path first, then among the package's own."""

import os
import subprocess
import sys

import pytest

from amuro_jax.cli import config_files


@pytest.mark.parametrize("name", ["study/lab.py", "configs/study/lab.py"])
def test_a_file_of_the_package_is_found_from_anywhere(name, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files.find(name) == root / "configs/study/lab.py"
    assert config_files.find("study/none.py") is None
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert config_files.find(name).resolve() == own


def test_every_file_is_described():
    described = config_files.descriptions()
    assert {"lab/default.py", "study/lab.py", "train/olmo1b.py"} <= set(described)
    assert all(len(text) > 20 and "\n" not in text for text in described.values())


def amuro(root, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "amuro_jax", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)


def test_the_verb_lists_and_prints(root, tmp_path):
    listed = amuro(root, "configs", cwd=tmp_path).stdout
    assert all(name in listed for name in config_files.descriptions())
    assert max(map(len, listed.splitlines())) <= 100
    shown = amuro(root, "configs", "study/tiny.py", cwd=tmp_path).stdout
    assert shown == (root / "configs/study/tiny.py").read_text()
    wrong = amuro(root, "configs", "study/tinny.py", cwd=tmp_path)
    assert wrong.returncode == 2 and "study/tiny.py" in wrong.stderr
