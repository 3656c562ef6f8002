"""The next checkpoint is fetched and converted while the current one is in use.

A disk budget evicts what nobody needs any more.
"""

import concurrent.futures
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from amuro_jax.convert import resolver
from amuro_jax.errors import AmuroError, ConfigError


class Prefetcher:
    """Iterates over the converted folders of `names`, one ahead in a thread; use it in a `with`
    block.

    `next()` releases the folder given before. An error of a checkpoint is raised when its turn
    comes, and the iteration can go on after it; `name` says whose turn it is. Only conversions and
    downloads made under `cache_dir` are ever deleted, never a folder that a name points to.

    Args:
        names: what `open_checkpoint` takes, in the order of use. An iterator is asked for one name
            at a time, in the thread, and may wait before it gives one.
        budget: bytes that conversions and downloads of these names may take together; 0: no limit.
        finished: names of an earlier run that are needed no more: evicted first.
        options: of `open_checkpoint` (offline, token, tokenizer).
    """

    def __init__(self, names, cache_dir=None, *, budget: int = 0, finished=(), **options):
        self._names, self._budget, self._options = [], budget, options
        self._known = [str(name) for name in names] if isinstance(names, list | tuple) else None
        self._source = iter(names)
        self._cache = Path(cache_dir) if cache_dir else resolver.default_cache()
        self._turn, self._stopped = -1, False
        self._changed = threading.Condition()
        self._pool = concurrent.futures.ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="prefetch"
        )
        self._futures: dict[int, concurrent.futures.Future] = {}
        self._made: dict[str, Path] = {}  # name → its folder in the cache
        for name in map(str, finished):
            if folder := resolver.find_converted(name, self._cache, **self._options):
                self._remember(name, folder)

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_):
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Path]:
        return self

    def is_ready(self, seconds: float) -> bool:
        """Whether the next folder, or the end, is known within some seconds."""
        future = self._futures.get(self._turn + 1)
        return future is not None and bool(concurrent.futures.wait([future], seconds).done)

    def __next__(self) -> Path:
        with self._changed:
            self._turn += 1
            self._changed.notify_all()
        for index in (self._turn, self._turn + 1):
            if index not in self._futures:
                self._futures[index] = self._pool.submit(self._fetch, index)
        folder = self._futures.pop(self._turn).result()
        if folder is None:
            raise StopIteration
        return folder

    @property
    def name(self) -> str:
        """The name whose folder `next()` gave, or whose error it raised."""
        return self._names[self._turn]

    def _fetch(self, index) -> Path | None:
        name = next(self._source, None)
        if name is None:
            return None
        name = str(name)
        self._names.append(name)
        folder = resolver.find_converted(name, self._cache, **self._options)
        if folder is None:
            self._make_room(index, name)
            folder = resolver.open_checkpoint(
                name, self._cache, progress=self._watch, **self._options
            )
            if self._budget:
                resolver.forget_download(name, self._cache, **self._options)
        self._remember(name, folder)
        return folder

    def _remember(self, name, folder):
        if folder.resolve().parent == (
            self._cache / "converted"
        ).resolve() and folder != resolver.find_folder(name):
            self._made[name] = folder

    def _watch(self, *_):
        if self._stopped:
            # The conversion removes what it has written.
            raise AmuroError("stopped", where="prefetch")

    def _make_room(self, index, name):
        """Evicts what is not needed soon; waits for the folder in use where that is not enough.

        Raises:
            ConfigError: one checkpoint alone is larger than the budget.
        """
        if not self._budget:
            return
        needed = resolver.disk_needed(name, self._cache, **self._options)
        if needed > self._budget:
            raise ConfigError(
                f"one checkpoint takes {needed / 1e9:.3g} GB, the disk budget is "
                f"{self._budget / 1e9:.3g} GB",
                where=name,
                hint="raise the budget",
            )
        with self._changed:
            while not self._stopped and not self._evict(index, self._budget - needed):
                self._changed.wait()
        self._watch()

    def _evict(self, index, room) -> bool:
        """Deletes folders until the rest fits in `room`, the one that is needed last first.

        Whether it fits.
        """
        in_use = set(self._names[max(self._turn, 0) : index])
        sizes = {name: folder_bytes(folder) for name, folder in self._made.items()}
        for name in sorted(set(self._made) - in_use, key=lambda name: -self._next_use(name, index)):
            if sum(sizes.values()) <= room:
                break
            shutil.rmtree(self._made.pop(name), ignore_errors=True)
            del sizes[name]
        return sum(sizes.values()) <= room

    def _next_use(self, name, index):
        later = (self._known or self._names)[index:]
        return later.index(name) if name in later else len(later)


def folder_bytes(folder) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
