"""Which requests are generated together, and which one has which row: a row whose text has ended
takes the next request (continuous batching). No jax.
"""

import collections
import dataclasses

import numpy as np

from amuro_jax.errors import DataError
from amuro_jax.scoring import buckets, tree
from amuro_jax.scoring.requests import Generation, NonFiniteError, Request

ROWS = (1, 4, 16, 64, 256, 1024)  # of a buffer: few sizes, few programs
# Finer than for lines: every slot of the buffer is read at every step.
WIDTHS = tuple(sorted({48, 80, *buckets.WIDTHS}))
NON_FINITE = -1  # instead of a token whose logits are not finite
STEPS = 4  # new tokens between two looks at the text
# Of widths of one batch: a row is as wide as the longest context that it holds, one after another.
SPREAD = 2


@dataclasses.dataclass(frozen=True)
class GenerationBatch:
    """Texts behind one prefix that share a buffer: numbers of their requests, contexts after the
    prefix (longest first), new tokens at most.

    `rows`: texts at once, at most; `width`: slots of the longest context; `room`: slots for new
        tokens; `read`: contexts that may be read at once.
    """

    requests: list[int]
    contexts: list[np.ndarray]
    limits: list[int]
    rows: int
    width: int
    room: int
    read: int

    def sizes(self, shards: int) -> tuple[int, int]:
        """(rows of the buffer, contexts that are read at once), both multiples of the mesh's batch
        shards.
        """

        def multiple(count, of=shards):
            return -(-count // of) * of

        fitting = buckets.round_up(min(len(self.requests), ROWS[-1]), ROWS)
        step, rows = multiple(self.read), multiple(min(fitting, self.rows))
        if len(self.requests) > rows:  # as many are read later for rows that have become free
            step = min(step, multiple(max(1, rows // 4)))
        return (multiple(rows, step) if rows > step else rows), step

    def lengths(self, numbers, count: int) -> np.ndarray:
        """int32 [count]: length of each context of `numbers`, then zeros."""
        lengths = np.zeros(count, np.int32)
        lengths[: len(numbers)] = [len(self.contexts[number]) for number in numbers]
        return lengths

    def without(self, done, rows: int) -> "GenerationBatch":
        """What is left of the batch after the texts `done` (numbers in it), with fewer rows."""
        left = [number for number in range(len(self.requests)) if number not in done]
        lists = {
            name: [getattr(self, name)[number] for number in left]
            for name in ("requests", "contexts", "limits")
        }
        return dataclasses.replace(self, rows=rows, **lists)


class RowSchedule:
    """The texts of one batch as they grow.

    Args:
        count: rows of the buffer.
        finish: `(number in the batch, tokens) -> Generation | None`.

    Attributes:
        running: number of the text in each row, None where none is wanted.
    """

    def __init__(self, batch: GenerationBatch, count: int, finish):
        self.finish, self.requests, total = finish, batch.requests, len(batch.requests)
        self.running = [index if index < total else None for index in range(count)]
        self.waiting = collections.deque(range(count, total))
        self.texts: dict[int, list[int]] = {}

    def add(self, rows, tokens: np.ndarray) -> None:
        """New tokens [N, n] of `rows`; those whose text is finished become free."""
        for row, new in zip(rows, tokens.tolist(), strict=True):
            index = self.running[row]
            if index is None:
                continue
            text = self.texts.setdefault(index, [])
            if NON_FINITE in new:
                raise NonFiniteError.at(self.requests[index], "a logit")
            text += new
            if self.finish(index, text):
                del self.texts[index]
                self.running[row] = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waiting and all(index is None for index in self.running)

    def refill(self, most: int) -> list[tuple[int, int]]:
        """(row, number in the batch) of the next texts, up to `most`.

        None before as many rows are free as there are texts to take.
        """
        free = [row for row, index in enumerate(self.running) if index is None]
        count = min(most, len(self.waiting))
        if len(free) < count:
            return []
        pairs = [(row, self.waiting.popleft()) for row in free[:count]]
        for row, index in pairs:
            self.running[row] = index
        return pairs


def rows_within(most: int, shards: int) -> int:
    """Rows of a buffer that are no more than `most` where the mesh allows it: one of ROWS, and a
    multiple of its batch shards.
    """
    return -(-max(size for size in ROWS if size <= max(most, 1)) // shards) * shards


def side_by_side(contexts: list[np.ndarray], rows: int) -> np.ndarray:
    """int32 [rows, width]: contexts padded on the right."""
    tokens = np.zeros(
        (rows, buckets.round_up(max(map(len, contexts), default=1), WIDTHS)), np.int32
    )
    for row, context in enumerate(contexts):
        tokens[row, : len(context)] = context
    return tokens


def plan_batches(requests: list[Request], rows: int, batch_tokens: int, max_length: int):
    """Yields (prefix, batches) for all requests: grouped by shared prefix, then by length; about
    `batch_tokens` are read at once.

    Args:
        rows: texts at once, at most, see `rows_within`.

    Raises:
        DataError: an empty context, no new tokens, or more tokens than `max_length`.
    """
    for index, request in enumerate(requests):
        if not request.context or request.max_new_tokens < 1:
            raise DataError(
                "generation needs a context and at least one new token", where=f"request {index}"
            )
        if len(request.context) + request.max_new_tokens > max_length:
            what = (
                f"{len(request.context)} tokens and {request.max_new_tokens} new ones "
                f"do not fit a context of {max_length}"
            )
            raise DataError(what, where=f"request {index}", hint="drop shots or cut the document")
    # One size for all: fewer programs.
    room = -(-max((request.max_new_tokens for request in requests), default=0) // STEPS) * STEPS
    contexts = [np.asarray(request.context, np.int32) for request in requests]
    order, lcp = tree.sort_sequences(contexts)
    length = np.asarray([len(contexts[i]) for i in order], np.int64)
    for group in tree.partition(lcp, length - 1, length, batch_tokens / 4) if len(order) else []:
        members = sorted(order[group.members].tolist(), key=lambda i: (-len(contexts[i]), i))
        batches = []
        for part in _alike(
            members,
            [buckets.round_up(len(contexts[i]) - group.prefix, WIDTHS) for i in members],
            rows,
        ):
            suffixes = [contexts[i][group.prefix :] for i in part]
            width = buckets.round_up(len(suffixes[0]), WIDTHS)
            read = max((size for size in ROWS if size * width <= 2 * batch_tokens), default=ROWS[0])
            batches.append(
                GenerationBatch(
                    part,
                    suffixes,
                    [requests[i].max_new_tokens for i in part],
                    rows,
                    width,
                    room,
                    read,
                )
            )
        yield contexts[members[0]][: group.prefix], batches


def _alike(members, widths, rows):
    """Cuts members, widest first, into batches that fill the rows.

    Where there are enough members, their widths differ by SPREAD at most.
    """
    start = 0
    for index, width in enumerate(widths):
        if min(index - start, len(members) - index) >= rows and width * SPREAD < widths[start]:
            yield members[start:index]
            start = index
    yield members[start:]


def ending(tokens: list[int], limit: int, eos: tuple[int, ...], stopped) -> Generation | None:
    """The finished generation that `tokens` hold, or None where more are needed.

    Args:
        eos: ids that each end the text.
        stopped: function of the tokens so far that gives how many belong to the text at its stop
            string, or None.
    """
    text = tokens[:limit]
    text = text[: next((index for index, token in enumerate(text) if token in eos), limit)]
    shortened = stopped(text) if stopped else None
    if shortened is not None:
        return Generation(tuple(text[:shortened]), "stop")
    if len(text) < min(limit, len(tokens)):
        return Generation(tuple(text), "eos")
    return Generation(tuple(text), "length") if len(text) == limit else None
