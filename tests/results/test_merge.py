"""Two stores into one: what both have is the same, or named."""

import pytest

from amuro_jax.errors import DataError
from amuro_jax.interchange import columns
from amuro_jax.results.merge import conflicts, merge
from amuro_jax.results.store import Store
from tests.results.made import ROWS, flip, harm, score


def test_stores_are_merged(cells, tmp_path):
    other, into = Store.open(tmp_path / "other"), Store.open(tmp_path / "into")
    other.commit(score("b" * 16, 0.5, 1), ROWS)
    other.commit(score("d" * 16, 1.0, 3), ROWS)
    done = merge(cells, other, into)
    assert done.gained == 5 and len(done.conflicts) == 0
    assert merge(cells, other, into).gained == 0
    assert sorted(into.frame()["value"]) == [0.25, 0.5, 0.75, 1.0] and not into.verify()
    assert into.rows("d" * 16).to_dict("records") == ROWS
    assert merge(cells, other, cells).gained == 1


def test_stores_that_disagree_are_not_merged(cells, tmp_path):
    other, into = Store.open(tmp_path / "other"), Store.open(tmp_path / "into")
    other.commit(score("a" * 16, 0.26, 2), ROWS)
    with pytest.raises(
        DataError,
        match=r"1 cells have two values\n  a{16} step2 lab_nli lab_nli default 1-shot: 0.25 in A, "
        "0.26 in B",
    ):
        merge(cells, other, into)
    assert len(into.keys()) == 0
    harm(cells, "c" * 16, "rows.parquet", flip)
    with pytest.raises(DataError, match="checksum"):
        merge(cells, into, into)


@pytest.mark.parametrize("keep,value", [("a", 0.25), ("b", 0.26)])
def test_a_conflict_is_settled_for_one_of_the_stores(cells, tmp_path, keep, value):
    other, into = Store.open(tmp_path / "other"), Store.open(tmp_path / "into")
    other.commit(score("a" * 16, 0.26, 2), ROWS[:2])
    done = merge(cells, other, into, keep)
    assert done.gained == 4 and list(done.conflicts["key"]) == ["a" * 16]
    assert into.read("a" * 16).metrics["value"] == value
    assert len(into.rows("a" * 16)) == (4 if keep == "a" else 2) and not into.verify()
    # The other way round, over what is there.
    assert merge(cells, other, into, "b" if keep == "a" else "a").gained == 0
    assert into.read("a" * 16).metrics["value"] == 0.51 - value


def test_imported_scores_are_merged(tmp_path):
    header, line = "model,step,task,value,stderr", "m,{},piqa,{},0.01"
    for name, lines in {"x": [(1, 0.5), (2, 0.6)], "y": [(2, 0.7), (3, 0.8)]}.items():
        text = "\n".join([header, *(line.format(*one) for one in lines)])
        (tmp_path / f"{name}.csv").write_text(text)
        columns.import_csv(tmp_path / f"{name}.csv", tmp_path / name)
    x, y, into = (Store.open(tmp_path / name) for name in ("x", "y", "into"))
    assert len(conflicts(x, y, into)) == 1
    with pytest.raises(DataError, match="step2 base piqa default 0-shot: 0.6 in A, 0.7 in B"):
        merge(x, y, into)
    for keep, values in (("a", [0.5, 0.6, 0.8]), ("b", [0.5, 0.7, 0.8])):
        merge(x, y, into, keep)
        assert list(into.frame()["value"]) == values
