"""The wheel works in an environment of its own, outside the checkout."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from amuro_jax import __version__


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """The wheel, built from a copy of what git would hand on."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("amuro_jax", "configs"):
        shutil.copytree(root / name, source / name, ignore=hidden)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, f"--wheel-dir={out}", source], check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_it_holds_everything_that_is_read_at_run_time(root, wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    kinds = (".py", ".html", ".css", ".js", ".j2", ".json", ".yaml")
    files = [path for path in root.glob("amuro_jax/**/*") if path.suffix in kinds]
    assert {path.relative_to(root).as_posix() for path in files} <= inside
    configs = {f"amuro_jax/{path.relative_to(root)}" for path in root.glob("configs/**/*.py")}
    assert configs <= inside and len(configs) > 8
    assert not any(name.startswith(("tests/", "configs/", "benchmarks/")) for name in inside)
    assert wheel.name.startswith(f"amuro_jax-{__version__}-")


@pytest.mark.slow
def test_it_runs_outside_the_checkout(wheel, tmp_path):
    """Dependencies are those of the environment of the tests: nothing is downloaded."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin/python"
    inside = next(home.glob("lib/python*/site-packages"))
    # A line in a .pth file adds the folder, but not the .pth files in it: not the checkout.
    (inside / "shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-index", wheel], check=True, capture_output=True)

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def amuro(*arguments):
        command = [home / "bin/amuro", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = [python, "-c", "import amuro_jax; print(amuro_jax.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert Path(found.stdout).is_relative_to(home)
    assert "study/lab.py" in amuro("configs") and amuro("--version").strip() == __version__
    made = f"--config.out={tmp_path}/lab"
    amuro("lab", "--config=lab/tiny.py", made, "--config.steps=2", "--config.save_every=1")
    listed = amuro(
        "study",
        "--config=study/tiny.py",
        f"--config.suite={tmp_path}/lab/checkpoints",
        f"--config.data_root={tmp_path}/lab/data",
        f"--config.workdir={tmp_path}/study",
        "--dry_run",
    )
    assert "lab_nli" in listed
