"""`amuro tasks` and `amuro audit` as a user runs them."""

import json
import os
import subprocess
import sys

import pytest

from .worlds import make_tokenizer, nli_rows, write_rows


@pytest.fixture
def amuro(root, tmp_path):
    def run(*flags):
        command = [sys.executable, "-m", "amuro_jax", *map(str, flags)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            timeout=120,
        )

    write_rows(tmp_path, "glue_mnli", "train", nli_rows(60))
    write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(40, "tree"))
    make_tokenizer().save(tmp_path / "tokenizer")
    return run


def test_the_table(amuro, tmp_path):
    out = amuro("tasks", f"--data_root={tmp_path}").stdout
    assert "mnli_matched" in out and "[validation_mismatched]" in out and "LLMBar" in out
    assert next(line for line in out.splitlines() if line.startswith("qqp ")).count("shots: paws")


def test_rows_with_token_boundaries_and_the_dump(amuro, tmp_path):
    flags = (
        f"--data_root={tmp_path}",
        "--shots=2",
        f"--dump={tmp_path}/out.jsonl",
        "--show=1",
        f"--tokenizer={tmp_path}/tokenizer",
    )
    done = amuro("tasks", "mnli_matched", *flags)
    assert (
        done.returncode == 0 and "│" in done.stdout and "⏎" in done.stdout and "→ ' " in done.stdout
    ), done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 40 * 3 * 2 and set(lines[0]) == {
        "task",
        "doc_id",
        "idx",
        "context",
        "continuation",
        "label",
    }


def test_findings_and_exit_status(amuro, tmp_path):
    clean = amuro("audit", "--task=mnli_matched", f"--data_root={tmp_path}")
    assert clean.returncode == 0 and "0 errors" in clean.stdout, clean.stderr
    bad = amuro(
        "audit", "--task=mnli_matched", f"--data_root={tmp_path}", "--quirks=+shots_from_test"
    )
    assert bad.returncode == 1 and "shot_scored" in bad.stdout


def test_all_sets_of_nowhere_are_not_clean(amuro, tmp_path):
    (tmp_path / "empty").mkdir()
    for flags, said in (
        (["--data_root=empty"], "no rows of any set"),
        ([f"--data_root={tmp_path}/empty"], "no rows of any set"),
        ([], "local rows"),
    ):
        done = amuro("audit", "--task=all", *flags)
        assert done.returncode == 2 and said in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["tasks", "nothing"],
        ["tasks", "mnli_matched", "--format=x"],
        ["audit"],
        ["tasks", "paws", "--shot_file=none"],
    ],
)
def test_what_cannot_be_meant(amuro, tmp_path, flags):
    done = amuro(*flags, f"--data_root={tmp_path}")
    assert (
        done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.startswith("amuro ")
    )
