"""What the page says of flags, duplicates, recipes and figures."""

import json
import pathlib
import re

import numpy as np
import pytest

from amuro_jax.analyses import figures
from amuro_jax.analyses.registry import tables_of
from amuro_jax.config import FineTune
from amuro_jax.evals.audit import Finding
from amuro_jax.report import page, plots, report, svg
from amuro_jax.results import loading, plan
from amuro_jax.storage import Storage
from tests.analyses.hand import cell, made
from tests.study import synthetic

NLI = "lab_nli"


def finding(code="duplicate_rows", what="3 of 60 rows", severity="warning"):
    return Finding(code, severity, what, "", "repeated rows count more than once")


@pytest.fixture
def three():
    """One set at three checkpoints, base and fine-tuned."""
    return made([cell(f"s{place}", name, NLI, 0.5) for place in (1, 2, 3) for name in ("", NLI)])


def test_a_flag_of_every_score_of_a_set_is_given_once(three):
    flags = {key: [finding()] for key in three.cells["key"]}
    base, tuned = page.score_table(three, flags)
    assert base["flag"] == "warning" and "duplicate rows: 3 of 60 rows" in base["title"]
    assert not tuned["flag"]
    assert not any(one["flag"] for line in (base, tuned) for one in line["cells"])
    (line,) = page.flag_table(three, flags)
    assert line["counted"] == "6 scores of lab_nli"
    assert line["examples"] == ["lab_nli (6 scores) – 3 of 60 rows"]


def test_a_flag_of_one_score_is_beside_it(three):
    key = three.cells["key"].iloc[0]
    flags = {name: [finding()] for name in three.cells["key"]}
    flags[key] = [finding(), finding("near_majority", "0.5 against 0.5")]
    base, _ = page.score_table(three, flags)
    assert [one["flag"] for one in base["cells"]] == ["warning", "", ""]
    assert base["cells"][0]["title"] == "near majority: 0.5 against 0.5"
    assert base["cells"][0]["code"] == "near_majority"


STEPS = (16, 160, 1600)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The last two checkpoints serve the same weights, and so the same cells."""
    folder = tmp_path_factory.mktemp("twins")
    given = synthetic.make_store(folder, rows=60, steps=STEPS, same_weights={"step160": "step1600"})
    storage = Storage.open(folder)
    asked = plan.read_plan(storage)
    last = {one.identity[1:]: one.key for one in asked.cells if one.model.step == 1600}
    same = {one.identity: last[one.identity[1:]] for one in asked.cells if one.model.step == 160}
    asked.with_keys(same).write(storage)
    return folder, given


def test_two_checkpoints_with_one_weight_render_and_are_flagged(twins):
    folder, _ = twins
    text = pathlib.Path(report.write_report(folder)).read_text()
    assert "duplicate weights" in text
    assert "step160 and step1600 are one and the same weights" in text
    found = loading.load(folder, 100)
    assert found.duplicate_of == {"step160": "step1600"} and found.distinct == [
        "step16",
        "step1600",
    ]
    flags = page.duplicate_flags(found)
    at = set(found.cells[found.cells["key"].isin(flags)]["checkpoint"])
    assert at == {"step160", "step1600"}
    row = page.score_table(found, flags)[0]
    assert [one["flag"] for one in row["cells"]] == ["", "error", "error"]


def test_duplicates_stay_out_of_turning_points_means_and_learned(twins):
    folder, _ = twins
    found = loading.load(folder, 300)
    tables = tables_of(found)
    points = tables["turning_point"]
    assert set(points["reached"]) <= {"", "step16", "step1600"}
    assert set(points["best"]) <= {"step16", "step1600"}
    assert set(tables["ood_change"]["cells"]) == {2}
    assert set(tables["scores"].set_index("checkpoint").loc["step160", "duplicate_of"]) == {
        "step1600"
    }


def test_a_series_whose_first_checkpoint_serves_the_last_weights(tmp_path):
    """What is learned is then asked of the first checkpoint that is one of its own."""
    synthetic.make_store(tmp_path, rows=60, steps=STEPS, same_weights={"step16": "step1600"})
    found = loading.load(tmp_path, 100)
    line = tables_of(found)["learned"].set_index("task").loc["lab_attributes"]
    values = [found.find(name, "", "lab_attributes")["value"] for name in ("step160", "step1600")]
    assert line["rise"] == pytest.approx(values[1] - values[0])


def test_each_fine_tuning_set_has_the_recipe_of_its_cells(tmp_path):
    synthetic.make_store(
        tmp_path,
        rows=20,
        steps=(16, 1600),
        fine_tunes=(
            FineTune(NLI, rows=700, epochs=5, learning_rate=3e-4),
            FineTune("lab_summary", rows=40),
        ),
    )
    text = pathlib.Path(report.write_report(tmp_path)).read_text()
    about = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert about[f"fine-tuning on {NLI}"].startswith(
        "rows 700, epochs 5, batch_size 8, learning_rate 0.0003"
    )
    assert about["fine-tuning on lab_summary"].startswith("rows 40, epochs 3, batch_size 8")
    assert "fine-tuning" not in about


def test_a_damaged_training_record_does_not_stop_the_report(tmp_path):
    synthetic.make_store(tmp_path, rows=20, steps=(16, 1600))
    for path in (tmp_path / "cells").glob("*/cell.json"):
        if json.loads(path.read_text())["kind"] == "train":
            path.write_text("")
    assert pathlib.Path(report.write_report(tmp_path)).exists()


def luminance(color):
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_colour_has_contrast_on_both_pages():
    for role, colors in figures.PALETTE.items():
        for color, grounds in zip(
            colors, (("#ffffff", "#f5f7fa"), ("#12171d", "#1a2129")), strict=True
        ):
            for ground in grounds:
                high, low = sorted((luminance(color), luminance(ground)), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (role, color, ground)


def spec():
    """A figure of each kind."""
    axis = figures.Axis("step", 0, 2, ((0, "1"), (2, "2")))
    line = figures.Series("base", "base", (0, 2), (0.1, 0.3), (0.0, 0.2), (0.2, 0.4), ("s1", "s2"))
    lines = figures.LinePanel("a < b", axis, figures.Axis("accuracy", 0, 0.5), (line,))
    row = figures.Interval("set", -0.1, -0.2, 0.0, "tuned")
    heat = figures.HeatPanel(
        "m", ("r",), ("c", "d"), ((0.25, np.nan),), ((0.05, np.nan),), 0.3, "on", "tested"
    )
    return figures.FigureSpec(
        (lines, figures.IntervalPanel("i", figures.Axis("change"), (row,)), heat)
    )


def test_the_data_of_a_figure_is_what_it_shows():
    assert page.figure_data(spec()) == [
        ["a < b", "base", "s1", "0.100", "0.000 to 0.200"],
        ["a < b", "base", "s2", "0.300", "0.200 to 0.400"],
        ["i", "set", "", "−0.100", "−0.200 to 0.000"],
        ["m", "r", "c", "0.250", "0.200 to 0.300"],
        ["m", "r", "d", "–", "–"],
    ]


def test_the_data_of_a_curve_over_other_things_is_by_its_place():
    axis = figures.Axis("step", 0, 2)
    line = figures.Series("fit", "base", (0.5, 1500), (0.1, 0.3))
    panel = figures.LinePanel("p", axis, axis, (line,))
    assert page.figure_data(figures.FigureSpec((panel,))) == [
        ["p", "fit", "0.5", "0.100", "–"],
        ["p", "fit", "1.5k", "0.300", "–"],
    ]


def test_svg_draws_the_points_where_the_axes_say():
    lines, intervals, heat = svg.draw(spec())
    assert "a &lt; b" in lines and "<title>base, s1: 0.100 (0.000 to 0.200)</title>" in lines
    wide, high = svg.SMALL
    first = (svg.LEFT, high - svg.BOTTOM - 0.2 * (high - svg.BOTTOM - svg.TOP))
    last = (wide - svg.RIGHT, high - svg.BOTTOM - 0.6 * (high - svg.BOTTOM - svg.TOP))
    assert f'class="line" d="M{first[0]:.1f} {first[1]:.1f}L{last[0]:.1f} {last[1]:.1f}"' in lines
    assert "set: −0.100 (−0.200 to +0.000)" in intervals and "var(--c-tuned)" in intervals
    assert heat.count("<rect") == 1 and "var(--c-more)" in heat and "± 0.05" in heat


def test_matplotlib_draws_the_same_numbers():
    drawing = plots.figure(spec())
    try:
        axis = drawing.axes[0]
        (line,) = axis.get_lines()
        assert list(line.get_xdata()) == [0, 2] and list(line.get_ydata()) == [0.1, 0.3]
        assert line.get_color() == figures.PALETTE["base"][0] and axis.get_ylim() == (0, 0.5)
    finally:
        plots.plt.close(drawing)


@pytest.mark.parametrize("low,high", [(0, 1), (-0.3, 0.07), (0.41, 0.43), (-5, 1e4)])
def test_ticks_are_few_and_inside(low, high):
    found = svg.ticks(low, high)
    assert 2 <= len(found) <= 5 and min(found) >= low and max(found) <= high
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_what_the_auditor_finds_is_a_question(three):
    flags = {key: [finding()] for key in three.cells["key"]}
    questions = page.findings(tables_of(three), page.flag_table(three, flags))
    (artefacts,) = [one for one in questions if one["question"] == page.ARTEFACTS]
    assert artefacts["first"]["text"].startswith("Duplicate rows: 6 scores of lab_nli.")
    assert artefacts["first"]["anchor"] == "flag-duplicate_rows"


def test_a_large_study_shows_parts_and_says_where_the_rest_is(three, monkeypatch):
    cells = [cell(f"s{place}", "", NLI, place / 200) for place in range(100, 200)]
    many = made(cells)
    assert len(page.steps(many)) == page.MOST_CHECKPOINTS
    (line,) = page.score_table(many, {})
    assert len(line["cells"]) == page.MOST_CHECKPOINTS
    assert (line["cells"][0]["value"], line["cells"][-1]["value"]) == ("0.500", "0.995")
    tables = tables_of(many)
    spec = figures.within(report.draw(tables)["scores"], 0)
    assert (len(spec.panels), spec.left_out) == (0, 1)
    monkeypatch.setattr(page, "MOST_DATA", 5)
    section = page.curves(tables, report.draw(tables))
    assert len(section["figure"]["data"]) == 5
    assert section["figure"]["more"] == "95 more lines: report/tables/scores.csv."


def test_a_long_table_is_cut_and_says_where_the_rest_is(monkeypatch):
    cells = [cell(f"s{at}", on, NLI, 0.5 + at / 100) for at in range(1, 8) for on in ("", NLI)]
    tables = tables_of(made(cells))

    def part(most):
        monkeypatch.setattr(page, "MOST_LINES", most)
        found = page.sections(tables, {})
        return next(one for group in found for one in group["parts"] if one["id"] == "prediction")

    whole = part(400)
    assert len(whole["rows"]) == 8 and whole["more"] == ""
    assert part(8) == whole
    cut = part(5)
    assert cut["rows"] == whole["rows"][:5]
    assert cut["more"] == "3 more lines: report/tables/prediction.csv."


def test_panels_beyond_a_size_are_left_out_and_counted(monkeypatch):
    sets = (NLI, "lab_attributes", "lab_events")
    tables = tables_of(made([cell(f"s{at}", "", task, 0.5) for at in (1, 2, 3) for task in sets]))
    drawn = report.draw(tables)
    whole = page.curves(tables, drawn)
    assert len(whole["figure"]["panels"]) == 3 and "amuro plot" not in whole["caption"]
    sizes = [len(svg) for _, _, svg in whole["figure"]["panels"]]
    for most, kept in ((sum(sizes[:2]), 2), (sum(sizes[:2]) - 1, 1), (10, 1)):
        monkeypatch.setattr(page, "MOST_DRAWN", most)
        section = page.curves(tables, drawn)
        assert len(section["figure"]["panels"]) == kept
        assert f"{3 - kept} more panel" in section["caption"]


def test_tables_travel_with_the_page_up_to_a_size(monkeypatch, three):
    files = {"small.csv": b"x" * 10, "middle.csv": b"x" * 60, "large.csv": b"x" * 61}
    monkeypatch.setattr(page, "MOST_EMBEDDED", 100)
    links = {one["name"]: bool(one["csv"]) for one in page.table_links(tables_of(three), files)}
    assert links == {"small": True, "middle": True, "large": False}
