"""Cells are whole or absent, checked when they are read, found through the index: on a disk and in
an object store.
"""

import concurrent.futures
import json
import re

import pandas as pd
import pytest

from amuro_jax.errors import AmuroError, DataError
from amuro_jax.records import to_json
from amuro_jax.results import index, sealed
from amuro_jax.results.merge import merge
from amuro_jax.results.store import Store
from tests.results.made import ROWS, flip, harm, score, training


def test_a_cell_is_read_as_it_was_written(cells):
    assert cells.is_done("a" * 16) and cells.is_done("f" * 16) and not cells.is_done("e" * 16)
    rows = cells.rows("a" * 16)
    assert rows.to_dict("records") == ROWS
    assert list(cells.rows("b" * 16, ["score"]).columns) == ["score"]
    with pytest.raises(DataError, match="no cell e"):
        cells.rows("e" * 16)
    with pytest.raises(DataError, match="has no rows"):
        cells.rows("f" * 16)


def test_the_record_is_the_one_that_was_committed(cells):
    assert cells.read("a" * 16) == score("a" * 16, 0.25, 2, tuned_on="lab_nli")
    assert cells.read("f" * 16) == training()
    assert cells.records() == [cells.read(letter * 16) for letter in "bac"]
    assert cells.records("train") == [training()]


def test_the_marker_is_written_last(storage_url, monkeypatch):
    cells, replace = Store.open(storage_url), type(Store.open(storage_url).storage).replace

    def killed(self, name, data):
        if name == sealed.RECORD:
            raise AmuroError("killed")
        replace(self, name, data)

    monkeypatch.setattr(type(cells.storage), "replace", killed)
    with pytest.raises(AmuroError, match="killed"):
        cells.commit(score(), ROWS)
    monkeypatch.undo()
    assert not cells.is_done("a" * 16) and len(cells.frame()) == 0 and not cells.damaged
    cells.commit(score(), ROWS)
    assert cells.is_done("a" * 16) and len(cells.frame()) == 1


@pytest.mark.parametrize(
    "name,change,why",
    [
        ("cell.json", lambda data: b"", "empty"),
        ("cell.json", lambda data: data[:-20], "not a whole record"),
        ("cell.json", lambda data: b"\xff" + data[1:], "not a whole record"),
        ("cell.json", lambda data: data.replace(b"0.25", b"0.26"), "checksum"),
        ("cell.json", lambda data: data.replace(b'"schema": 2', b'"schema": 1'), "schema 1"),
        ("rows.parquet", lambda data: data[:-1], r"have \d+ of \d+ bytes"),
        ("rows.parquet", None, "missing"),
    ],
)
def test_a_damaged_cell_is_computed_again_and_said(cells, name, change, why):
    key = "a" * 16
    cells.frame()
    if change is None:
        cells.storage.delete(f"cells/{key}/{name}")
    else:
        harm(cells, key, name, change)
    for opened in (cells, Store.open(cells.storage)):  # one with the index of before
        assert not opened.is_done(key) and opened.damaged.keys() == {key}
        assert re.search(why, opened.problem(key)) and f"{key}/{name}" in opened.problem(key)
        assert opened.problem("b" * 16) == "" and opened.problem("9" * 16) is None
    again = Store.open(cells.storage)
    assert set(again.frame()["key"]) == {"b" * 16, "c" * 16}
    assert pd.Series(again.damaged).str.contains(why).all() and list(again.damaged) == [key]
    again.commit(score(key, 0.25, 2), ROWS)
    assert again.is_done(key) and len(again.frame()) == 3 and not again.damaged


@pytest.mark.parametrize("at", [5, None, -6])
def test_one_flipped_byte_of_the_rows_is_an_error_that_names_the_file(cells, at):
    key = "a" * 16
    harm(cells, key, "rows.parquet", lambda data: flip(data, at and at % len(data)))
    with pytest.raises(DataError, match="checksum") as caught:
        cells.rows(key)
    assert caught.value.where == f"{cells.storage}/cells/{key}/rows.parquet"
    assert cells.verify() == {key: "the rows do not match their checksum"}
    cells.storage.delete(f"cells/{key}/rows.parquet")
    with pytest.raises(DataError, match="missing"):
        cells.rows(key)


def test_the_frame_has_the_scores_in_order(cells):
    frame = cells.frame()
    assert list(frame["value"]) == [0.5, 0.25, 0.75] and list(frame["step"]) == [1, 2, 10]
    assert list(frame.columns) == list(index.COLUMNS) and set(frame["identity"]) == {"m" * 16}
    trained = cells.frame("train")
    assert list(trained["loss"]) == [0.5] and list(trained["task"]) == ["lab_nli"]
    assert len(Store.open(f"{cells.storage}/none").frame()) == 0


def test_a_query_selects_lines_and_columns(cells):
    found = cells.query({"task": "lab_nli", "kind": "score"}, ["key", "value"])
    assert found.to_dict("list") == {"key": ["b" * 16, "a" * 16], "value": [0.5, 0.25]}
    assert list(cells.query({"step": (1, 10), "kind": "score"})["value"]) == [0.5, 0.75]
    with pytest.raises(AmuroError, match=r"'vaule'[\s\S]*value"):
        cells.query(columns=["vaule"])


def test_only_what_is_not_in_the_index_is_read(cells, monkeypatch):
    cells.frame()
    read, get_many = [], type(cells.storage).get_many
    monkeypatch.setattr(
        type(cells.storage),
        "get_many",
        lambda self, names: (read.extend(names), get_many(self, names))[1],
    )
    again = Store.open(cells.storage)
    assert len(again.frame()) == 3 and read == []
    again.commit(score("d" * 16, 1.0), ROWS)
    again.commit(score("a" * 16, 0.35, 2), ROWS)  # the same sizes, another number
    cells.storage.delete("cells/" + "b" * 16)
    assert sorted(again.frame()["value"]) == [0.35, 0.75, 1.0]
    assert read == [f"cells/{letter * 16}/cell.json" for letter in "ad"]


@pytest.mark.parametrize("harmed", [b"", b"PAR1 cut", "old"])
def test_an_index_that_cannot_be_used_is_built_anew(cells, harmed, monkeypatch):
    expected = cells.frame()
    if harmed == "old":
        table = index._read(cells.storage)
        wrong = table.set_column(table.schema.get_field_index("value"), "value", [[9.0] * 4])
        monkeypatch.setattr(index, "_META", {b"amuro_index_schema": b"0"})
        index._write(cells.storage, wrong)
        monkeypatch.undo()
    else:
        cells.storage.replace("cells.parquet", harmed)
    pd.testing.assert_frame_equal(Store.open(cells.storage).frame(), expected)
    assert index._read(cells.storage).num_rows == 4


def test_a_store_that_may_only_be_read_is_read(cells, monkeypatch):
    def refuse(self, name, data):
        raise AmuroError("403")

    monkeypatch.setattr(type(cells.storage), "replace", refuse)
    assert len(Store.open(cells.storage).frame()) == 3


def test_writers_and_readers_at_the_same_time_agree_in_the_end(storage_url):
    def work(who):
        own = Store.open(storage_url)
        for at in range(6):
            own.commit(score(f"{who * 6 + at:016x}", value=who / 10), ROWS)
            assert len(own.frame()) > at
        return own

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for _ in range(2):
        assert len(Store.open(storage_url).frame()) == 24


def test_a_process_that_lost_its_claim_writes_nothing(storage_url):
    storage = Store.open(storage_url).storage
    claim = storage.claim()
    mine = Store.open(storage, claim)
    mine.commit(score(), ROWS)
    mine.log("started", "k", "one")
    storage.write_json("claim/00000002.json", storage.read_json("claim/00000001.json") | {"pid": 0})
    before = storage.listing()
    for store_of, given in ((mine, None), (Store.open(storage), claim)):
        with pytest.raises(AmuroError, match="claim was lost"):
            store_of.commit(score("b" * 16), ROWS, given)
    mine.log("failed", "k", "one")
    assert storage.listing() == before and [line["cell"] for line in mine.read_log()] == ["one"]


def test_a_record_is_sealed_with_all_its_fields():
    text = sealed.seal(to_json(score()), b"rows")
    plain = json.loads(json.dumps(to_json(score())))
    assert sealed.unseal(text.encode(), "a" * 16, "x").record == plain
    with pytest.raises(DataError, match="record of cell a"):
        sealed.unseal(text.encode(), "b" * 16, "x")


def test_the_examples_of_the_documentation_run(root, cells, tmp_path, monkeypatch):
    text = (root / "docs/storage.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    merge(cells, cells, Store.open("work/study"))
    for example in examples:
        exec(example.replace("gs://bucket/study", f"{cells.storage}-new"), {})
    assert len(examples) == 2 and len(Store.open("work/both").frame()) == 3
    assert Store.open(f"{cells.storage}-new").storage.read_text("notes/a.txt") == "text"


def test_a_folder_without_results_is_no_store_to_read(cells, tmp_path):
    assert Store.existing(cells.storage.url).keys()
    with pytest.raises(AmuroError, match=r"no results here\n  where: .*nothing"):
        Store.existing(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "study.json").write_text("{}")
    assert not Store.existing(tmp_path / "begun").keys()
