"""A study's results from Python."""

import subprocess
import sys

import pytest

from amuro_jax import load_results
from amuro_jax.errors import AmuroError
from amuro_jax.interchange.columns import import_csv
from amuro_jax.report.plots import plt
from tests.study import synthetic


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    synthetic.make_store(folder, rows=20, steps=(16, 1600), formats=("default",))
    return load_results(folder, 100)


def test_tables_and_their_columns_by_name(study):
    table = study.analysis("gain_by_group")
    assert list(table["checkpoint"].unique()) == ["step16", "step1600"]
    assert set(table.columns) <= set(study.columns("gain_by_group"))
    with pytest.raises(AmuroError, match="no analysis 'gain_by_grp'") as caught:
        study.columns("gain_by_grp")
    assert "gain_by_group" in str(caught.value)


def test_findings_name_their_analysis(study):
    found = list(study.findings())
    assert {"learned", "gain_by_group"} <= {name for name, _ in found}


def test_a_plot_is_a_matplotlib_figure_of_the_spec(study):
    drawing = study.plot("scores")
    try:
        assert [axis.get_title(loc="left") for axis in drawing.axes[:4]] == [
            panel.title for panel in study.figure("scores").panels
        ]
    finally:
        plt.close(drawing)
    with pytest.raises(AmuroError, match="nothing to draw"):
        study.plot("format_sensitivity")


def test_a_condition_holds_for_every_series_and_for_curves_too(tmp_path):
    lines = [
        f"m{model},{step},{task},acc,{0.3 + 0.001 * step * model},0.02"
        for model in (1, 2)
        for task in ("one", "two")
        for step in range(1, 10)
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["suite,step,task,metric,value,stderr", *lines]))
    import_csv(table, tmp_path / "work")
    study = load_results(tmp_path / "work", 100)
    assert {panel.title for panel in study.figure("change_points").panels} == {"one", "two"}
    figure = study.figure("change_points", where="task == 'two'")
    assert {panel.title for panel in figure.panels} == {"two"}
    assert {line.label.removesuffix(", fit") for line in figure.panels[0].series} == {"m1", "m2"}
    figure = study.figure("change_points", where="task == 'two' and suite == 'm1'")
    assert {line.label.removesuffix(", fit") for line in figure.panels[0].series} == {"m1"}


def test_results_are_read_without_jax():
    script = "import sys; from amuro_jax import load_results; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
