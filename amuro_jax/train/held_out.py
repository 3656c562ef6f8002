"""Rows of a training set that are kept out of training: their loss chooses among learning rates."""

import functools

import jax

from amuro_jax.config import Recipe, TrainRun
from amuro_jax.data.streamed import Streamed
from amuro_jax.errors import ConfigError
from amuro_jax.models.config import ModelConfig
from amuro_jax.train.fine_tune import trainable_of
from amuro_jax.train.once import each_once


def split(examples, rows: int | None) -> tuple:
    """(examples to train on, held-out ones): the last `rows` of the subsample are held out.

    Raises:
        ConfigError: nothing would be left to train on, or the set is encoded while it is trained
            on.
    """
    if rows is None:
        return examples, []
    where = "config.recipe.held_out_rows"
    if isinstance(examples, Streamed):
        raise ConfigError("a set of this size is not held in memory", where=where, hint="set rows")
    if rows >= len(examples):
        raise ConfigError(
            f"{rows} of {len(examples)} usable rows held out: nothing is left to train on",
            where=where,
        )
    return examples[:-rows], examples[-rows:]


def loss_of(
    params: dict,
    config: ModelConfig,
    examples: list,
    recipe: Recipe,
    run: TrainRun = TrainRun(),
    *,
    mesh=None,
    weigh_examples: bool = False,
) -> float:
    """What a recipe minimises, on examples that were held out.

    Args:
        params: the tuned model's, on `mesh`; an adapter beside its kernels.
    """
    how = {"mesh": mesh, "weigh_examples": weigh_examples, "trainable": trainable_of(recipe)}
    total = weight = 0.0
    for batch, known in each_once(config, examples, recipe, run, **how):
        loss, count = _sums(params, batch, **known)
        total, weight = total + float(loss), weight + float(count)
    return total / weight


@functools.partial(jax.jit, static_argnames=("objective", "config", "compute"))
def _sums(params, batch, *, objective, config, compute):
    loss, (weight, _) = objective.sums(params, batch, config=config, compute=compute)
    return loss, weight
