"""Which scores of two stores differ, by how much, and what was made differently. No jax."""

import numpy as np
import pandas as pd

from amuro_jax.config import to_dict
from amuro_jax.evals.statistics import paired
from amuro_jax.results.store import IDENTITY, Store

COLUMNS = {
    "found_in": "a, b or both",
    "key_a": "key in the first store",
    "key_b": "key in the second store",
    "value_a": "score in the first store",
    "value_b": "score in the second store",
    "difference": "b − a",
    "stderr": "standard error of the difference: paired over the rows where both have the same "
    "ones, else of two independent scores",
    "low": "lower end of the 95 % interval of the difference",
    "high": "upper end of that interval",
    "p": "two-sided p-value of no difference",
    "rows": "rows that both have, on which the difference is paired; 0: not paired",
    "differs": "what the two were made with that is not the same: series, weights, data, "
    "tokenizer, protocol, scoring, code, source",
}


def diff(first: Store, second: Store, resamples: int = 1000) -> pd.DataFrame:
    """One line per score that is in one store only, or in both with another value: `suite`,
    `IDENTITY` and `COLUMNS`.

    Cells are paired by key, those that are left by their series and what they are a number of
    (another protocol or other data make another key). Where each store has one series left, they
    are taken to be the same one in two places, and `differs` says `series`.
    """
    a, b = (store.frame()[["key", "value", *_PLACE]] for store in (first, second))
    shared = a.merge(b[["key", "value"]], on="key", suffixes=("_a", "_b"))
    shared = shared.rename(columns={"key": "key_a"}).assign(key_b=shared["key"])
    parts, alone = [shared], _left(a, b, shared)
    for by in (_PLACE, _PLACE[1:]):
        if by == _PLACE or all(frame["suite"].nunique() == 1 for frame in alone):
            parts.append(_paired(*alone, by))
            alone = _left(*alone, parts[-1])
    lost = [
        frame.rename(columns={"key": f"key_{name}", "value": f"value_{name}"})
        for name, frame in zip("ab", alone, strict=True)
    ]
    columns = ["key_a", "key_b", "value_a", "value_b", *_PLACE]
    parts = [one.reindex(columns=columns) for one in (*parts, *lost) if len(one)]
    table = pd.concat(parts, ignore_index=True) if parts else shared.reindex(columns=columns)
    table["difference"] = (table["value_b"] - table["value_a"]).astype(float)
    table["found_in"] = np.where(
        table["key_a"].isna(), "b", np.where(table["key_b"].isna(), "a", "both")
    )
    same = (table["value_a"] == table["value_b"]) | (
        table["value_a"].isna() & table["value_b"].isna()
    )
    table = table[~(same & (table["found_in"] == "both"))]
    table = table.sort_values([*_PLACE[1:], "suite"], ignore_index=True)
    more = [_compare(first, second, line, resamples) for line in table.itertuples()]
    table[["stderr", "low", "high", "p", "rows", "differs"]] = pd.DataFrame(
        more, columns=["stderr", "low", "high", "p", "rows", "differs"], index=table.index
    )
    return table[[*_PLACE, *COLUMNS]]


_PLACE = ["suite", *IDENTITY, "metric"]


def _left(a, b, pairs):
    """What of two tables is in no pair yet."""
    return [
        frame[~frame["key"].isin(set(pairs[f"key_{name}"]))] for name, frame in (("a", a), ("b", b))
    ]


def _paired(a, b, by):
    """Lines of two tables that agree in the columns `by`; several of one kind are paired in the
    order of their keys. The series is that of the first.
    """
    numbered = [
        frame.assign(at=frame.sort_values("key").groupby(by, dropna=False).cumcount())
        for frame in (a, b)
    ]
    other = numbered[1][["key", "value", "at", *by]]
    return numbered[0].merge(other, on=[*by, "at"], suffixes=("_a", "_b")).drop(columns="at")


def _compare(first, second, line, resamples):
    nothing = (np.nan, np.nan, np.nan, np.nan, 0)
    if line.found_in != "both":
        return *nothing, ""
    records = first.read(line.key_a), second.read(line.key_b)
    return *_uncertainty(first, second, line, records, resamples), ", ".join(_differing(*records))


def _uncertainty(first, second, line, records, resamples):
    scores = [
        _scores(store, key, record)
        for store, key, record in zip(
            (first, second), (line.key_a, line.key_b), records, strict=True
        )
    ]
    if all(one is not None for one in scores) and scores[0].index.equals(scores[1].index):
        interval = paired(scores[0], scores[1], resamples)
        return interval.stderr, interval.low, interval.high, interval.p_bootstrap, interval.n
    errors = [record.metrics.get("stderr") for record in records]
    if any(error is None for error in errors):
        return np.nan, np.nan, np.nan, np.nan, 0
    from scipy import stats

    error = float(np.hypot(*errors))
    half = stats.norm.ppf(0.975) * error
    p = 2 * stats.norm.sf(abs(line.difference) / error) if error else float(line.difference == 0)
    return error, line.difference - half, line.difference + half, float(p), 0


def _scores(store, key, record):
    if record.imported and store.is_imported(key):
        return None
    return store.rows(key, ["row", "score"]).set_index("row")["score"].sort_index()


def _differing(one, other):
    """Parts of what determines a number that differ between two records."""
    origin = one.provenance, other.provenance
    parts = {
        "series": [record.model.suite for record in (one, other)],
        "weights": [record.model for record in origin],
        "data": [record.data for record in origin],
        "tokenizer": [record.tokenizer for record in origin],
        "protocol": [(record.protocol, record.switches) for record in (one, other)],
        "scoring": [_scoring(record) for record in (one, other)],
        "code": [(record.code, record.jax, record.devices) for record in origin],
        "source": [(record.imported, _source(record)) for record in (one, other)],
    }
    return [name for name, (a, b) in parts.items() if a != b]


def _scoring(record):
    """What of the scoring is neither protocol nor rows' data."""
    if record.scoring is None:
        return None
    values = to_dict(record.scoring)
    return {name: values[name] for name in values if name not in ("protocol", "quirks")}


def _source(record):
    return record.provenance.checkpoint.get("source_sha256", "") if record.imported else ""
