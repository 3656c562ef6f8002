"""What travels between data sets and the rest: rows with their fields, rendered queries, encoded
training examples.
"""

import dataclasses

import numpy as np

from amuro_jax.config import Metric


@dataclasses.dataclass(frozen=True)
class Example:
    """One validated row of a data set, in the vocabulary of its task type, before any prompt.

    Attributes:
        row: index in the source file, from 0.
        doc_id: the row's own identifier, or str(row).
        fields: the named texts a prompt format fills in (premise, hypothesis, document, …).
        completion: the gold text: label word, summary, question, or right choice.
        choices: the texts that compete (label words or options); empty for free generation.
        gold: index into `choices`; None for free generation.
    """

    row: int
    doc_id: str
    fields: dict[str, str]
    completion: str
    choices: tuple[str, ...] = ()
    gold: int | None = None
    group: str = ""  # subset a metric is also reported for (MMLU subject, …)


@dataclasses.dataclass(frozen=True)
class Query:
    """One test row under one format with its shots: text, ready to be tokenised and scored.

    Attributes:
        task, row, doc_id, format, shots: where it comes from.
        context: shots and query frame. `shared` characters at its start are the same for every row
            of the batch (the shots), so that a scorer can compute them once.
        continuations: per choice, every surface form whose probability counts for it, e.g. ("
            yes",) in `strict` or (" yes", "yes") where spaced and unspaced variants are added.
            Empty for generation.
        unconditional: context to normalise by (`Answer:`), or None.
        gold: index into `continuations`, None for generation.
        reference: the gold text.
        stop: strings at which generation stops (besides eos).
        joint: True: context + continuation are tokenised together and split by character offset;
            False: separately.
    """

    task: str
    row: int
    doc_id: str
    format: str
    shots: int
    context: str
    continuations: tuple[tuple[str, ...], ...] = ()
    gold: int | None = None
    reference: str = ""
    unconditional: str | None = None
    stop: tuple[str, ...] = ()
    shared: int = 0
    joint: bool = True
    shot_rows: tuple[str, ...] = ()  # identity of the shots, e.g. "train:17"
    dropped_shots: int = 0  # shots left out so that the context fits
    cut_tokens: int = 0  # tokens cut from the document so that the context fits
    group: str = ""
    metric: Metric = Metric.ACCURACY
    new_tokens: int = 0  # generation: at most so many; 0: the run's own setting
    published: bool = True  # False: `paper` in a format that the released code does not have


@dataclasses.dataclass(frozen=True)
class TrainExample:
    """One encoded training example.

    Attributes:
        tokens: int32 [T]; ends in eos.
        loss_mask: bool [T]; True where the token is one the model learns to predict.
        row: index in the source file.
        truncated: tokens cut so that it fits.
    """

    tokens: np.ndarray
    loss_mask: np.ndarray
    row: int
    truncated: int = 0


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each with the prompt before it.

    Attributes:
        chosen, rejected: tokens with a mask over the answer.
        reference: log-probabilities (nats) of the two answers under the model that training starts
            from; None until they are computed.
    """

    chosen: TrainExample
    rejected: TrainExample
    reference: tuple[float, float] | None = None

    @property
    def row(self) -> int:
        """Number of the row in its file."""
        return self.chosen.row

    @property
    def tokens(self) -> np.ndarray:
        """All tokens that a training step reads."""
        return np.concatenate([self.chosen.tokens, self.rejected.tokens])

    @property
    def truncated(self) -> int:
        """Tokens cut from the two so that they fit."""
        return self.chosen.truncated + self.rejected.truncated
