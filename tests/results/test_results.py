"""Cells of a study beside those it wants, and draws that pair every comparison."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.config import EvalSet, FineTune, ProtocolName, Role, Scoring
from amuro_jax.errors import DataError
from amuro_jax.results import draws, loading
from amuro_jax.results.draws import PairedDraws
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


def test_draws_are_the_same_in_chunks_and_after_they_were_let_go(monkeypatch):
    cells = pd.DataFrame({"key": list("abcde"), "task": "one"})
    rows = {key: pd.Series(np.random.default_rng(at).random(9)) for at, key in enumerate("abcde")}
    whole = {key: value for key, value in PairedDraws(cells, rows.get, 40).items()}
    monkeypatch.setattr(draws, "CHUNK", 2)
    small = PairedDraws(cells, rows.get, 40, most_bytes=1)
    for key in "abcdea":
        assert (small[key] == whole[key]).all()
    assert len(small._made) == 1


def test_a_cell_without_rows_has_normal_draws_and_none_without_a_standard_error():
    cells = pd.DataFrame(
        {
            "key": ["a", "b", "c"],
            "task": "one",
            "value": [0.5, 0.5, 0.5],
            "stderr": [0.1, 0.1, None],
        }
    )
    made = PairedDraws(cells, lambda key: None, 4000)
    assert abs(made["a"].mean() - 0.5) < 0.01 and abs(made["a"].std() - 0.1) < 0.01
    assert abs(np.corrcoef(made["a"], made["b"])[0, 1]) < 0.06  # nothing is paired
    assert np.isnan(made["c"]).all() and (made["a"] == made["a"]).all()


def test_damaged_cells_are_missing_by_name_and_the_others_are_there(tmp_path):
    synthetic.make_store(tmp_path, rows=12, steps=(16, 1600))
    whole, store = loading.load(tmp_path, 20), Store.open(tmp_path)
    emptied, cut, flipped = whole.cells["key"].drop_duplicates()[:3]
    store.cell(emptied).replace("cell.json", "")
    rows = store.cell(cut).read_bytes("rows.parquet")
    store.cell(cut).replace("rows.parquet", rows[:-9])
    rows = store.cell(flipped).read_bytes("rows.parquet")
    store.cell(flipped).replace("rows.parquet", rows[:40] + bytes([rows[40] ^ 1]) + rows[41:])
    late = loading.load(tmp_path, 20)  # reads no rows before they are needed
    assert set(late.missing["key"]) == {emptied, cut}
    with pytest.raises(DataError, match="checksum"):
        late.draws[flipped]
    found = loading.load(tmp_path, 20, check_rows=True)
    lost = found.missing.set_index("key")["why"]
    assert set(lost.index) == {emptied, cut, flipped} and lost.str.startswith("damaged").all()
    assert "empty" in lost[emptied] and "bytes" in lost[cut] and "checksum" in lost[flipped]
    assert len(found.cells) == len(whole.cells) - 3
    same = whole.cells["key"].isin(found.cells["key"])
    assert list(found.cells["value"]) == list(whole.cells[same]["value"])


def test_the_first_way_of_tuning_stands_for_its_set_whatever_it_is_called(tmp_path):
    evals = (EvalSet("lab_nli", Role.IN_DOMAIN),)
    ways = (FineTune("lab_nli", variant="full"), FineTune("lab_nli", variant="low"))
    synthetic.make_store(tmp_path, rows=12, steps=(16, 1600), fine_tunes=ways, evals=evals)
    found = loading.load(tmp_path, 20)
    assert found.find("step16", "lab_nli", "lab_nli")["variant"] == "full"
    assert found.find("step16", "lab_nli", "lab_nli", variant="low")["variant"] == "low"
    assert found.find("step16", "lab_nli", "lab_nli", variant="") is None
    assert found.find("step16", "", "lab_nli")["tuned_on"] == ""


@pytest.mark.parametrize(
    "scoring,on",
    [
        ({"protocol": ProtocolName.PAPER}, True),
        ({"protocol": ProtocolName.PAPER, "quirks": ("-published_averages",)}, False),
        ({"quirks": ("+published_averages",)}, True),
        ({}, False),
    ],
)
def test_a_study_says_whether_means_are_as_published(tmp_path, scoring, on):
    synthetic.make_store(tmp_path, rows=6, steps=(16,), scoring=Scoring(**scoring))
    found = loading.load(tmp_path, 20)
    assert found.published_averages is on
    assert (found.weight("sciq_choice"), found.weight("lab_nli")) == (1 + on, 1)
