"""Which of a study's trainings are done in one program."""

import collections
from collections.abc import Iterable

from amuro_jax.config import Loss
from amuro_jax.models.parameters import abstract_params
from amuro_jax.train import memory
from amuro_jax.train.fine_tune import largest_batch, objective_of, step_of, trainable_of
from amuro_jax.train.run import TrainingData, TrainJob, stack_key

FP32 = 4  # bytes


def alike(jobs: Iterable[TrainJob]) -> list[list[TrainJob]]:
    """Jobs that may be trained in one program: of one recipe but for the learning rate, and one
    shape. Those on preference pairs may not: each has a reference of its own in its batches.
    """
    by_key = collections.defaultdict(list)
    for job in jobs:
        if job.recipe.loss != Loss.DPO:
            by_key[stack_key(job)].append(job)
    return list(by_key.values())


def groups(jobs: list[TrainJob], most: int, shards: int = 1) -> list[list[TrainJob]]:
    """Jobs that are alike, in groups of at most `most`. Those that are left over are in no group:
    they are trained by themselves.

    Args:
        shards: devices that share the members of a group, whose number is a multiple of this.
    """
    size, grouped = most - most % shards, []
    while size and len(jobs) >= max(2, shards):
        count = min(size, len(jobs) - len(jobs) % shards)
        grouped.append(jobs[:count])
        jobs = jobs[count:]
    return [group for group in grouped if len(group) > 1]


def most_stacked(job: TrainJob, data: TrainingData, mesh) -> int:
    """How many members like `job` fit the devices' memory: the step of each, and the parameters
    that it starts from.
    """
    recipe, config, examples = job.recipe, job.checkpoint.config, data.of(job).examples
    objective = objective_of(recipe)
    step = step_of(recipe, job.run, config, None, objective, trainable_of(recipe), examples)
    shape = largest_batch(examples, recipe.batch_size, objective)
    start = FP32 * memory.elements(abstract_params(config))
    needed = memory.step_bytes(step, *shape) + start
    fits = int(memory.SHARE * memory.free_bytes(mesh) // needed)
    return max(1, fits) * shards_of(mesh)


def shards_of(mesh) -> int:
    """Devices among which the members of a group are shared."""
    return 1 if mesh is None else int(mesh.shape["data"])
