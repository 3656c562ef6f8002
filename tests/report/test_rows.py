"""The rows behind a score, as the page's script gets them."""

import numpy as np
import pytest

from amuro_jax.report import rows
from amuro_jax.results import loading, pooled
from amuro_jax.results.store import Store
from tests.study import synthetic


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three training seeds."""
    folder = tmp_path_factory.mktemp("seeds")
    synthetic.make_store(folder, rows=12, steps=(16, 160), seeds=(1, 2, 5))
    return Store.open(folder), loading.load(folder)


def test_a_mean_over_seeds_has_the_rows_of_every_seed(study):
    store, found = study
    cells = found.cells[(found.cells["tuned_on"] == "lab_nli") & (found.cells["task"] == "lab_nli")]
    cell = cells.iloc[-1]
    columns = rows.columns_of_score(store, cell["key"])
    assert columns["seeds"]["seed"] == [1, 2, 5]
    for place, key in enumerate(pooled.members(cell["key"])):
        frame = store.rows(key)
        assert columns["seeds"]["score"][place] == frame["score"].tolist()
        assert columns["seeds"]["prediction"][place] == frame["prediction"].tolist()
    of_seeds = np.array(columns["seeds"]["score"])
    assert columns["score"] == pytest.approx(of_seeds.mean(axis=0), abs=1e-4)
    assert len(set(map(tuple, of_seeds))) > 1  # the seeds differ
    assert np.mean(columns["score"]) == pytest.approx(cell["value"], abs=1e-3)


def test_a_score_of_one_model_names_no_seeds(study):
    store, found = study
    base = found.cells[found.cells["tuned_on"] == ""].iloc[0]
    assert "seeds" not in rows.columns_of_score(store, base["key"])
