"""Stores of imported curves: published tables where the real data lie, and tables made by hand."""

import functools
import tempfile

import pandas as pd

from amuro_jax.analyses.registry import tables_of
from amuro_jax.interchange.columns import import_csv
from amuro_jax.results import loading
from amuro_jax.results.results import Results

PYTHIA_TOKENS = 2_097_152  # per step


@functools.cache
def pythia_tables(shared):
    """Every analysis's table on Pythia's scores, made once per process."""
    with tempfile.TemporaryDirectory() as folder:
        import_csv(shared / "pythia_evals.csv.gz", folder, tokens_per_step=PYTHIA_TOKENS)
        return tables_of(loading.load(folder, 200))


def ladder(shared, folder, *runs) -> Results:
    """Some runs of the model ladder; the kind is the metric."""
    table = pd.read_csv(shared / "olmo_ladder.csv.gz")
    return made(folder, table[table["run"].isin(runs)])


def made(folder, table) -> Results:
    """Results of a table of scores, through the importer."""
    path = folder / "table.csv"
    table.to_csv(path, index=False)
    import_csv(path, folder / "store")
    return loading.load(folder / "store", 200)
