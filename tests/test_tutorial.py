"""Every block of the tutorial and of the playbooks runs as it is written, a folder per page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK

ROOT = Path(__file__).resolve().parents[1]
PLAYBOOKS = sorted((ROOT / "docs" / "playbooks").glob("*.md"))


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the shell and Python blocks of a page."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in fences if language in ("bash", "python")]


def run(page: Path, folder: Path) -> str:
    """Runs a page's blocks; what they print.

    `amuro` and `python` are those of this interpreter and checkout, on one device, as a reader has.
    """
    shims = folder.parent / "bin"
    shims.mkdir()
    for name, words in (("amuro", "-m amuro_jax"), ("python", "")):
        (shims / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (shims / name).chmod(0o755)
    path = f"{shims}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "AMURO_CACHE": "cache"}
    environment["XLA_FLAGS"] = " ".join(QUICK)
    printed = []
    for language, text in blocks(page):
        command = ["bash", "-euo", "pipefail", "-c", text]
        if language == "python":
            command = [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        printed.append(done.stdout)
    return "\n".join(printed)


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.mark.slow  # eleven commands, most of them with a program to compile
def test_the_tutorial_runs_as_it_is_written(folder):
    printed = run(ROOT / "docs" / "tutorial.md", folder)
    assert "step100-tokens100K" in printed and "→ ' good'" in printed
    assert "3 checkpoints × 3 models" in printed
    assert sorted(path.name for path in (folder / "moved/tasks").iterdir()) == [
        "dish.yaml",
        "mood.yaml",
    ]
    scores = (folder / "moved/report/tables/cells.csv").read_text()
    assert "mood" in scores and "dish" in scores and "cross_task" in scores
    assert (folder / "hf/model.safetensors").is_file() and (folder / "scores.png").is_file()


@pytest.mark.parametrize("page", PLAYBOOKS, ids=lambda page: page.stem)
def test_a_playbook_runs_as_it_is_written(page, folder):
    run(page, folder)
