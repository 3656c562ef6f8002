"""Effects of single quirks: signs, pairing, and the protocol that all other analyses see."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses.quirks import draw_quirks, quirk_effects, say_quirks
from amuro_jax.analyses.registry import tables_of
from amuro_jax.results.loading import _one_protocol
from tests.analyses.hand import cell, made

RIGHT = {
    "strict": [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
    "strict+shots_from_test": [1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "paper": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "paper-sub_token_candidates": [1, 1, 1, 1, 1, 1, 0, 0, 1, 0],
    "strict+published_splits": [1, 1],
}


def results():
    rows = {
        name: pd.Series(np.array(right * 40, float), pd.RangeIndex(len(right) * 40, name="row"))
        for name, right in RIGHT.items()
    }
    cells = []
    for name, scores in rows.items():
        line = cell("s1", "", "mnli_matched", float(scores.mean()))
        split = "train" if "splits" in name else "validation"
        more = {"suite": "a", "imported": "", "split": split, "protocol": name, "key": name}
        cells.append(line | more | {"n": len(scores), "stderr": 0.02})
    built = made(cells)
    built.scores = rows.get
    return built


def test_each_quirk_is_the_score_with_it_less_the_score_without():
    table = quirk_effects(results()).set_index(["quirk", "how"])
    assert table.loc[("all quirks", "strict → paper"), "effect"] == pytest.approx(-0.5)
    added = table.loc[("shots_from_test", "added to strict")]
    assert added["effect"] == pytest.approx(0.1) and added["paired"]
    assert 0 < added["low"] < 0.1 < added["high"] and added["p_holm"] < 0.05
    taken = table.loc[("sub_token_candidates", "taken from paper")]
    assert (taken["without"], taken["with"]) == (0.7, 0.1)
    assert taken["effect"] == pytest.approx(-0.6)
    splits = table.loc[("published_splits", "added to strict")]
    assert not splits["paired"] and splits["stderr"] == pytest.approx(0.02 * 2**0.5)
    assert len(table) == 4


def test_another_statistic_of_the_same_rows_is_an_exact_difference():
    built = results()
    built.cells.loc[built.cells["protocol"] == "strict+shots_from_test", "value"] = 0.61
    built.scores = lambda key: pd.Series(np.tile(RIGHT["strict"], 40) * 1.0)
    table = quirk_effects(built).set_index(["quirk", "how"])
    line = table.loc[("shots_from_test", "added to strict")]
    assert line["low"] == pytest.approx(0.01) and line["high"] == pytest.approx(0.01)
    built.cells.loc[built.cells["protocol"] == "strict+shots_from_test", "value"] = 0.6 + 2e-16
    line = quirk_effects(built).set_index(["quirk", "how"]).loc[line.name]
    assert line[["effect", "low", "high"]].eq(0).all() and line["p"] == 1.0


def test_the_figure_and_the_finding_name_the_largest_effect():
    built = results()
    tables = tables_of(built)
    (panel,) = draw_quirks(built, tables).panels
    assert len(panel.rows) == 4
    (sentence,) = say_quirks(built, tables)
    assert "most sub_token_candidates (taken from paper): −0.600 at s1" in sentence.text


def test_base_and_tuned_models_have_panels_of_their_own():
    built = results()
    base = tables_of(built)["quirk_effects"]
    parts = [
        base.assign(tuned_on=on, variant=way, effect=at)
        for at, (on, way) in enumerate(
            [("", ""), ("mnli_matched", ""), ("mnli_matched", "lora"), ("paws", "")]
        )
    ]
    panels = draw_quirks(built, {"quirk_effects": pd.concat(parts)}).panels
    assert [panel.title for panel in panels] == [
        "mnli_matched, base model",
        "mnli_matched, fine-tuned on it",
    ]
    assert [{row.value for row in panel.rows} for panel in panels] == [{0}, {1}]
    alone = draw_quirks(built, {"quirk_effects": parts[1]}).panels
    assert [panel.title for panel in alone] == ["mnli_matched"]


def test_one_protocol_is_what_all_other_analyses_see():
    lines = results().cells
    assert list(_one_protocol(lines)["protocol"]) == ["strict"]
    papers = lines[lines["protocol"].str.startswith("paper")]
    assert len(_one_protocol(papers)) == 1
    assert len(_one_protocol(lines[lines["protocol"] == "strict"])) == 1
    without = made([cell("s1", "", "mnli_matched", 0.5)])
    assert quirk_effects(without).empty
