"""Huge pages: asked for once, where the kernel gives them, by verbs that compute."""

import os
import subprocess
import sys

import pytest

from amuro_jax import huge_pages
from amuro_jax.cli import main

MADVISE, HUGE = "always [madvise] never\n", "glibc.malloc.hugetlb=1"

glibc = pytest.mark.skipif(not huge_pages._is_glibc(), reason="another C library")


@pytest.fixture
def setting(tmp_path):
    path = tmp_path / "enabled"
    path.write_text(MADVISE)
    return path


@glibc
def test_added_to_what_is_set(setting):
    made = huge_pages.with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, setting)
    assert made == {"GLIBC_TUNABLES": f"glibc.malloc.check=1:{HUGE}"}
    assert huge_pages.with_huge_pages({"A": "b"}, setting) == {"A": "b", "GLIBC_TUNABLES": HUGE}


def test_nothing_where_it_is_decided(setting):
    assert huge_pages.with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, setting) is None


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]", None])
def test_nothing_where_asking_does_nothing(setting, text):
    setting.unlink() if text is None else setting.write_text(text)
    assert huge_pages.with_huge_pages({}, setting) is None


@glibc
def test_the_same_command_once_more(setting):
    program = (
        "import os, pathlib, sys\n"
        "from amuro_jax import huge_pages\n"
        "print('begins', flush=True)\n"
        f"huge_pages.start_again(pathlib.Path({str(setting)!r}))\n"
        "print(os.environ['GLIBC_TUNABLES'], *sys.argv[1:], sys.prefix, os.getppid())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", program, "a b", "--c"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    last = f"{HUGE} a b --c {sys.prefix} {os.getpid()}"  # the same environment, the same process
    assert done.stdout.splitlines() == ["begins", "begins", last]


@pytest.mark.parametrize(("verb", "asks"), [("train", True), ("study", True), ("status", False)])
def test_verbs_that_compute_ask(monkeypatch, capsys, verb, asks):
    asked = []
    monkeypatch.setattr(huge_pages, "start_again", lambda: asked.append(verb))
    monkeypatch.setattr(main, "_run", lambda argv: None)
    monkeypatch.setattr(sys, "argv", ["amuro", verb, "--help"])
    main.run()
    assert bool(asked) == asks
    asked.clear()
    main.run(["amuro", verb])  # from another program: it is not ours to start again
    assert not asked
