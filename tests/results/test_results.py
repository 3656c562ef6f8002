"""Cells of a study beside those it wants, and draws that pair every comparison."""

import numpy as np
import pandas as pd

from amuro_jax.results import results
from amuro_jax.results.results import PairedDraws
from amuro_jax.results.store import Store
from tests.study import synthetic


def test_draws_are_made_for_a_set_when_it_is_asked_for():
    cells = pd.DataFrame({"key": ["a", "b", "c"], "task": ["one", "two", "one"]})
    rows = {key: pd.Series(np.arange(4.0) * at) for at, key in enumerate("abc")}
    asked = []
    draws = PairedDraws(cells, lambda key: (asked.append(key), rows[key])[1], 50)
    assert list(draws) == ["a", "b", "c"] and len(draws) == 3 and asked == []
    assert draws["c"].shape == (50,) and draws["a"].std() == 0 and asked == ["a", "c"]
    assert draws["b"].shape == (50,) and asked == ["a", "c", "b"]


def test_damaged_cells_are_missing_by_name_and_the_others_are_there(tmp_path):
    synthetic.make_store(tmp_path, rows=12, steps=(16, 1600))
    whole, store = results.load(tmp_path, 20), Store.open(tmp_path)
    emptied, cut, flipped = whole.cells["key"].drop_duplicates()[:3]
    store.cell(emptied).replace("cell.json", "")
    rows = store.cell(cut).read_bytes("rows.parquet")
    store.cell(cut).replace("rows.parquet", rows[:-9])
    rows = store.cell(flipped).read_bytes("rows.parquet")
    store.cell(flipped).replace("rows.parquet", rows[:40] + bytes([rows[40] ^ 1]) + rows[41:])
    found = results.load(tmp_path, 20)
    lost = found.missing.set_index("key")["why"]
    assert set(lost.index) == {emptied, cut, flipped} and lost.str.startswith("damaged").all()
    assert "empty" in lost[emptied] and "bytes" in lost[cut] and "checksum" in lost[flipped]
    assert len(found.cells) == len(whole.cells) - 3
    same = whole.cells["key"].isin(found.cells["key"])
    assert list(found.cells["value"]) == list(whole.cells[same]["value"])
