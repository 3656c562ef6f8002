"""The verbs as a user runs them: convert, verify, export, revisions, and what they print when
something is wrong.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def amuro(root, tmp_path):
    def run(*arguments):
        environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "AMURO_CACHE": str(tmp_path / "cache"),
        }
        return subprocess.run(
            [sys.executable, "-m", "amuro_jax", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
        )

    return run


def test_convert_verify_export(amuro, olmo_hf, tmp_path):
    convert = amuro("convert", f"--checkpoint={olmo_hf}")
    assert convert.returncode == 0, convert.stderr
    folder = convert.stdout.splitlines()[-1]
    assert "olmo: " in convert.stdout and folder.startswith(str(tmp_path / "cache"))
    export = amuro(
        "export", f"--checkpoint={folder}", f"--out={tmp_path / 'hf'}", "--shard_gb=0.00005"
    )
    assert (
        export.returncode == 0 and (tmp_path / "hf" / "model.safetensors.index.json").is_file()
    ), export.stderr
    verify = amuro("verify", f"--checkpoint={folder}", f"--reference={tmp_path / 'hf'}")
    assert verify.returncode == 0 and "FAILED" not in verify.stdout and "logits" in verify.stdout, (
        verify.stdout + verify.stderr
    )


def test_a_bad_checkpoint_is_one_screen_and_status_two(amuro, olmo_hf, tmp_path):
    folder = shutil.copytree(olmo_hf, tmp_path / "hf")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "intermediate_size": 64}))
    run = amuro("convert", f"--checkpoint={folder}", f"--out={tmp_path / 'out'}")
    assert (
        run.returncode == 2 and "Traceback" not in run.stderr and len(run.stderr.splitlines()) < 20
    )
    assert (
        "stored (32, 48), the model wants (32, 64)" in run.stderr
        and not (tmp_path / "out").exists()
    )


def test_revisions_takes_its_suite_as_a_word(amuro):
    run = amuro("revisions", "EleutherAI/pythia-160m", "--offline", "--select=log:3", "--names")
    assert run.stdout.split() == [
        f"EleutherAI/pythia-160m@step{step}" for step in (1, 512, 143000)
    ], run.stderr
