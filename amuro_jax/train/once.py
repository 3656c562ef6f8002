"""Examples in batches on the devices, each once: for what is measured beside a training."""

from collections.abc import Iterator

import jax

from amuro_jax.config import Recipe, TrainRun
from amuro_jax.models.config import ModelConfig
from amuro_jax.train.batches import Batches
from amuro_jax.train.fine_tune import objective_of, step_of
from amuro_jax.train.trainable import AllParameters, Trainable


def each_once(
    config: ModelConfig,
    examples: list,
    recipe: Recipe,
    run: TrainRun,
    *,
    mesh=None,
    weigh_examples: bool = False,
    trainable: Trainable = AllParameters(),
    micro: bool = False,
) -> Iterator[tuple[dict, dict]]:
    """Yields (batch, what a jitted function of it has to know: objective, config and compute).

    Args:
        micro: in the size of micro-batches, as where a gradient is taken; else whole batches.
    """
    objective = objective_of(recipe)
    step = step_of(recipe, run, config, mesh, objective, trainable, examples)
    collate = objective.collator(examples, weigh_examples)
    size, multiple = recipe.batch_size, step.row_multiple
    if micro:
        size, multiple = run.micro_batch_size or size, multiple // step.micro_batches
    batches = Batches(examples, size, 1, 0, multiple, collate)
    known = {"objective": objective, "config": config, "compute": step.compute}
    for number in range(batches.total):
        mine = step.mine if jax.process_count() > 1 else None
        yield step.place(batches.load(number, mine)), known
