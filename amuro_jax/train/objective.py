"""What a training step minimises: how examples become a batch, and the loss as sums.

An objective is a frozen, hashable value: one compiled step serves every run that has the same one.
"""

import dataclasses
from typing import Protocol

from amuro_jax.data.streamed import Streamed
from amuro_jax.errors import DataError
from amuro_jax.models.config import ModelConfig
from amuro_jax.train.batches import LanguageCollator, PackedCollator
from amuro_jax.train.compute import Compute
from amuro_jax.train.loss import loss_sums

CHECKED = 64  # examples of a streamed set that are looked at before the run


class Objective(Protocol):
    """The interface between a training step and its loss. Implementations are hashable.

    Attributes:
        packs: whether several examples may share a row.
    """

    packs: bool

    def check(self, examples: list, config: ModelConfig) -> None:
        """Raises a `DataError` on examples that cannot be trained on."""

    def collator(self, examples: list, weigh_examples: bool = False, packed: int | None = None):
        """`collate(chosen examples, rows) -> Batch`, in few shapes for all of `examples`.

        Args:
            packed: several examples per row, rows a multiple of it; None: one per row.
        """

    def sums(self, params: dict, batch: dict, *, config: ModelConfig, compute: Compute):
        """(sum of losses, (sum of weights, {metric: weighted sum})) of a (micro-)batch, in fp32.

        The step divides each sum by the sum of weights once, after micro-batches and devices.
        """


@dataclasses.dataclass(frozen=True)
class LanguageModelling:
    """Cross entropy of the tokens behind the loss mask: supervised fine-tuning, pre-training."""

    packs = True

    def check(self, examples: list, config: ModelConfig) -> None:
        """Raises a `DataError`: no examples, nothing to learn, or a row longer than the context."""
        if not examples:
            raise DataError("no training examples", where="training set")
        if isinstance(examples, Streamed):  # cut to the context as they are encoded
            examples = examples[:CHECKED]
        if not any(example.loss_mask[1:].any() for example in examples):
            raise DataError(
                "no example has a token to learn",
                where="training set",
                hint="completions are empty, or cut off by max_length",
            )
        check_lengths(examples, config)

    def collator(self, examples: list, weigh_examples: bool = False, packed: int | None = None):
        """Right-padded rows of one example, or rows of several."""
        if packed is not None:
            return PackedCollator(packed, weigh_examples)
        return LanguageCollator.of(examples, weigh_examples)

    def sums(self, params: dict, batch: dict, *, config: ModelConfig, compute: Compute):
        """Sums over predicted tokens; `batch` holds the arrays of `train.batches.Batch`."""
        loss, (weight, hits) = loss_sums(params, batch, config=config, compute=compute)
        return loss, (weight, {"accuracy": hits})


def check_lengths(examples: list, config: ModelConfig) -> None:
    """Raises a `DataError` on an example that is longer than the model's context."""
    longest = max(examples, key=lambda example: len(example.tokens))
    if len(longest.tokens) > config.max_length:
        raise DataError(
            f"{len(longest.tokens)} tokens, the model's context is {config.max_length}",
            where=f"row {longest.row}",
            hint="lower max_length",
        )
