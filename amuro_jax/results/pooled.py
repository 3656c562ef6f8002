"""Cells of models that were tuned on one set in several ways, or with several seeds: what the
analyses see as one number. No jax.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from amuro_jax.evals.statistics import NORMAL_95

SEPARATOR = "+"  # between the keys of the cells behind a mean over seeds
IDENTITY = ["checkpoint", "tuned_on", "variant", "task", "format", "shots"]


def members(key: str) -> list[str]:
    """Keys of the stored cells behind a cell."""
    return key.split(SEPARATOR)


def first_variants(wanted: pd.DataFrame) -> dict[str, str]:
    """Fine-tuning set → the variant that stands for it in every analysis: the study's first."""
    return wanted.drop_duplicates("tuned_on").set_index("tuned_on")["variant"].to_dict()


def over_seeds(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with those that differ by the seed of their training as one line: the mean, with
    the mean standard error over rows. Its key names the keys of all.

    The seeds' spread is no part of the interval: it has a table of its own (`seeds`).
    """
    if cells["seed"].isna().all():
        return cells
    lines = [_pooled(group) for _, group in cells.groupby(IDENTITY, sort=False)]
    return pd.DataFrame(lines, columns=cells.columns).reset_index(drop=True)


def _pooled(group):
    line = group.iloc[0].to_dict()
    if len(group) == 1:
        return line
    value, stderr = float(group["value"].mean()), float(group["stderr"].mean())
    return line | {
        "seed": None,
        "key": SEPARATOR.join(group["key"]),
        "value": value,
        "stderr": stderr,
        "low": value - NORMAL_95 * stderr,
        "high": value + NORMAL_95 * stderr,
        "seconds": float(group["seconds"].sum()),
    }


def seed_values(results, cells: Sequence[dict]) -> list[np.ndarray]:
    """Of each cell the scores of the seeds that it is the mean of [S], of one model its own.

    Args:
        results: a `results.Results`, whose `every` holds the cell of each seed.
    """
    if _VALUES not in results.derived:
        every = results.cells if results.every is None else results.every
        results.derived[_VALUES] = every.drop_duplicates("key").set_index("key")["value"]
    values = results.derived[_VALUES]
    return [values.reindex(members(cell["key"])).to_numpy() for cell in cells]


_VALUES = "value of each stored cell"  # where a study's are kept


def mean_scores(scores: Callable[[str], pd.Series | None], key: str) -> pd.Series | None:
    """Scores by row of a cell, of a mean over seeds the mean score of each row.

    Args:
        scores: of a stored cell by its key; None where it has no rows.
    """
    parts = [scores(one) for one in members(key)]
    return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1).mean(axis=1)
