"""What a work folder and the cache hold that nothing needs any more."""

import dataclasses
import shutil
import time
from pathlib import Path

from amuro_jax.convert.resolver import default_cache
from amuro_jax.errors import AmuroError
from amuro_jax.results.plan import read_plan
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import queue
from amuro_jax.study.status import comes_from_several, place_of

DAY = 86_400.0
# A folder in the cache that is this fresh may be in the making, whatever age is asked for.
FRESH_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True)
class Removal:
    """Something that may go.

    Attributes:
        where: path or URL.
        size: bytes.
        why: it is not needed.
    """

    where: str
    size: int
    why: str


def in_workdir(workdir, *, days: float, dry_run: bool) -> list[Removal]:
    """Removes from a work folder: fine-tuned models that no unfinished score waits for, states of
    finished trainings, compiled programs that were written `days` ago or earlier.

    Args:
        dry_run: removes nothing.

    Raises:
        AmuroError: a process is at work there.
    """
    storage = Storage.open(workdir)
    owners = queue.holders(storage)
    if owners and not dry_run:
        at_work = sorted({f"process {one['pid']} on {one['host']}" for one in owners.values()})
        raise AmuroError(
            f"{', '.join(at_work)} is at work here",
            where=storage.url,
            hint="wait for it; --dry_run may be asked at any time",
        )
    removable = [*_models(storage), *_states(storage), *_programs(storage, days)]
    for name, _ in [] if dry_run else removable:
        storage.delete(name)
    return [one for _, one in removable]


def _models(storage):
    plan, store = read_plan(storage), Store(storage)
    done = store.keys()
    awaited = [cell.model for cell in (plan.cells if plan else ()) if cell.key not in done]
    waiting = {place_of(model) for model in awaited}
    # Made of several trainings, or chosen among them: all of these are waited for.
    several = {_trained_as(model) for model in awaited if comes_from_several(model.variant)}
    trained = {record.key: record.model for record in store.records("train")}
    for key, size in _folders(storage, "models").items():
        if key not in trained or _trained_as(trained[key]) in several:
            continue
        if place_of(trained[key]) not in waiting:
            name = f"models/{key}"
            yield name, Removal(storage.where(name), size, "every score of the model is finished")


def _trained_as(model):
    return model.checkpoint, model.tuned_on


def _states(storage):
    trained = set(Store(storage).query({"kind": "train"}, ["key"])["key"])
    for key in _folders(storage, "runs"):
        name = f"runs/{key}/state"
        size = sum(size for size, _ in storage.listing(name).values())
        if key in trained and size:
            yield name, Removal(storage.where(name), size, "the training is finished")


def _programs(storage, days):
    folder = storage.child("programs")
    if folder.local is None:
        return
    for name, (size, _) in folder.listing().items():
        age = (time.time() - (folder.local / name).stat().st_mtime) / DAY
        if age >= days:
            where = folder.where(name)
            yield f"programs/{name}", Removal(where, size, f"compiled {age:.0f} days ago")


def _folders(storage, parent):
    """Name → bytes of the folders in a folder."""
    sizes: dict[str, int] = {}
    for name, (size, _) in storage.listing(parent).items():
        key = name.removeprefix(f"{parent}/").partition("/")[0]
        sizes[key] = sizes.get(key, 0) + size
    return sizes


def in_cache(cache: Path | None = None, *, days: float, dry_run: bool) -> list[Removal]:
    """Removes conversions from the cache that nothing has read or written for `days`; they are made
    again when they are asked for.
    """
    removable = []
    for folder in sorted((cache or default_cache()).glob("converted/*")):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        stats = [file.stat() for file in folder.rglob("*") if file.is_file()]
        used = max((max(one.st_atime, one.st_mtime) for one in stats), default=0.0)
        age = time.time() - used
        if age >= max(days * DAY, FRESH_SECONDS):
            size = sum(one.st_size for one in stats)
            removable.append(Removal(str(folder), size, f"not used for {age / DAY:.0f} days"))
            if not dry_run:
                shutil.rmtree(folder)
    return removable
