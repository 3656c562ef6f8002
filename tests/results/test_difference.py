"""What differs between two stores, by how much, and why."""

import dataclasses

import pytest

from amuro_jax.config import Scoring
from amuro_jax.evals.statistics import paired
from amuro_jax.results.difference import diff
from amuro_jax.results.store import Store
from tests.results.made import FROM, ROWS, score


def test_a_difference_names_what_only_one_has_and_what_is_another_number(cells, tmp_path):
    other = Store.open(tmp_path / "other")
    other.commit(score("a" * 16, 0.25, 2, tuned_on="lab_nli"), ROWS)  # the same
    other.commit(score("9" * 16, 0.625, 1), ROWS)  # b's, under another protocol
    other.commit(score("8" * 16, 1.0, 99), ROWS)
    found = diff(cells, other).set_index("checkpoint")
    assert dict(found["found_in"]) == {"step1": "both", "step10": "a", "step99": "b"}
    changed = found.loc["step1"]
    assert changed["difference"] == 0.125 and (changed["key_a"], changed["key_b"]) == (
        "b" * 16,
        "9" * 16,
    )
    assert len(diff(cells, cells)) == 0


def test_a_change_has_its_paired_uncertainty(cells, tmp_path):
    other = Store.open(tmp_path / "other")
    rows = [{"row": row, "score": value} for row, value in enumerate((0.5, 0.25, 0.75, 1.0))]
    other.commit(score("a" * 16, 0.625, 2, tuned_on="lab_nli"), rows)
    (line,) = diff(cells, other, 200).query("found_in == 'both'").to_dict("records")
    found = paired([one["score"] for one in ROWS], [one["score"] for one in rows], 200)
    assert line["rows"] == 4 and (line["stderr"], line["p"]) == (found.stderr, found.p_bootstrap)
    other.commit(score("a" * 16, 0.625, 2, tuned_on="lab_nli"), rows[:3])  # other rows: not paired
    (line,) = diff(cells, other, 200).query("found_in == 'both'").to_dict("records")
    assert line["rows"] == 0 and line["stderr"] == pytest.approx(0.1 * 2**0.5)
    assert line["low"] == pytest.approx(0.375 - 1.96 * 0.1 * 2**0.5, abs=1e-4)


@pytest.mark.parametrize(
    "part,changes",
    [
        ("weights", {"provenance": dataclasses.replace(FROM, model="n" * 16)}),
        ("data", {"provenance": dataclasses.replace(FROM, data={"test": "e"})}),
        ("tokenizer", {"provenance": dataclasses.replace(FROM, tokenizer="u")}),
        ("code", {"provenance": dataclasses.replace(FROM, code="1")}),
        ("protocol", {"switches": {"no_stop": True}}),
        ("scoring", {"scoring": Scoring(rows=9)}),
        ("source", {"imported": "x.csv"}),
    ],
)
def test_the_part_that_differs_is_named(cells, tmp_path, part, changes):
    other = Store.open(tmp_path / "other")
    other.commit(score("9" * 16, 0.75, 2, tuned_on="lab_nli", **changes), ROWS)
    (line,) = diff(cells, other, 20).query("found_in == 'both'").to_dict("records")
    assert line["differs"] == part


def test_another_series_is_paired_where_it_is_the_only_one_and_named(tmp_path):
    """The same series under another path is compared; of several, none is taken for another."""
    scores = {"a": ("m1", "m2"), "b": ("m1", "m3"), "c": ("m1", "m4", "m5")}
    stores = {name: Store.open(tmp_path / name) for name in scores}
    values = {"m1": 0.5, "m2": 0.5, "m3": 0.75, "m4": 0.75, "m5": 1.0}
    for name, suites in scores.items():
        for suite in suites:
            one = score(suite * 8, values[suite], 1)
            moved = dataclasses.replace(one.model, suite=suite)
            stores[name].commit(dataclasses.replace(one, model=moved), ROWS)
    (line,) = diff(stores["a"], stores["b"], 20).to_dict("records")
    assert (line["suite"], line["found_in"], line["difference"]) == ("m2", "both", 0.25)
    assert line["differs"] == "series"
    found = diff(stores["a"], stores["c"], 20)
    assert dict(found.set_index("suite")["found_in"]) == {"m2": "a", "m4": "b", "m5": "b"}


def test_scores_that_are_both_undefined_do_not_differ(cells, tmp_path):
    stores = [Store.open(tmp_path / name) for name in "ab"]
    for one, key in zip(stores, "12", strict=True):
        one.commit(score(key * 16, float("nan"), 1), ROWS)
    assert diff(*stores, 20).empty and diff(stores[0], cells, 20)["found_in"].tolist() != []
