"""Direct preference optimisation: pairs of answers, of which one is preferred.

Source: Rafailov et al. 2023, arXiv 2305.18290; length-normalised as in Tulu 3 (arXiv 2411.15124);
label smoothing as in conservative DPO (a share of the pairs is labelled the wrong way round).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.data.types import Pair
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.cost import Amount
from amuro_jax.train.batches import (
    TARGETS,
    Mine,
    arrays_of,
    fit_size,
    pad_batch,
    predicted_positions,
)
from amuro_jax.train.compute import Compute
from amuro_jax.train.loss import target_losses
from amuro_jax.train.objective import check_lengths


@dataclasses.dataclass(frozen=True)
class PairBatch:
    """One step's pairs: B pairs of two rows (chosen, rejected) of T tokens, N predicted at most.

    Attributes:
        tokens, position, enter, leave: int32 [B, 2, T].
        source, target: int32 [B, 2, N]; answer: float32 [B, 2, N], 1 on the answers' tokens.
        reference: float32 [B, 2], log-probabilities under the reference model.
        weight: float32 [B], 0 for padding.
        count: pairs of the whole batch, of which these may be one process's.
        amount: work of the whole batch, without padding.
    """

    tokens: np.ndarray
    position: np.ndarray
    enter: np.ndarray
    leave: np.ndarray
    source: np.ndarray
    target: np.ndarray
    answer: np.ndarray
    reference: np.ndarray
    weight: np.ndarray
    count: int
    amount: Amount

    def arrays(self) -> dict[str, np.ndarray]:
        """Field name → array."""
        return arrays_of(self)


@dataclasses.dataclass(frozen=True)
class PairCollator:
    """Pads pairs to one length; `targets`: N of every batch."""

    targets: int

    def __call__(self, chosen: Sequence[Pair], rows: int, mine: Mine | None = None) -> PairBatch:
        """The batch of `chosen`, padded to `rows` pairs, or the pairs of it that `mine` names."""
        flat = pad_batch(
            [example for pair in chosen for example in (pair.chosen, pair.rejected)],
            2 * rows,
            self.targets,
        )
        fields = {
            name: array.reshape(rows, 2, *array.shape[1:]) for name, array in flat.arrays().items()
        }
        answer, weight = fields.pop("weight"), np.zeros(rows, np.float32)
        reference = np.zeros((rows, 2), np.float32)
        weight[: len(chosen)] = 1
        reference[: len(chosen)] = [pair.reference or (0, 0) for pair in chosen]
        fields |= {"answer": answer, "reference": reference, "weight": weight}
        if mine is not None:
            fields = {name: array[mine(rows)] for name, array in fields.items()}
        return PairBatch(**fields, count=rows, amount=flat.amount)


@dataclasses.dataclass(frozen=True)
class Preference:
    """An `Objective`: −log sigmoid(beta × margin), the margin being how much more the model prefers
    the chosen answer than the reference does.

    Attributes:
        beta: how far the model may move from the reference.
        label_smoothing: share of the pairs taken to be labelled the wrong way round, below 0.5.
        length_normalised: log-probabilities are means per token of the answer.
    """

    packs = False

    beta: float = 0.1
    label_smoothing: float = 0.0
    length_normalised: bool = False

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"label_smoothing must be in [0, 0.5), got {self.label_smoothing}",
                where="label_smoothing",
            )

    def check(self, pairs: Sequence[Pair], config: ModelConfig) -> None:
        """Raises a `DataError` on a pair that teaches nothing, or is too long for the model."""
        if not pairs:
            raise DataError("no pairs", where="training set")
        for pair in pairs:
            answers = [e.tokens[predicted_positions(e)] for e in (pair.chosen, pair.rejected)]
            if not all(map(len, answers)):
                raise DataError("an answer is empty", where=f"row {pair.row}")
            if np.array_equal(*answers):
                raise DataError("chosen and rejected answer are the same", where=f"row {pair.row}")
            if pair.reference is None:
                raise DataError(
                    "the pair has no log-probabilities of the reference model",
                    where=f"row {pair.row}",
                    hint="compute them with evals.reference.with_reference",
                )
        check_lengths([e for pair in pairs for e in (pair.chosen, pair.rejected)], config)

    def collator(self, examples: Sequence[Pair], weigh_examples=False, packed=None):
        """Padded pairs, which all weigh the same."""
        if packed is not None:
            raise ConfigError(
                "pairs of answers are not packed", where="config.run.packing", hint="leave it out"
            )
        return _collator(examples)

    def sums(self, params: dict, batch: dict, *, config: ModelConfig, compute: Compute):
        """Sums over pairs; `batch` holds the arrays of `PairBatch`."""
        own = _answer_logprobs(params, batch, config=config, compute=compute)
        reference = batch["reference"]
        if self.length_normalised:
            count = jnp.maximum(jnp.sum(batch["answer"], axis=-1), 1)
            own, reference = own / count, reference / count
        gain_B2 = own - reference
        margin = self.beta * (gain_B2[:, 0] - gain_B2[:, 1])
        loss = -(1 - self.label_smoothing) * jax.nn.log_sigmoid(margin)
        loss -= self.label_smoothing * jax.nn.log_sigmoid(-margin)
        weight = batch["weight"]
        sums = {
            "accuracy": jnp.sum((margin > 0) * weight),
            "margin": jnp.sum(margin * weight),
        }
        return jnp.sum(loss * weight), (jnp.sum(weight), sums)


def _collator(pairs):
    answers = [e for pair in pairs for e in (pair.chosen, pair.rejected)]
    return PairCollator(fit_size(max(len(predicted_positions(e)) for e in answers), TARGETS))


def _answer_logprobs(params, batch, *, config, compute):
    """float32 [B, 2]: log-probability of each answer."""
    flat = {
        name: array.reshape(-1, *array.shape[2:]) for name, array in batch.items() if name in _ROWS
    }
    losses, _ = target_losses(params, flat, config=config, compute=compute)
    return -jnp.sum(losses * flat["answer"], axis=-1).reshape(-1, 2)


_ROWS = ("tokens", "position", "enter", "leave", "source", "target", "answer")
