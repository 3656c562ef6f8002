"""What the report once said wrong, and what it says of the same numbers now."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import domains, figures, formats, gains, turning
from amuro_jax.analyses.learned import FINE, NEITHER, PRE
from amuro_jax.analyses.registry import tables_of
from amuro_jax.report import page
from tests.analyses.hand import cell, made

NLI, OOD, CHOICE = "lab_nli", "lab_nli_ood", "lab_attributes"


def sentences(results, name):
    """The findings of one analysis."""
    tables = tables_of(results)
    return [one.text for one in tables.analyses[name].sentences(results, tables)]


def in_formats(**scores):
    """A set at two checkpoints: per format the first and last base score and the last fine-tuned
    one.
    """
    cells = []
    for name, (first, last, tuned) in scores.items():
        cells += [
            cell("s1", "", NLI, first, format=name),
            cell("s2", "", NLI, last, format=name),
            cell("s1", NLI, NLI, first, format=name),
            cell("s2", NLI, NLI, tuned, format=name),
        ]
    return made(cells, resamples=2000)


def test_a_set_learned_in_one_format_only_is_learned_and_the_format_is_named():
    results = in_formats(default=(0.1, 0.2, 0.9), io=(0.0, 0.9, 0.9), instruct=(0.1, 0.2, 0.9))
    (line,) = tables_of(results)["learned"].to_dict("records")
    assert (line["group"], line["format"], line["formats_agree"]) == (PRE, "io", 1)
    assert line["rise"] == pytest.approx(0.9)
    (text,) = sentences(results, "learned")
    assert text.startswith("Learned in pre-training: lab_nli (in io only, 1 of 3 formats: +0.900")


def test_learned_in_fine_tuning_says_in_how_many_formats():
    results = in_formats(default=(0.1, 0.2, 0.9), io=(0.0, 0.1, 0.2), instruct=(0.1, 0.2, 0.9))
    (line,) = tables_of(results)["learned"].to_dict("records")
    assert (line["group"], line["formats_agree"], line["formats"]) == (FINE, 2, 3)
    assert "2 of 3 formats" in sentences(results, "learned")[1]


def test_choosing_among_formats_is_corrected_for():
    """One of five formats is above by chance at p = 0.03: not enough for having looked at five."""
    names = ("default", "a", "b", "c", "d")
    results = in_formats(**dict.fromkeys(names, (0.4, 0.6, 0.6)))
    draws = np.full(2000, 0.6)
    draws[: round(0.015 * len(draws))] = 0.3  # so many draws are below the baseline of 0.5
    others = np.where(np.arange(2000) % 3 == 0, 0.4, 0.6)
    last = results.cells[(results.cells["checkpoint"] == "s2")]
    for line in last.itertuples():
        results.draws[line.key] = draws if line.format == "a" else others
    table = tables_of(results)["learned_by_format"].set_index("format")
    assert table.loc["a", "rise_p"] == pytest.approx(0.031, abs=0.002)
    assert table.loc["a", "rise_p_holm"] == pytest.approx(5 * table.loc["a", "rise_p"])
    assert tables_of(results)["learned"]["group"].item() == NEITHER


def test_a_model_that_never_leaves_its_baseline_has_no_turning_point():
    cells = [cell(f"s{place}", "", NLI, 0.3 + 0.01 * place) for place in (1, 2, 3)]
    (line,) = turning.turning_point(made(cells)).to_dict("records")
    assert not line["above_baseline"] and line["reached"] == ""
    shown = turning.show_turning(pd.DataFrame([line]))
    assert shown["reached at"].item() == "never clearly above the baseline"


def test_clear_losses_are_counted_beside_clear_gains():
    scores = ((0.6, 0.7), (0.6, 0.5), (0.6, 0.4))
    cells = []
    for place, (base, tuned) in enumerate(scores, 1):
        cells += [cell(f"s{place}", "", NLI, base), cell(f"s{place}", NLI, NLI, tuned)]
    texts = sentences(made(cells), "gain_by_group")
    assert "a gain is clear at 1 and a loss at 2 of 3 checkpoints" in texts[0]


def test_sets_that_stay_below_the_baseline_are_not_said_to_be_learned():
    cells = [
        cell("s1", "", NLI, 0.1),
        cell("s1", NLI, NLI, 0.3),
        cell("s2", "", NLI, 0.1),
        cell("s2", NLI, NLI, 0.4),
    ]
    texts = sentences(made(cells), "gain_by_group")
    assert texts[0].startswith("Sets not above the baseline (lab_nli)")
    assert "which leaves them at or below the baseline" in texts[0]


def test_in_and_out_of_domain_are_compared_in_one_format():
    """In domain io comes first, out of domain there is only default: both in default."""
    cells = []
    for name, checkpoint in ((name, c) for name in ("io", "default") for c in ("s1", "s2")):
        gain = 0.3 if name == "io" else 0.1
        cells += [
            cell(checkpoint, "", NLI, 0.4, format=name),
            cell(checkpoint, NLI, NLI, 0.4 + gain, format=name),
        ]
    for checkpoint in ("s1", "s2"):
        cells += [
            cell(checkpoint, "", OOD, 0.4, "out_of_domain", NLI),
            cell(checkpoint, NLI, OOD, 0.45, "out_of_domain", NLI),
        ]
    results = made(cells)
    results.main[NLI], results.main[OOD] = ("io", 4), ("default", 4)
    table = domains.ood_change(results).set_index("task")
    assert set(table["format"]) == {"default"} and table["same_format"].all()
    assert table.loc[NLI, "change"] == pytest.approx(0.1)
    (text,) = sentences(results, "ood_change")
    assert "in domain +0.100 ± 0.000, in the same format (default)" in text


def test_without_a_common_format_nothing_is_put_side_by_side():
    cells = [
        cell("s1", "", NLI, 0.4, format="io"),
        cell("s1", NLI, NLI, 0.5, format="io"),
        cell("s1", "", OOD, 0.4, "out_of_domain", NLI),
        cell("s1", NLI, OOD, 0.6, "out_of_domain", NLI),
    ]
    results = made(cells)
    results.main[NLI] = ("io", 4)
    assert not domains.ood_change(results)["same_format"].any()
    (text,) = sentences(results, "ood_change")
    assert "in domain" not in text and "no format is common" in text


def test_transfer_is_led_by_the_change_and_ranked_by_it():
    """A base near zero has an enormous ratio and a tiny change."""
    tiny, large = "lab_nli", "lab_paraphrase"
    values = {("", tiny): 0.001, ("", large): 0.6, (large, tiny): 0.004, (tiny, large): 0.5}
    cells = [
        cell("s1", tuned_on, task, value, "in_domain" if not tuned_on else "cross_task", task)
        for (tuned_on, task), value in values.items()
    ]
    cells += [cell("s1", tiny, tiny, 0.5), cell("s1", large, large, 0.7)]
    table = tables_of(made(cells))["transfer_by_checkpoint"].set_index("tuned_on")
    assert table.loc[large, "change"] == pytest.approx(0.003)
    assert np.isnan(table.loc[large, "relative"]) and table.loc[large, "no_ratio"] == 1
    assert table.loc[tiny, "relative"] == pytest.approx(-1 / 6)
    published = tables_of(made(cells))["mean_ratio_of_change"].set_index("tuned_on")
    assert published.loc[large, "relative"] == pytest.approx(3.0)


def test_transfer_knows_the_kind_of_a_set_that_is_not_registered():
    cells = []
    for task, other, metric in (("mine", "lab_summary", "accuracy"), ("lab_summary", "mine", "")):
        metric = metric or "rougeL"
        cells += [cell("s1", "", task, 0.4, metric=metric), cell("s1", task, task, 0.6)]
        cells += [cell("s1", other, task, 0.5, "cross_task", metric=metric)]
    table = tables_of(made(cells))["transfer_by_kind"]
    assert set(zip(table["tuned_on"], table["task"], strict=True)) == {
        ("classification", "generation"),
        ("generation", "classification"),
    }


@pytest.mark.parametrize(
    "metric,said", [("exact_number", "exact number"), ("rouge_l", "ROUGE-L"), ("accuracy",) * 2]
)
def test_a_metric_is_called_by_its_name(metric, said):
    cells = []
    for name in ("default", "io"):
        cells += [
            cell("s1", "", NLI, 0.4, format=name, metric=metric),
            cell("s1", NLI, NLI, 0.5, format=name, metric=metric),
        ]
    results = made(cells)
    (text,) = sentences(results, "format_sensitivity")
    assert f"{NLI}: {said} differs" in text
    assert page.score_table(results, {})[0]["metric"] == said
    panel = formats.draw_formats(results, tables_of(results)).panels[0]
    assert panel.y.title == said and figures.metric_name(results, NLI) == said


def test_the_format_figure_has_intervals():
    cells = [
        cell(name, tuned_on, NLI, 0.4, format=format)
        for name in ("s1", "s2")
        for tuned_on in ("", NLI)
        for format in ("default", "io")
    ]
    results = made(cells)
    spec = formats.draw_formats(results, tables_of(results))
    assert [panel.title for panel in spec.panels] == ["lab_nli, base", "lab_nli, fine-tuned"]
    for panel in spec.panels:
        for line in panel.series:
            assert line.low == pytest.approx((0.38, 0.38)) and line.high == pytest.approx(
                (0.42,) * 2
            )


def test_panels_of_one_metric_have_one_range():
    cells = []
    for task, level in ((NLI, 0.2), (CHOICE, 0.8)):
        cells += [cell("s1", "", task, level, of=()), cell("s2", "", task, level + 0.05, of=())]
    results = made(cells)
    spec = tables_of(results).analyses["scores"].figure(results, tables_of(results))
    ranges = {(panel.y.low, panel.y.high) for panel in spec.panels}
    ((low, high),) = ranges
    assert low < 0.18 and high > 0.87


def test_sciq_counts_twice_where_published_averages_are_asked_for():
    cells = []
    for task, gain in (("sciq_choice", 0.3), ("boolq", 0.0)):
        cells += [
            cell("s1", "", task, 0.5, "multiple_choice", ""),
            cell("s1", "tulu", task, 0.5 + gain, "multiple_choice", ""),
        ]
    results = made(cells)
    groups = pd.DataFrame({"task": ["sciq_choice", "boolq"], "group": "g"})
    assert gains.gains_of(results, groups)["change"].item() == pytest.approx(0.15)
    published = dataclasses.replace(results, published_averages=True)
    assert gains.gains_of(published, groups)["change"].item() == pytest.approx(0.2)


def test_the_gain_of_a_group_is_in_the_format_that_the_group_hangs_on():
    """Learned in io, where fine-tuning adds nothing: its gain in default is no gain of learning."""
    results = in_formats(default=(0.1, 0.2, 0.9), io=(0.0, 0.9, 0.9))
    table = tables_of(results)["gain_by_group"].set_index("checkpoint")
    assert table.loc["s2", "group"] == PRE and table.loc["s2", "change"] == pytest.approx(0.0)
