"""Training batches: order as a function of (seed, epoch), few shapes, exact weights. No jax."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from amuro_jax.data.streamed import Streamed
from amuro_jax.data.types import TrainExample
from amuro_jax.errors import DataError
from amuro_jax.models.cost import Amount, causal_row

# Padded lengths: few enough that each costs one compilation, close enough that little is wasted.
LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)
# Rows of packed batches, times shards × micro-batches.
PACKED_ROWS = (*range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256, 384)
# Lengths of packed rows: a finer ladder than that of padded ones, since a step has few rows.
PACKED_LENGTHS = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
PACKED_LENGTHS += (640, 768, 896, 1024, *range(1280, 4097, 256), 8192)
# A packed row may be longer than the step's longest example needs, where that saves tokens: twice
# as long, and 256 tokens in any case. Attention within it grows with its length: a token of a row
# of ATTENTION tokens is taken to cost twice as much as one of a short row (models of 0.1 to 8 B
# parameters: 6,000 to 30,000 tokens by arithmetic; softmax is slower than products).
LONGER, SHORT_ROW, ATTENTION = 2, 256, 4096
# Packing is worth its further shapes (each is compiled once) where it saves this share of tokens.
PACKING_GAIN = 0.2
PACKING_SAMPLE = 64  # steps
PACKING_STEPS = 500  # of a run; a shorter one is over before the further shapes are compiled
PACKING_ROWS = 2048  # of those steps, at most: a streamed set is encoded for them
TARGETS = (4, 8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)


@dataclasses.dataclass(frozen=True)
class Batch:
    """One optimiser step's rows. B rows of T tokens; N predicted tokens per row at most.

    Attributes:
        tokens, position, enter, leave: int32 [B, T]; the last three are the layout
            (docs/architecture.md).
        source: int32 [B, N], position whose hidden state predicts the target.
        target: int32 [B, N], the token to predict.
        weight: float32 [B, N], its share of the loss; 0 for padding.
        count: rows of the whole batch, of which these may be one process's.
        amount: work of the whole batch, without padding.
    """

    tokens: np.ndarray
    position: np.ndarray
    enter: np.ndarray
    leave: np.ndarray
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    count: int
    amount: Amount

    def arrays(self) -> dict[str, np.ndarray]:
        """Field name → array."""
        return arrays_of(self)


def arrays_of(batch) -> dict[str, np.ndarray]:
    """Field name → array of a batch's fields that are arrays."""
    names = (field.name for field in dataclasses.fields(batch))
    return {name: getattr(batch, name) for name in names if name not in ("count", "amount")}


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of the examples in one epoch; depends on its arguments alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Optimiser steps of one pass; a last, smaller batch counts."""
    return -(-count // batch_size)


def fit_size(size: int, ladder: tuple[int, ...]) -> int:
    """The smallest step of the ladder that holds `size`."""
    return next((step for step in ladder if step >= size), -(-size // 1024) * 1024)


@dataclasses.dataclass(frozen=True)
class Part:
    """What one process builds of a step's batch.

    Attributes:
        arrays: field name → array of the process's own rows.
        rows: their numbers, ascending; None: all rows.
        count: rows of the whole batch.
        size: tokens of the whole batch, padding included.
        amount: work of the whole batch, without padding.
    """

    arrays: dict[str, np.ndarray]
    rows: np.ndarray | None
    count: int
    size: int
    amount: Amount


# Rows of a whole batch → numbers of those that this process builds.
Mine = Callable[[int], np.ndarray]


def pad_batch(
    examples: list[TrainExample],
    rows: int,
    targets: int,
    weigh_examples: bool = False,
    mine: Mine | None = None,
) -> Batch:
    """Rows of one example each, padded on the right to one length, and to `rows` rows.

    Args:
        mine: which of the rows to build; None: all. The length is that of the whole batch.
        targets: N; at least the most predicted tokens of any example.
        weigh_examples: weights are 1 / (predicted tokens of the example), so that the loss is a
            mean of per-example means (quirk 15); else 1, a mean over tokens.
    """
    length = fit_size(max(len(example.tokens) for example in examples), LENGTHS)
    return _batch([[example] for example in examples], rows, length, targets, weigh_examples, mine)


def pack_batch(
    examples: list[TrainExample],
    multiple: int,
    weigh_examples: bool = False,
    mine: Mine | None = None,
) -> Batch:
    """The same examples in fewer rows, of the length that takes least work (`packed_rows`).

    Examples in a row do not see each other, and positions restart, so that losses and gradients are
    those of `pad_batch`.

    Args:
        multiple: rows are padded to a multiple of it.
        mine: as in `pad_batch`.
    """
    packed, rows, length = packed_rows(examples, multiple)
    most = max(sum(len(predicted_positions(e)) for e in row) for row in packed)
    return _batch(packed, rows, length, fit_size(most, TARGETS), weigh_examples, mine)


def packed_rows(
    examples: list[TrainExample], multiple: int
) -> tuple[list[list[TrainExample]], int, int]:
    """(examples of each row, number of rows with empty ones, length) that take least work."""
    longest = max(len(example.tokens) for example in examples)
    limit = max(LONGER * longest, SHORT_ROW)
    lengths = [size for size in PACKED_LENGTHS if longest <= size <= limit]
    found = []
    for length in lengths or [fit_size(longest, PACKED_LENGTHS)]:
        packed = first_fit(examples, length)
        rows = multiple * fit_size(-(-len(packed) // multiple), PACKED_ROWS)
        found.append((packed, rows, length))
    return min(found, key=lambda one: one[1] * one[2] * (1 + one[2] / ATTENTION))


def first_fit(examples: list[TrainExample], length: int) -> list[list[TrainExample]]:
    """Examples dealt to rows of `length` tokens: the longest first, each into the first row that
    has room for it.
    """
    rows, room = [], []
    for example in sorted(examples, key=lambda example: -len(example.tokens)):
        size = len(example.tokens)
        target = next((row for row, left in enumerate(room) if left >= size), len(rows))
        if target == len(rows):
            rows.append([])
            room.append(length)
        rows[target].append(example)
        room[target] -= size
    return rows


def _batch(packed, rows, length, targets, weigh_examples, mine):
    own_rows = range(rows) if mine is None else mine(rows)
    line = np.zeros((len(own_rows), length), np.int32)
    fields = {"tokens": line, "position": line.copy(), "enter": line - 1, "leave": line - 1}
    fields |= {
        "source": np.zeros((len(own_rows), targets), np.int32),
        "target": np.zeros((len(own_rows), targets), np.int32),
    }
    fields["weight"] = np.zeros((len(own_rows), targets), np.float32)
    for row, examples in enumerate(packed[number] for number in own_rows if number < len(packed)):
        start, first = 0, 0
        for number, example in enumerate(examples):
            own = slice(start, start + len(example.tokens))
            fields["tokens"][row, own] = example.tokens
            fields["position"][row, own] = np.arange(len(example.tokens))
            fields["enter"][row, own], fields["leave"][row, own] = number, number + 1
            predicted = predicted_positions(example)
            learned = slice(first, first + len(predicted))
            fields["source"][row, learned] = start + predicted - 1
            fields["target"][row, learned] = example.tokens[predicted]
            fields["weight"][row, learned] = 1 / max(1, len(predicted)) if weigh_examples else 1
            start, first = own.stop, learned.stop
    return Batch(**fields, count=rows, amount=_amount(packed))


def _amount(packed):
    examples = [example for row in packed for example in row]
    rows = [causal_row(len(e.tokens), int(e.loss_mask[1:].sum())) for e in examples]
    return functools.reduce(Amount.__add__, rows)


def predicted_positions(example: TrainExample) -> np.ndarray:
    """Positions of the tokens that the model learns to predict.

    The first token has nothing before it.
    """
    return np.flatnonzero(example.loss_mask[1:]) + 1


def _most_targets(examples):
    return fit_size(max(len(predicted_positions(example)) for example in examples), TARGETS)


@dataclasses.dataclass(frozen=True)
class LanguageCollator:
    """Right-padded rows of one example each; see `pad_batch`.

    Attributes:
        targets: N of every batch; None: as its own examples need, of a set that is streamed.
    """

    targets: int | None
    weigh_examples: bool = False

    @classmethod
    def of(cls, examples: list[TrainExample], weigh_examples: bool = False) -> "LanguageCollator":
        """Wide enough for all of `examples`, so that one width serves the whole run."""
        if isinstance(examples, Streamed):
            return cls(None, weigh_examples)
        return cls(_most_targets(examples), weigh_examples)

    def __call__(self, chosen: list[TrainExample], rows: int, mine: Mine | None = None) -> Batch:
        """The batch of `chosen`, padded to `rows` rows."""
        targets = _most_targets(chosen) if self.targets is None else self.targets
        return pad_batch(chosen, rows, targets, self.weigh_examples, mine)


@dataclasses.dataclass(frozen=True)
class PackedCollator:
    """Several examples in a row; see `pack_batch`. `multiple`: shards × micro-batches."""

    multiple: int
    weigh_examples: bool = False

    def __call__(self, chosen: list[TrainExample], rows: int, mine: Mine | None = None) -> Batch:
        """The batch of `chosen` in as few rows as they need; `rows` is what they need unpacked."""
        return pack_batch(chosen, self.multiple, self.weigh_examples, mine)


def packing_saves(examples: list[TrainExample], batch_size: int, seed: int, multiple: int) -> float:
    """Share of the tokens of padded batches, padding included, that packing saves in the first
    epoch (in at most PACKING_SAMPLE of its steps, and PACKING_ROWS of its rows).
    """
    padded = Batches(examples, batch_size, 1, seed, multiple)
    packed = Batches(examples, batch_size, 1, seed, multiple, PackedCollator(multiple))
    steps = range(min(padded.total, PACKING_SAMPLE, max(1, PACKING_ROWS // batch_size)))
    sizes = [sum(source[step].tokens.size for step in steps) for source in (padded, packed)]
    return 1 - sizes[1] / sizes[0]


class BatchSource(Protocol):
    """Where a training run takes its batches from: a function of the step, so that a run that goes
    on after a kill is the same run.
    """

    total: int  # optimiser steps of the run
    per_epoch: int  # optimiser steps of one pass

    def load(self, step: int, mine: Mine | None = None) -> Part:
        """Batch number `step` (from 0), or the rows of it that `mine` names; called in a thread."""

    def rows(self, step: int) -> list[int]:
        """Numbers of the rows in that batch, for messages."""


class Batches:
    """Shuffled batches of examples: a `BatchSource` whose order depends on (seed, epoch) alone.

    Attributes:
        examples: a list of anything with `tokens` and `row`, or a `Streamed` set.
        batch_rows: rows of each batch's arrays, padding included.
    """

    def __init__(
        self,
        examples: list[TrainExample],
        batch_size: int,
        epochs: int,
        seed: int,
        multiple: int = 1,
        collate: Callable[[list, int], Batch] | None = None,
    ):
        """
        Args:
            multiple: rows are padded to a multiple of it (shards × micro-batches).
            collate: `(chosen examples, rows, mine) -> Batch`; None: a `LanguageCollator` of them.
        """
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.batch_rows = -(-batch_size // multiple) * multiple
        self.per_epoch = steps_per_epoch(len(examples), batch_size)
        self.total = self.per_epoch * epochs
        self._collate = LanguageCollator.of(examples) if collate is None else collate
        # One epoch's order serves all of its steps; a second is kept for a look across the border.
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: epoch_order(len(examples), seed, epoch)
        )

    def __getitem__(self, step: int) -> Batch:
        return self._collate(self._examples(step), self.batch_rows)

    def load(self, step: int, mine: Mine | None = None) -> Part:
        """Batch number `step`, or the rows of it that `mine` names."""
        chosen = self._examples(step)
        batch = self._collate(chosen, self.batch_rows, mine)
        rows = None if mine is None else mine(batch.count)
        size = batch.count * batch.tokens[0].size
        return Part(batch.arrays(), rows, batch.count, size, batch.amount)

    def rows(self, step: int) -> list[int]:
        """Numbers of the examples' rows."""
        if isinstance(self.examples, Streamed):
            return self.examples.row_numbers(self._chosen(step))
        return [self.examples[index].row for index in self._chosen(step)]

    def _examples(self, step):
        chosen = self._chosen(step)
        if not isinstance(self.examples, Streamed):
            return [self.examples[index] for index in chosen]
        learned = [e for e in self.examples.take(chosen.tolist()) if e.loss_mask[1:].any()]
        if not learned:
            raise DataError(
                f"step {step + 1} has no token to learn within the length limit",
                where="rows " + ", ".join(map(str, self.rows(step))),
                hint="give a larger max_length or batch_size",
            )
        return learned

    def _chosen(self, step):
        epoch, index = divmod(step, self.per_epoch)
        return self._order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
