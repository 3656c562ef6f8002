"""The figure of ways of tuning on one set: its points are the table's."""

import pytest

from amuro_jax.analyses import repeats
from amuro_jax.analyses.registry import tables_of
from amuro_jax.config import FineTune
from amuro_jax.results import loading
from tests.study import synthetic


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """NLI tuned in three ways from six checkpoints, summaries in one."""
    folder, ways = tmp_path_factory.mktemp("ways"), ("", "lora", "quirk")
    tuned = (*(FineTune("lab_nli", variant=way) for way in ways), FineTune("lab_summary"))
    synthetic.make_store(folder, rows=24, fine_tunes=tuned)
    return loading.load(folder, 50)


def test_a_panel_has_each_way_at_each_checkpoint(results):
    tables = tables_of(results)
    (panel,) = repeats.draw_variants(results, tables).panels
    table = tables["variants"]
    own = table[(table["task"] == "lab_nli") & (table["format"] == "default")]
    assert panel.title == "lab_nli" and len(panel.rows) == len(own) == 2 * len(synthetic.STEPS)
    expected = {
        f"{row.variant}, {row.checkpoint}": (row.difference, row.low, row.high)
        for row in own.itertuples()
    }
    assert {row.label: (row.value, row.low, row.high) for row in panel.rows} == expected
    assert len({row.color for row in panel.rows if row.label.startswith("lora")}) == 1


def test_of_many_checkpoints_the_last_ones_are_shown(results, monkeypatch):
    monkeypatch.setattr(repeats, "MOST_ROWS", 5)  # two checkpoints of two ways
    (panel,) = repeats.draw_variants(results, tables_of(results)).panels
    assert [row.label for row in panel.rows] == [
        f"{way}, step{step}" for way in ("lora", "quirk") for step in (630, 1600)
    ]


def test_a_study_with_one_way_has_no_figure(tmp_path):
    synthetic.make_store(tmp_path, rows=8, steps=(16, 1600))
    results = loading.load(tmp_path, 20)
    assert repeats.draw_variants(results, tables_of(results)) is None
