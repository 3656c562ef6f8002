"""The page in a real browser: its script runs, a shared view is restored, nothing is asked of the
network.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from amuro_jax.report import report
from tests.study import synthetic

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no browser on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    synthetic.make_store(folder, rows=20, steps=(16, 1600))
    return Path(report.write_report(folder))


@pytest.fixture
def loaded(page, tmp_path):
    """Loads the page with a fragment; gives its elements after the script ran, and the console."""

    def load(fragment="", path=page):
        arguments = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        arguments += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
        arguments += ["--virtual-time-budget=2000", f"{path.as_uri()}{fragment}"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return load


def shown(text):
    """(set, kind of model) of the score table's lines that can be seen."""
    lines = re.findall(r'<tr class="\w+" data-task="(\w+)" data-model="([\w-]+)"(.*?)>', text)
    return [(task, model) for task, model, rest in lines if "hidden" not in rest]


def test_everything_is_shown_at_first_and_the_console_is_empty(loaded):
    text, console = loaded()
    assert len(shown(text)) == 9 and not console
    assert re.search(r'<form id="view" aria', text)  # the script has run


def test_a_shared_view_is_restored(loaded):
    text, console = loaded("#sets=lab_nli,lab_attributes&models=base")
    assert shown(text) == [("lab_nli", "base"), ("lab_attributes", "base")] and not console
    panels = re.findall(r'<div data-task="(\w+)"(.*?)>', text)
    assert {task for task, rest in panels if "hidden" not in rest} == {"lab_nli", "lab_attributes"}


def test_an_anchor_is_no_view(loaded):
    text, _ = loaded("#learned")
    assert len(shown(text)) == 9


def test_no_other_script_runs(loaded, page, tmp_path):
    """The page's policy allows its own script alone."""
    text = page.read_text().replace("<main", '<script>document.title = "run"</script><main', 1)
    changed = tmp_path / "changed.html"
    changed.write_text(text)
    text, console = loaded("", changed)
    assert "<title>run" not in text and any("Content Security Policy" in line for line in console)
