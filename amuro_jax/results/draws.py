"""Bootstrap draws of cells, made when they are first asked for. No jax."""

import collections
import hashlib
from collections.abc import Callable, Hashable, Mapping

import numpy as np
import pandas as pd

from amuro_jax.evals.statistics import bootstrap_means

# Cells of one set, format and number of shots whose draws are made together: they share the
# resampled rows (as the others of the set do: the seed is the set's and its rows').
CHUNK = 256
MOST_BYTES = 1 << 29  # of draws that are kept; the chunk that was used longest ago goes first


class PairedDraws(Mapping):
    """Bootstrap means [R] per cell key.

    Cells of the same set and the same rows are resampled with the same rows, so that any function
    of several cells is paired. A cell without rows has normal draws around its value with its
    standard error, paired with nothing; NaN where it has no standard error either.

    Args:
        cells: with key and task; value and stderr for cells without rows.
        scores: a cell's scores by row, from its key; None for a cell without rows.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        scores: Callable[[str], pd.Series | None],
        resamples: int,
        most_bytes: int = MOST_BYTES,
    ):
        self._scores, self._resamples = scores, resamples
        self._made: collections.OrderedDict[Hashable, dict] = collections.OrderedDict()
        self._most_chunks = max(1, most_bytes // (CHUNK * 8 * resamples))
        self._normal = {}
        if {"value", "stderr"} <= set(cells.columns):
            self._normal = dict(
                zip(cells["key"], zip(cells["value"], cells["stderr"], strict=True), strict=True)
            )
        self._chunk_of, self._keys = dict.fromkeys(cells["key"]), {}
        views = [name for name in ("task", "format", "shots") if name in cells.columns]
        for view, keys in cells.groupby(views, sort=False)["key"].agg(list).items():
            for start in range(0, len(keys), CHUNK):
                chunk = (*view, start)
                self._keys[chunk] = keys[start : start + CHUNK]
                self._chunk_of |= dict.fromkeys(self._keys[chunk], chunk)

    def __getitem__(self, key: str) -> np.ndarray:
        chunk = self._chunk_of[key]
        if chunk not in self._made:
            self._made[chunk] = self._make(chunk)
            while len(self._made) > self._most_chunks:
                self._made.popitem(last=False)
        self._made.move_to_end(chunk)
        return self._made[chunk][key]

    def __iter__(self):
        return iter(self._chunk_of)

    def __len__(self):
        return len(self._chunk_of)

    def _make(self, chunk):
        draws, by_rows = {}, {}
        for key in self._keys[chunk]:
            series = self._scores(key)
            if series is None:
                draws[key] = normal_draws(key, *self._normal[key], self._resamples)
            else:
                rows = tuple(series.index)
                by_rows.setdefault(rows, []).append((key, series.to_numpy(np.float64)))
        for rows, members in by_rows.items():
            text = f"{chunk[0]} {rows}".encode()
            seed = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
            values = np.stack([values for _, values in members], axis=1)
            means = bootstrap_means(values, self._resamples, seed)
            draws |= {key: means[:, index] for index, (key, _) in enumerate(members)}
        return draws


def normal_draws(key: str, value: float, stderr: float, resamples: int) -> np.ndarray:
    """Draws of a score without rows, from its key; NaN without a standard error."""
    if pd.isna(stderr) or pd.isna(value):
        return np.full(resamples, np.nan)
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(value, stderr, resamples)
