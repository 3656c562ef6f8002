"""Rows from the `datasets` library, whose cache on disk is not trusted: it reads a file that lost
its end, or some bytes, without a word.
"""

from pathlib import Path

from amuro_jax import files
from amuro_jax.errors import AmuroError, DataError


def load(*name: str | None, split: str, **options) -> list[dict]:
    """Rows of one split, `name` and options as `datasets.load_dataset` takes them; a cache that is
    not what it was when first read is fetched again.

    Raises:
        DataError: fetched again, the rows are still not as many as the set says.
    """
    import datasets
    import pyarrow as pa

    try:
        return _rows(datasets.load_dataset(*name, split=split, **options), split)
    except (ConnectionError, FileNotFoundError):
        raise  # no such set, or no network: nothing is wrong with the cache
    except (DataError, OSError, pa.ArrowInvalid):
        fresh = datasets.DownloadMode.FORCE_REDOWNLOAD
        return _rows(
            datasets.load_dataset(*name, split=split, download_mode=fresh, **options), split
        )


def _rows(dataset, split):
    paths = [Path(entry["filename"]) for entry in dataset.cache_files]
    info = (dataset.info.splits or {}).get(split)
    if info is not None and info.num_examples != len(dataset):
        raise DataError(
            f"{len(dataset)} rows where {info.num_examples} belong",
            where=paths[0] if paths else split,
        )
    for path in paths:
        _check(path)
    return dataset.to_list()


def _check(path):
    """Compares a cached file with its hash of the first reading, which lies beside it."""
    note, digest = path.with_name(path.name + ".sha256"), files.sha256_file(path)
    if not note.is_file():
        try:
            files.write_text(note, digest)
        except AmuroError:
            return  # a cache that may only be read keeps no note
    elif note.read_text() != digest:
        raise DataError("the cached file is not what it was", where=path)
