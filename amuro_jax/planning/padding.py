"""What a training step computes of a set's rows, padding included: batches of rows of such lengths,
made by the run's own code.
"""

import dataclasses
import functools

import numpy as np

from amuro_jax.config import Loss, Recipe, TrainRun
from amuro_jax.data.types import TrainExample
from amuro_jax.models.cost import Amount, causal_row
from amuro_jax.planning.sets import TrainingRows
from amuro_jax.train.batches import PACKING_SAMPLE, Batches, steps_per_epoch
from amuro_jax.train.fine_tune import packs
from amuro_jax.train.objective import LanguageModelling


@dataclasses.dataclass(frozen=True)
class Computed:
    """A step of mean size.

    Attributes:
        amount: work of its arrays, padding included.
        ratio: tokens of the arrays for each real one.
        packed: several examples share a row.
        shapes: different ones, of the steps that were looked at; each is compiled once.
    """

    amount: Amount
    ratio: float
    packed: bool
    shapes: int


@functools.lru_cache(maxsize=64)
def computed(rows: TrainingRows, recipe: Recipe, run: TrainRun, multiple: int) -> Computed:
    """What a step computes whose rows are a multiple of `multiple` (batch shards × micro-batches),
    over the first steps of an epoch.
    """
    examples, objective = _examples(rows), LanguageModelling()
    steps = steps_per_epoch(rows.rows, recipe.batch_size) * recipe.epochs
    packed = recipe.loss != Loss.DPO and packs(examples, recipe, run, objective, multiple, steps)
    collator = objective.collator(examples, packed=multiple if packed else None)
    count = examples_of(recipe)
    source = Batches(examples, count, 1, recipe.seed, multiple, collator)
    batches = [source[step] for step in range(min(source.total, PACKING_SAMPLE))]
    amounts = [_whole_rows(batch) for batch in batches]
    total = functools.reduce(Amount.__add__, amounts)
    real = sum(batch.amount.tokens for batch in batches)
    shapes = {(batch.tokens.shape, batch.target.shape) for batch in batches}
    return Computed(total.times(1 / len(batches)), total.tokens / real, packed, len(shapes))


def examples_of(recipe: Recipe) -> int:
    """Sequences of a step: of preference pairs two answers each."""
    return recipe.batch_size * (2 if recipe.loss == Loss.DPO else 1)


def _examples(rows):
    share, examples = rows.targets / rows.mean, []
    for number, length in enumerate(rows.lengths):
        learned = max(1, round(share * length))
        mask = np.arange(length) >= length - learned
        examples.append(TrainExample(np.zeros(length, np.int32), mask, number))
    return examples


def _whole_rows(batch):
    count, length = batch.tokens.shape
    row = causal_row(length, batch.target.shape[1])
    return row.times(count)
