"""Analyses of a user's own: by decorator, and by an installed package's entry point."""

import subprocess
import sys

import pandas as pd
import pytest

from amuro_jax.analyses import analysis as records
from amuro_jax.analyses.analysis import Analysis, Sentence, Tables, analysis
from amuro_jax.analyses.registry import ANALYSES, all_analyses, tables_of
from amuro_jax.errors import AmuroError
from amuro_jax.report import report
from tests.analyses.hand import cell, made
from tests.study import synthetic

PACKAGE = """
import pandas as pd
from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence


def best(results, tables):
    scores = tables["scores"]
    return scores.loc[scores.groupby("task")["base"].idxmax(), ["task", "checkpoint", "base"]]


def draw(results, tables):
    line = figures.track(results)
    points = tables["scores"][tables["scores"]["task"] == "lab_nli"]
    drawn = figures.series(line, points, figures.BASE, "base", "base_low", "base_high")
    panel = figures.LinePanel("mine", line.axis, figures.Axis("accuracy"), (drawn,))
    return figures.FigureSpec(figures.one_range([panel]))


def say(results, tables):
    yield Sentence(f"The best base model of lab_nli has {tables['best_base'].iloc[0]['base']:.3f}.")


BEST = Analysis(
    "best_base", "Best base models", best, {"task": "set"}, "A question of my own", draw,
    "What I think of it.", say, shown=lambda table: table.round(3).astype(str),
)
"""


@pytest.fixture
def nothing_registered(monkeypatch):
    monkeypatch.setattr(records, "_registered", {})


def test_names_are_unique_and_every_column_is_in_the_dictionary(tmp_path):
    assert len({one.name for one in ANALYSES}) == len(ANALYSES)
    cells = []
    for name in ("s1", "s2"):
        for format in ("default", "io"):
            cells.append(cell(name, "", "lab_nli", 0.6, format=format))
            cells.append(cell(name, "lab_nli", "lab_nli", 0.7, format=format))
    tables = tables_of(made(cells))
    free = {f"{name}{end}" for name in ("default", "io") for end in ("", " low", " high")}
    for name, one in tables.analyses.items():
        if name in ("cells", "missing_cells"):
            continue  # hand-written cells have fewer columns than stored ones
        assert set(tables[name].columns) - free <= set(one.columns), name


def test_an_installed_package_adds_an_analysis_to_the_report(tmp_path):
    """A real package, installed by pip, in a process of its own."""
    source, site, folder = tmp_path / "source", tmp_path / "site", tmp_path / "study"
    source.mkdir()
    (source / "best_base.py").write_text(PACKAGE)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "best-base"\nversion = "1"\n'
        '[project.entry-points."amuro_jax.analyses"]\nbest = "best_base:BEST"\n'
        '[tool.setuptools]\npy-modules = ["best_base"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--target", str(site), str(source)]
    subprocess.run(pip, check=True, capture_output=True)
    synthetic.make_store(folder, rows=20, steps=(16, 1600), formats=("default",))
    script = "import sys; sys.path.insert(0, sys.argv[1]); from amuro_jax.report import report; "
    script += "report.write_report(sys.argv[2])"
    subprocess.run([sys.executable, "-c", script, str(site), str(folder)], check=True)
    text = (folder / "report/index.html").read_text()
    for said in (
        "A question of my own",
        "Best base models",
        "What I think of it.",
        "<h4>mine</h4>",
    ):
        assert said in text, said
    assert "The best base model of lab_nli has 0." in text and 'id="best_base"' in text
    assert list(pd.read_csv(folder / "report/tables/best_base.csv")) == [
        "task",
        "checkpoint",
        "base",
    ]
    assert (folder / "report/figures/best_base.svg").exists()


def test_a_decorated_function_is_an_analysis(nothing_registered):
    @analysis(
        "counted", "Number of scores", sentences=lambda results, tables: [Sentence("Counted.")]
    )
    def counted(results, tables):
        return pd.DataFrame({"scores": [len(tables["scores"])]})

    assert isinstance(counted, Analysis) and all_analyses()[-1] is counted
    tables = tables_of(made([cell("s1", "", "lab_nli", 0.5)]))
    assert tables["counted"]["scores"].item() == 1
    assert "counted" in set(report.dictionary(tables)["table"])


def test_an_analysis_of_the_same_name_replaces_the_studys(nothing_registered):
    analysis("learned", "Mine")(lambda results, tables: pd.DataFrame({"mine": [1]}))
    assert [one.title for one in all_analyses() if one.name == "learned"] == ["Mine"]
    assert len(all_analyses()) == len(ANALYSES)


def test_analyses_that_need_each_other_are_an_error_that_names_them():
    one = Analysis("one", "", lambda results, tables: tables["two"])
    two = Analysis("two", "", lambda results, tables: tables["one"])
    tables = Tables(made([cell("s1", "", "lab_nli", 0.5)]), [one, two])
    with pytest.raises(AmuroError, match="one → two → one"):
        tables["one"]
    with pytest.raises(AmuroError, match="no analysis 'three'"):
        tables["three"]


@pytest.mark.parametrize("value,said", [("os:sep", "is a str"), ("os:nothing", "cannot be loaded")])
def test_a_wrong_entry_point_is_named(tmp_path, monkeypatch, value, said):
    info = tmp_path / "wrong-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[amuro_jax.analyses]\nwrong = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AmuroError, match=said) as caught:
        all_analyses()
    assert value in str(caught.value)
