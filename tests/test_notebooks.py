"""The example notebooks run from their first cell to their last."""

import json

import matplotlib
import pytest

from tests.analyses import published
from tests.study import synthetic

# Slow: each makes many of the analyses' tables, with 3,000 draws.
pytestmark = pytest.mark.slow


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Runs the cells of a notebook of docs/notebooks in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")

    def run(name):
        notebook = json.loads((root / "docs/notebooks" / f"{name}.ipynb").read_text())
        assert notebook["nbformat"] == 4
        names: dict = {}
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"], "the notebook in docs/ shows what its cells give"
                exec(compile("".join(cell["source"]), f"{name}.ipynb", "exec"), names)
        return names

    return run


def test_the_laboratory(run, tmp_path):
    synthetic.make_store(tmp_path / "work" / "study", rows=40)
    names = run("lab")
    groups = names["learned"].set_index("task")["group"]
    assert groups["lab_attributes"] == "learned in pre-training"
    assert groups["lab_nli"] == "learned in fine-tuning" and len(names["rows"]) == 40


def test_the_published_tables_and_pythia(run, shared, monkeypatch):
    published.tables(shared)  # skips where they are missing
    monkeypatch.setenv("AMURO_REAL_DATA", str(shared))
    names = run("published_and_pythia")
    assert set(names["base"]["task"]) >= {"qqp", "stsb", "paws", "mnli_matched"}
    falls = names["clear"][["suite", "task"]].itertuples(index=False, name=None)
    assert {("pythia-70m", "lambada_openai"), ("pythia-160m", "lambada_openai")} <= set(falls)
