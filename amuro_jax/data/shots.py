"""Which rows are the shots before a query, and which rows are therefore not scored (quirks 1 and
18).
"""

import dataclasses
import random
import zlib

import numpy as np

from amuro_jax.data import sources
from amuro_jax.data.protocols import Protocol
from amuro_jax.data.registry import get_task
from amuro_jax.data.task import Kind, Task
from amuro_jax.data.types import Example
from amuro_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Shots:
    """Shots of one set.

    Attributes:
        examples: in prompt order.
        names: identity of each: "train:17", "test:0", "paws/train:17" where they are another set's,
            "given:0" for the user's own texts.
        task: whose rows they are; its reader decides how they are rendered.
        left_out: test rows that serve as shots and are not scored.
        pool: rows that per-instance shots are drawn from (published multiple choice); they are of
            `pool_split`.
    """

    examples: tuple[Example, ...]
    names: tuple[str, ...]
    task: Task
    left_out: frozenset[int] = frozenset()
    pool: tuple[Example, ...] = ()
    pool_split: str = "train"


def choose_shots(
    task: Task, count: int, protocol: Protocol, seed: int, data_root: str, test: list[Example]
) -> Shots:
    """The shots of a set.

    Strict: `count` rows of the training split (of the set, or of the one named in the registry),
        drawn by seed and the set's name; where
    there is no training split under `data_root`, rows of the test split, which are then not scored.
    Paper: the first rows of the test file, still scored (quirk 1); multiple choice draws per
    instance (quirk 18).

    Raises:
        DataError: fewer rows than shots.
    """
    if count == 0:
        return Shots((), (), task)
    if protocol.shots_from_test and task.kind != Kind.MULTIPLE_CHOICE:
        return Shots(
            tuple(_enough(test, count, task)[:count]),
            tuple(f"test:{row}" for row in range(count)),
            task,
        )
    owner = get_task(task.source.shots_from) if task.source.shots_from else task
    candidates = _train_examples(owner, protocol, data_root)
    if protocol.published_choices and task.kind == Kind.MULTIPLE_CHOICE:
        return Shots(
            (),
            (),
            owner if candidates else task,
            pool=tuple(candidates or test),
            pool_split="train" if candidates else "test",
        )
    rng = np.random.default_rng([seed, zlib.crc32(task.name.encode())])
    pool = _enough(candidates or test, count + (not candidates), task)
    chosen = [pool[index] for index in rng.permutation(len(pool))[:count]]
    split = "test" if not candidates else "train" if owner is task else f"{owner.name}/train"
    names = tuple(f"{split}:{example.row}" for example in chosen)
    return Shots(
        tuple(chosen),
        names,
        owner if candidates else task,
        frozenset() if candidates else frozenset(example.row for example in chosen),
    )


def _train_examples(task, protocol, data_root):
    if not task.source.train:
        return []
    if data_root and sources.split_path(task, task.source.train, data_root) is None:
        return []
    return sources.load_examples(task, sources.train_split(task, data_root), protocol)


def _enough(rows, count, task):
    if len(rows) < count:
        raise DataError(
            f"{task.name} has {len(rows)} rows to take shots from, {count} are needed",
            where=task.name,
            hint="ask for fewer shots",
        )
    return rows


def instance_shots(shots: Shots, number: int, count: int, example: Example) -> list[Example]:
    """Shots of instance `number` as the published suite draws them: sample k + 1, drop the instance
    itself, keep the first k.
    """
    drawn = random.Random(number).sample(list(shots.pool), min(count + 1, len(shots.pool)))
    return [other for other in drawn if other is not example and other.fields != example.fields][
        :count
    ]
