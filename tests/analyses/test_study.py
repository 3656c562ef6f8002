"""The analyses against numbers worked out by hand, and what they say when cells are missing."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from amuro_jax.analyses import changes, domains, formats, gains, learned, transfer, turning, words
from amuro_jax.analyses.registry import tables_of
from amuro_jax.results.estimate import NOTHING
from tests.analyses.hand import cell, made
from tests.study import synthetic

NLI, QUESTION, CHOICE = "lab_nli", "lab_question", "lab_attributes"


@pytest.fixture
def two_tasks():
    """Two fine-tuning sets at two checkpoints, every model on both sets."""
    values = {
        ("s1", "", NLI): 0.50,
        ("s1", "", QUESTION): 0.20,
        ("s1", NLI, NLI): 0.60,
        ("s1", NLI, QUESTION): 0.10,
        ("s1", QUESTION, QUESTION): 0.30,
        ("s1", QUESTION, NLI): 0.45,
        ("s2", "", NLI): 0.40,
        ("s2", "", QUESTION): 0.25,
        ("s2", NLI, NLI): 0.80,
        ("s2", NLI, QUESTION): 0.05,
        ("s2", QUESTION, QUESTION): 0.50,
        ("s2", QUESTION, NLI): 0.44,
    }
    return made(
        [
            cell(*at, value, "in_domain" if at[1] in ("", at[2]) else "cross_task")
            for at, value in values.items()
        ]
    )


def test_gains_by_hand(two_tasks):
    table = gains.gains(two_tasks).set_index(["checkpoint", "tuned_on", "task"])
    assert table.loc[("s2", NLI, NLI), "change"] == pytest.approx(0.40)
    assert table.loc[("s2", NLI, QUESTION), "change"] == pytest.approx(-0.20)
    groups = pd.DataFrame({"task": [NLI, QUESTION], "group": "g"})
    by_checkpoint = gains.gains_of(two_tasks, groups).set_index("checkpoint")["change"]
    assert by_checkpoint["s1"] == pytest.approx((0.10 + 0.10) / 2)
    assert by_checkpoint["s2"] == pytest.approx((0.40 + 0.25) / 2)


def test_transfer_by_hand(two_tasks):
    table = transfer.mean_ratio_of_change(two_tasks).set_index(["tuned_on", "checkpoint"])[
        "relative"
    ]
    assert table[NLI, "s1"] == pytest.approx((0.10 - 0.20) / 0.20)
    assert table[NLI, "s2"] == pytest.approx((0.05 - 0.25) / 0.25)
    kinds = transfer.mrc_by_kind(two_tasks).set_index(["tuned_on", "task"])
    assert kinds.loc[("classification", "generation"), "relative"] == pytest.approx(
        (-0.5 - 0.8) / 2
    )
    assert kinds.loc[("generation", "classification"), "relative"] == pytest.approx(
        (-0.1 + 0.1) / 2
    )
    matrix = transfer.task_transfer(two_tasks).set_index(["tuned_on", "task"])
    assert matrix.loc[(QUESTION, NLI), "change"] == pytest.approx((-0.05 + 0.04) / 2)
    assert bool(matrix.loc[(NLI, NLI), "own"]) and not bool(matrix.loc[(NLI, QUESTION), "own"])


def low_bar(*at):
    """A cell whose base score is above its baseline, so that it has a ratio."""
    return cell(*at, majority=0.3)


def test_out_of_domain_by_hand():
    cells = [
        low_bar("s1", "", "lab_nli_ood", 0.4, "out_of_domain", NLI),
        low_bar("s1", NLI, "lab_nli_ood", 0.5, "out_of_domain", NLI),
        low_bar("s2", "", "lab_nli_ood", 0.5, "out_of_domain", NLI),
        low_bar("s2", NLI, "lab_nli_ood", 0.4, "out_of_domain", NLI),
    ]
    (line,) = domains.ood_change(made(cells)).to_dict("records")
    assert line["relative"] == pytest.approx((0.25 - 0.2) / 2)
    assert line["change"] == pytest.approx(0)


@pytest.mark.parametrize("base", [0.0, 0.2, 0.3])
def test_a_base_at_zero_or_at_its_baseline_has_no_ratio_and_is_counted(base):
    cells = [
        low_bar("s1", "", NLI, base),
        low_bar("s1", NLI, NLI, 0.5),
        low_bar("s2", "", NLI, 0.5),
        low_bar("s2", NLI, NLI, 0.6),
    ]
    (line,) = domains.ood_change(made(cells)).to_dict("records")
    assert line["relative"] == pytest.approx(0.2)
    assert line["no_ratio"] == 1 and line["cells"] == 2
    assert line["change"] == pytest.approx((0.5 - base + 0.1) / 2)


def test_missing_cells_are_counted_not_skipped():
    cells = [cell("s1", "", NLI, 0.4), cell("s1", NLI, NLI, 0.5), cell("s2", "", NLI, 0.5)]
    results = made(cells, missing=[cell("s2", NLI, NLI, 0.0)])
    groups = pd.DataFrame({"task": [NLI], "group": "g"})
    table = gains.gains_of(results, groups).set_index("checkpoint")
    assert table.loc["s1", "left_out"] == "" and table.loc["s2", "left_out"] == NLI
    assert np.isnan(table.loc["s2", "change"])
    (line,) = domains.ood_change(results).to_dict("records")
    assert line["missing"] == 1 and line["change"] == pytest.approx(0.1)


def test_differences_are_paired():
    """Two models that miss different rows by the same pattern: the difference is certain although
    each score is not.
    """
    base = pd.Series([0.0, 1, 0, 1] * 10)
    rows = {"s1lab_nlidefault": base, f"s1{NLI}lab_nlidefault": base.copy()}
    results = made([cell("s1", "", NLI, 0.5), cell("s1", NLI, NLI, 0.5)], rows)
    found = results.estimate(
        changes.change, [results.find("s1", "", NLI), results.find("s1", NLI, NLI)]
    )
    assert found.stderr == 0 and not found.clear
    assert results.draws["s1lab_nlidefault"].std() == pytest.approx(0.5 / np.sqrt(40), rel=0.25)


def test_rows_that_change_are_counted_and_tested():
    base, tuned = pd.Series([1.0, 0, 0, 0, 0, 0, 0, 1]), pd.Series([0.0, 1, 1, 1, 1, 1, 1, 1])
    rows = {"s1lab_nlidefault": base, f"s1{NLI}lab_nlidefault": tuned}
    results = made([cell("s1", "", NLI, 0.25), cell("s1", NLI, NLI, 0.875)], rows)
    (line,) = gains.gains(results).to_dict("records")
    assert np.isnan(line["p_mcnemar"])  # no rows are known
    results = dataclasses.replace(results, scores=rows.get)
    (line,) = gains.gains(results).to_dict("records")
    assert (line["gained"], line["lost"]) == (6, 1)
    assert line["p_mcnemar"] == pytest.approx(stats.binomtest(1, 7).pvalue)


def test_draws_of_other_rows_are_not_paired():
    rows = {
        "s1lab_nlidefault": pd.Series([0.0, 1, 0, 1] * 10),
        f"s1{NLI}lab_nlidefault": pd.Series([0.0, 1, 0, 1] * 10, index=range(5, 45)),
    }
    results = made([cell("s1", "", NLI, 0.5), cell("s1", NLI, NLI, 0.5)], rows)
    first, second = (results.draws[key] for key in rows)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3


def test_where_a_set_is_learned():
    def group(first, last, tuned, majority=0.5):
        at = {("s1", ""): first, ("s2", ""): last, ("s1", NLI): first, ("s2", NLI): tuned}
        cells = [
            cell(*model, CHOICE, value, "multiple_choice", "", majority=majority)
            for model, value in at.items()
        ]
        return tables_of(made(cells))["learned"]["group"].iloc[0]

    assert group(0.5, 0.8, 0.8) == learned.PRE
    assert group(0.5, 0.5, 0.8) == learned.FINE
    assert group(0.3, 0.4, 0.45) == learned.NEITHER  # rises and gains, but stays below the baseline


def test_group_from_the_configuration_wins():
    cells = [
        cell("s1", "", NLI, 0.5),
        cell("s2", "", NLI, 0.9),
        cell("s1", NLI, NLI, 0.5),
        cell("s2", NLI, NLI, 0.9),
    ]
    results = made([line | {"group": "fine_tuning"} for line in cells])
    table = tables_of(results)["learned"]
    assert table["group"].iloc[0] == learned.FINE and table["decided_by"].iloc[0] == "configuration"


def test_spread_over_formats_by_hand():
    cells = [
        cell("s1", "", NLI, 0.5),
        cell("s1", "", NLI, 0.3, format="io"),
        cell("s1", NLI, NLI, 0.6),
        cell("s1", NLI, NLI, 0.7, format="io"),
    ]
    results = made(cells)
    table = formats.format_sensitivity(results).set_index("tuned_on")
    assert table.loc["", "spread"] == pytest.approx(0.2) and table.loc[
        NLI, "spread"
    ] == pytest.approx(0.1)
    means = tables_of(results)["format_spread"].set_index("models")["spread"]
    assert means["base"] == pytest.approx(0.2) and means["fine-tuned"] == pytest.approx(0.1)


def test_plateau_is_the_first_checkpoint_level_with_the_best():
    values = (0.3, 0.8, 0.8, 0.7)
    table = turning.turning_point(
        made([cell(f"s{place}", "", NLI, value) for place, value in enumerate(values, 1)])
    )
    assert table["reached"].tolist() == ["s2"]


def test_out_of_domain_change_by_checkpoint():
    cells = []
    for name, values in {"s1": (0.4, 0.5), "s2": (0.5, 0.3)}.items():
        cells += [
            cell(name, "", "lab_nli_ood", values[0], "out_of_domain", NLI),
            cell(name, NLI, "lab_nli_ood", values[1], "out_of_domain", NLI),
        ]
    tables = tables_of(made(cells))
    changes_by = tables["ood_by_checkpoint"].set_index("checkpoint")["change"]
    assert changes_by.to_dict() == pytest.approx({"s1": 0.1, "s2": -0.2})
    spec = tables.analyses["ood_by_checkpoint"].figure(tables.results, tables)
    (line,) = spec.panels[0].series
    assert line.y == pytest.approx((0.1, -0.2)) and line.label == "lab_nli_ood after lab_nli"


def test_effect_of_shots():
    cells = []
    for shots, value in ((0, 0.3), (4, 0.5)):
        for name in ("s1", "s2"):
            line = cell(name, "", NLI, value)
            cells.append(line | {"shots": shots, "key": f"{line['key']} {shots}"})
    results = made(cells)
    tables = tables_of(results)
    assert tables["shots"].groupby("shots")["value"].mean().to_dict() == {0: 0.3, 4: 0.5}
    panel = tables.analyses["shots"].figure(results, tables).panels[0]
    assert [(one.label, one.y) for one in panel.series] == [
        ("0 shots", (0.3, 0.3)),
        ("4 shots", (0.5, 0.5)),
    ]
    assert tables_of(made([cell("s1", "", NLI, 0.5)]))["shots"].empty


def test_a_missing_cell_makes_an_undefined_estimate(two_tasks):
    assert two_tasks.estimate(changes.change, [None, two_tasks.find("s1", "", NLI)]) == NOTHING


def test_whole_store_gives_the_truth_back(tmp_path):
    """From rows drawn around known curves: groups as they were made, gains near the truth."""
    from amuro_jax.results import loading

    synthetic.make_store(tmp_path, rows=200)
    results = loading.load(tmp_path, resamples=500)
    groups = tables_of(results)["learned"].set_index("task")["group"]
    assert groups["lab_attributes"] == learned.PRE and groups["lab_nli"] == learned.FINE
    table = (
        gains.gains(results)
        .query("task == 'lab_nli' and tuned_on == 'lab_nli' and format == 'default'")
        .set_index("checkpoint")
    )
    assert table.loc["step1600", "change"] == pytest.approx(
        0.5, abs=4 * table.loc["step1600", "stderr"]
    )


def test_corrections_are_over_families_that_are_named():
    table = pd.DataFrame({"p": [0.01, 0.04, np.nan, 0.02], "of": ["a", "a", "a", "b"]})
    found = changes.with_families(table, "sets", ["of"])
    np.testing.assert_allclose(found["p_holm"], [0.02, 0.04, np.nan, 0.02])
    np.testing.assert_allclose(found["p_bh"], [0.02, 0.04, np.nan, 0.02])
    assert list(found["family"]) == ["2 sets", "2 sets", "2 sets", "1 sets"]
    assert list(changes.with_families(table, "lines")["family"]) == ["3 lines"] * 4


def test_a_change_that_is_shown_to_be_small_is_not_called_indistinguishable():
    rng = np.random.default_rng(0)
    scores = pd.Series((rng.random(4000) < 0.5).astype(float))
    tuned = scores.copy()
    tuned.iloc[:6] = 1 - tuned.iloc[:6]
    rows = {"s1lab_nlidefault": scores, f"s1{NLI}lab_nlidefault": tuned}
    cells = [cell("s1", "", NLI, scores.mean()), cell("s1", NLI, NLI, tuned.mean())]
    (line,) = gains.gains(made(cells, rows)).to_dict("records")
    assert line["p_equivalent"] < 0.05 and words.unclear(line) == "no change beyond ±0.01"
    few = {key: series.iloc[:40] for key, series in rows.items()}
    (line,) = gains.gains(made(cells, few)).to_dict("records")
    assert line["p_equivalent"] > 0.05 and "not distinguishable" in words.unclear(line)


def test_the_same_rows_behind_all_checkpoints_are_worth_fewer_pairs():
    """A gain on the same rows at each checkpoint is one piece of evidence; on others, as many."""
    rng = np.random.default_rng(1)
    base = pd.Series(np.zeros(400))
    same = pd.Series((rng.random(400) < 0.2).astype(float))
    for gained, expected in ((lambda: same, 1), (lambda: pd.Series(rng.permutation(same)), 3)):
        rows, cells = {}, []
        for at in (1, 2, 3):
            rows[f"s{at}lab_nlidefault"], rows[f"s{at}{NLI}lab_nlidefault"] = base, gained()
            cells += [cell(f"s{at}", "", NLI, 0.3), cell(f"s{at}", NLI, NLI, 0.5)]
        (line,) = domains.ood_change(made(cells, rows, resamples=2000)).to_dict("records")
        assert line["cells"] == 3 and line["effective"] == pytest.approx(expected, rel=0.05)
