"""Two stores into one. No jax."""

import concurrent.futures
import dataclasses

import pandas as pd

from amuro_jax.errors import DataError
from amuro_jax.results import imported, sealed
from amuro_jax.results.store import IDENTITY, Store

_WRITERS = 16  # cells copied at the same time to or from an object store, which answers in parallel
_NAMED = 5  # conflicts that an error names


@dataclasses.dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        gained: cells that the third store did not have.
        conflicts: one line per cell with two values: key, suite, columns of `IDENTITY`,
            value_a, value_b (of the two stores, or the third's and one of theirs), and `stores`,
            which they are.
    """

    gained: int
    conflicts: pd.DataFrame


def conflicts(first: Store, second: Store, into: Store) -> pd.DataFrame:
    """Cells of which two of the stores have different values; see `Merged`."""
    values = {"A": _values(first), "B": _values(second), "C": _values(into)}
    clashes = []
    for one, other in (("A", "B"), ("C", "A"), ("C", "B")):
        both = values[one].merge(values[other][["key", "value"]], on="key", suffixes=("_a", "_b"))
        same = (both["value_a"] == both["value_b"]) | (
            both["value_a"].isna() & both["value_b"].isna()
        )
        clashes.append(both[~same].assign(stores=f"{one} {other}"))
    table = pd.concat(clashes, ignore_index=True).drop_duplicates("key")
    return table[["key", "suite", *IDENTITY, "value_a", "value_b", "stores"]]


def merge(first: Store, second: Store, into: Store, keep: str = "") -> Merged:
    """Copies the finished cells of two stores into a third, which may be one of them. Logs and
    plans are not merged.

    Args:
        keep: of a cell with two values: "a", "b" take that store's; "": none is accepted.

    A cell that several have must have the same numbers in all. Nothing is written before that is
    known of every cell. Rows are compared with their checksums on the way.

    Raises:
        DataError: numbers of one cell differ (the first are named), or rows are damaged.
    """
    clash = conflicts(first, second, into)
    if len(clash) and not keep:
        raise DataError(_named(clash), where=into.storage.url, hint="see `amuro diff`, or --keep")
    preferred = {"a": (first, second), "b": (second, first)}.get(keep, (first, second))
    sources, own = {}, into.keys()
    for store in preferred:
        for key in store.keys():
            sources.setdefault(key, store)
    replaced = set(clash["key"])
    chosen = [key for key in sorted(sources) if key not in own or key in replaced]
    cells = [key for key in chosen if not sources[key].is_imported(key)]
    rows = {store: _rows_sha256(store) for store in preferred}
    writers = 1 if into.storage.local and first.storage.local and second.storage.local else _WRITERS
    with concurrent.futures.ThreadPoolExecutor(writers) as pool:
        copies = pool.map(
            lambda key: _copy(sources[key], into, key, rows[sources[key]][key]), cells
        )
        for _ in copies:
            pass
    for store in reversed(preferred):  # the preferred one's imported scores are written last
        if store.storage.url != into.storage.url:
            imported.copy(store.storage, into.storage)
    into.refresh()
    return Merged(len(into.keys() - own), clash)


def _rows_sha256(store):
    """Per finished cell the checksum of its rows, which its record had when it was indexed."""
    frame = store.query(columns=["key", "rows_sha256"])
    return dict(zip(frame["key"], frame["rows_sha256"], strict=True))


def _copy(source, into, key, rows_sha256):
    files = {sealed.RECORD: source.record_bytes(key)}
    if not pd.isna(rows_sha256):
        files[sealed.ROWS] = source.rows_bytes(key, rows_sha256)
    into.cell(key).commit(files, sealed.RECORD, into.claim)


def _values(store):
    """Per finished cell the value it is: the score, or the loss of a training."""
    frame = store.query(columns=["key", "value", "loss", "suite", *IDENTITY])
    return frame.assign(value=frame["value"].fillna(frame["loss"]).astype(float))


def _named(clash):
    lines = [
        f"  {line.key} {line.checkpoint} {line.tuned_on or 'base'} {line.task} {line.format} "
        f"{line.shots:.0f}-shot: {line.value_a:g} in {line.stores[0]}, {line.value_b:g} in "
        f"{line.stores[-1]}"
        for line in clash.head(_NAMED).itertuples()
    ]
    more = [f"  and {len(clash) - _NAMED:,} more"] if len(clash) > _NAMED else []
    return "\n".join([f"{len(clash):,} cells have two values", *lines, *more])
