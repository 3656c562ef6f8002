"""One figure at a time: files, styles, axes, conditions."""

import math

import numpy as np
import pytest

from amuro_jax import load_results
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.interchange import columns
from amuro_jax.report import plots, reading
from tests.study import synthetic


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    synthetic.make_store(folder, rows=20, steps=(16, 160, 1600))
    return load_results(folder, 50)


@pytest.mark.parametrize("ending,magic", [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_a_figure_is_a_file_and_always_the_same(study, tmp_path, ending, magic):
    spec = study.figure("gain_by_group")
    contents = []
    for name in ("a", "b"):
        path = tmp_path / name / f"one.{ending}"
        plots.write(spec, path, "paper")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] and contents[0].startswith(magic)


def test_paper_is_small_and_labels_its_series(study):
    web, paper = study.plot("scores"), study.plot("scores", style="paper")
    assert paper.get_figwidth() < 0.7 * web.get_figwidth()
    assert web.legends and not paper.legends
    words = [text.get_text() for text in paper.axes[0].texts]
    assert sorted(words) == ["base", "baseline", "fine-tuned"]
    heights = sorted(text.xy[1] for text in paper.axes[0].texts)
    assert min(np.diff(heights)) > 0.08 * np.ptp(paper.axes[0].get_ylim())
    for drawing in (web, paper):
        plots.plt.close(drawing)


def test_tokens_and_even_axes_have_the_same_values(study):
    steps, tokens, even = (
        study.figure("scores", axis=axis).panels[0] for axis in ("steps", "tokens", "even")
    )
    assert steps.series[0].y == tokens.series[0].y == even.series[0].y
    assert tokens.series[0].x == pytest.approx(
        [math.log10(step * 2048) for step in (16, 160, 1600)]
    )
    assert "tokens" in tokens.x.title and [text for _, text in tokens.x.ticks][0] == "32.8k"
    assert even.series[0].x == (0, 1, 2)
    with pytest.raises(AmuroError, match="no axis 'days'"):
        study.figure("scores", axis="days")


def test_a_model_without_tokens_lies_before_the_others_and_unknown_ones_are_named(tmp_path):
    lines = [f"m,{step},piqa,0.{5 + place}" for place, step in enumerate((0, 10, 1000))]
    (tmp_path / "t.csv").write_text("\n".join(["model,step,task,value", *lines]))
    columns.import_csv(tmp_path / "t.csv", tmp_path / "w", tokens_per_step=10)
    panel = reading.load_results(tmp_path / "w").figure("scores", axis="tokens").panels[0]
    assert panel.series[0].x == (1, 2, 4) and panel.x.low < 1
    columns.import_csv(tmp_path / "t.csv", tmp_path / "v")
    with pytest.raises(AmuroError, match=r"not known of step0\n  where: axis\n"):
        reading.load_results(tmp_path / "v").figure("scores", axis="tokens")


def test_a_condition_chooses_the_scores(study):
    spec = study.figure("scores", where="format == 'io' and task in ('lab_nli', 'lab_summary')")
    assert [panel.title for panel in spec.panels] == ["lab_nli", "lab_summary"]
    (cell,) = [
        line.value
        for line in study.results.cells.itertuples()
        if (line.checkpoint, line.tuned_on, line.task, line.format)
        == ("step160", "", "lab_nli", "io")
    ]
    assert spec.panels[0].series[0].y[1] == cell
    late = study.figure("scores", where="step > 100")
    assert late.panels[0].series[0].names == ("step160", "step1600")


@pytest.mark.parametrize("where,said", [("task == 'none'", "no score fits"), ("tsk == 'a'", "tsk")])
def test_a_condition_that_fits_nothing_is_an_error(study, where, said):
    with pytest.raises((AmuroError, ConfigError), match=said):
        study.figure("scores", where=where)


def test_what_has_no_figure_names_what_has(study):
    with pytest.raises(AmuroError) as caught:
        study.figure("cells")
    assert "scores" in str(caught.value)
    assert study.figures()["scores"] == "Base and fine-tuned over pre-training"
