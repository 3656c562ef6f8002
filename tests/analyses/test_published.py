"""The analyses on the study's published tables give the published figures."""

import dataclasses

import pandas as pd
import pytest

from amuro_jax.analyses import gains, transfer
from amuro_jax.analyses.registry import tables_of
from tests.analyses import published
from tests.analyses.hand import cell, made

TABLE_6 = {
    "learned in pre-training": (0.048, 0.048, 0.004, 0.010, 0.030, 0.027, 0.021, -0.005),
    "learned in fine-tuning": (0.062, 0.149, 0.286, 0.297, 0.304, 0.297, 0.264, 0.290),
}


@pytest.fixture(scope="module")
def results(shared, tmp_path_factory):
    return published.imported(shared, tmp_path_factory.mktemp("published"))


def test_gain_by_group_is_table_6(results):
    fine = [*published.OWNERS, "boolq"]
    table = pd.DataFrame({"task": fine, "group": "learned in fine-tuning"})
    found = gains.gains_of(results, table)
    assert [round(value, 3) for value in found["change"]] == pytest.approx(
        TABLE_6["learned in fine-tuning"], abs=1e-9
    )
    choice = [name for name in published.CHOICE if name != "boolq"]
    groups = pd.DataFrame({"task": choice, "group": "learned in pre-training"})
    twice = dataclasses.replace(results, published_averages=True)  # SciQ counts twice (quirk 19)
    published_means = [round(value, 3) for value in gains.gains_of(twice, groups)["change"]]
    assert published_means == pytest.approx(TABLE_6["learned in pre-training"], abs=1e-9)
    once = [round(value, 3) for value in gains.gains_of(results, groups)["change"]]
    assert once != published_means


def test_task_transfer_is_the_published_one(results):
    table = transfer.mrc_by_kind(results).set_index(["tuned_on", "task"])["relative"]
    assert 100 * table["classification", "generation"] == pytest.approx(
        -61.459, abs=5e-4
    )  # published as -61.4, cut off after one digit
    assert round(100 * table["generation", "classification"], 1) == 0.3


def test_every_printed_figure_that_the_tables_determine(results, root):
    """The documentation's table is the analysis's, and one printed figure is from another run."""
    table = tables_of(results)["published"]
    assert len(table) == 26 and list(table.loc[~table["agrees"], "where"]) == ["mnli_matched"]
    text = (root / "docs/published.md").read_text()
    for line in table.itertuples():
        numbers = (f"{line.printed:.3f}", f"{line.value:.4f}", f"{line.difference:.4f}")
        cells = " | ".join(number.replace("-", "−") for number in numbers)
        assert f"| {line.figure} | {line.where} | {cells} |" in text
    sciq_once = table.set_index(["figure", "where"])["strict"]
    assert round(sciq_once["Table 6, learned in pre-training", "step1000"], 3) == 0.037
    assert round(sciq_once["Table 6, learned in fine-tuning", "main"], 3) == 0.290


def test_results_of_other_sets_have_no_printed_figures():
    assert tables_of(made([cell("s1", "", "lab_nli", 0.5)]))["published"].empty
