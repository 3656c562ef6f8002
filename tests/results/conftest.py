"""Stores that several modules test."""

import pandas as pd
import pytest

from amuro_jax.results.store import Store
from tests.results.made import ROWS, score, training


@pytest.fixture
def cells(storage_url):
    """A store with three scores and a training."""
    made = Store.open(storage_url)
    made.commit(score("a" * 16, 0.25, 2, tuned_on="lab_nli"), ROWS)
    made.commit(score("b" * 16, 0.5, 1), pd.DataFrame(ROWS))
    made.commit(score("c" * 16, 0.75, 10, "lab_sum"), ROWS)
    made.commit(training())
    return made
