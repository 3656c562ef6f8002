"""What `make test` installs and which skips it allows: extras that every pip finds, and a run that
fails when a package is missing.
"""

import ast
import re
import shutil
import subprocess
import sys

import pytest

import amuro_jax

SKIPS = """
import pytest

import amuro_jax

def test_done():
    pass

def test_without_data():
    pytest.skip("no real data at /nowhere")
"""


@pytest.fixture(scope="module")
def extras(root):
    """`EXTRAS` of setup.py."""
    for node in ast.parse((root / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "EXTRAS":
            return ast.literal_eval(node.value)


def test_extras_have_names_that_every_pip_finds(extras):
    # The normal form of the packaging standard; pip 23 compares the name as it is written.
    assert [name for name in extras if re.sub(r"[-_.]+", "-", name).lower() != name] == []


def test_extras_that_are_asked_for_exist(root, extras):
    files = [root / "Makefile", root / "README.md", *root.glob("docs/**/*.md")]
    files += [*root.glob("launch/**/*.*"), *root.glob("amuro_jax/**/*.py")]
    asked = {
        name
        for path in files
        for group in re.findall(r"(?:-e ['\"]?\.|amuro_jax)\[([\w,.-]+)\]", path.read_text())
        for name in group.split(",")
    }
    assert {"cpu", "test", "lm-eval"} <= asked and asked <= set(extras)


def test_what_the_tests_import_is_installed_by_make_test(root, extras):
    installed = " ".join([*extras["test"], *extras["lm-eval"], (root / "Makefile").read_text()])
    for package in ("torch", "accelerate", "lm_eval", "ai2-olmo", "libtpu"):
        assert package in installed
    assert "--strict-skips" in (root / "Makefile").read_text()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("missing", [False, True])
def test_a_skip_for_a_missing_package_fails_the_run(root, tmp_path, workers, missing):
    shutil.copy(root / "tests/conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text(SKIPS)
    if missing:
        line = "import pytest\npytest.importorskip('no_such_package')\ndef test_never(): pass\n"
        (tmp_path / "test_two.py").write_text(line)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        str(workers),
        "-c",
        root / "pyproject.toml",
    ]
    options = ["--rootdir", tmp_path, "--strict-skips", tmp_path]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == int(missing), done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert re.match(f"1 passed, {1 + missing} skipped in", last)
    named = [line for line in done.stdout.splitlines() if line.startswith("SKIP NOT ALLOWED")]
    assert len(named) == missing
    if missing:
        assert "test_two.py:2" in named[0] and "no_such_package" in named[0]


def test_the_version_has_one_source(root):
    cited = re.search(r"^version: (\S+)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited[1] == amuro_jax.__version__
    assert f"\n## {amuro_jax.__version__}\n" in (root / "CHANGELOG.md").read_text()
