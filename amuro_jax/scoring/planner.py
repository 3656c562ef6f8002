"""From requests to packed lines behind shared prefixes: each distinct prefix once, suffixes side by
side under the tree mask. No jax.

A sequence is a context with all but the last token of a continuation: what the model must read.
Sequences with a long common prefix form a group; the prefix is computed once. What is left of them
is laid into lines of a few fixed widths, neighbours that share more (the choices of one query) as a
tree.
"""

import dataclasses

import numpy as np

from amuro_jax.errors import DataError
from amuro_jax.scoring import buckets, tree
from amuro_jax.scoring.requests import Likelihoods, NonFiniteError, Request


@dataclasses.dataclass(frozen=True)
class Lines:
    """Packed lines of one width behind one prefix, and the tokens to predict in them.

    Attributes:
        prefix: int32 [P].
        tokens, position, enter, leave: int32 [N, W], see `models.layout`.
        query_positions: slots of each line whose hidden states predict something, int32 [N, A],
            filled up with 0; None: all W.
        target_line, target_query: line, and index into its query positions (slot, where they are
            None), of the hidden state that predicts each target [M], ascending.
        target_id: token whose log-probability is wanted [M].
        target_output: index into the plan's flat list of continuation tokens [M].
    """

    prefix: np.ndarray
    tokens: np.ndarray
    position: np.ndarray
    enter: np.ndarray
    leave: np.ndarray
    query_positions: np.ndarray | None
    target_line: np.ndarray
    target_query: np.ndarray
    target_id: np.ndarray
    target_output: np.ndarray


@dataclasses.dataclass(frozen=True)
class ScoringPlan:
    """All that is computed for a list of requests; built once, run for every checkpoint.

    Attributes:
        lines: by group and width.
        request_of: request of each continuation [C]; `lengths`: its tokens [C].
        num_requests: number of requests.
        plain_tokens: what one forward pass per continuation would read.
        new_tokens: what is read: prefixes and real tokens of lines.
        padded_tokens: prefixes and lines, padding included.
    """

    lines: list[Lines]
    request_of: np.ndarray
    lengths: np.ndarray
    num_requests: int
    plain_tokens: int
    new_tokens: int
    padded_tokens: int

    def assemble(self, logprob: np.ndarray, greedy: np.ndarray) -> list[Likelihoods]:
        """Results in request order from flat values per continuation token (fp32 log-probabilities,
        greedy hits).

        Raises:
            NonFiniteError: a log-probability that is NaN or infinite.
        """
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
        bad = np.flatnonzero(~np.isfinite(logprob))
        if len(bad):
            request = int(self.request_of[owner[bad[0]]])
            raise NonFiniteError.at(request, f"the log-probability of a token ({logprob[bad[0]]})")
        total = np.bincount(owner, weights=logprob.astype(np.float64), minlength=len(self.lengths))
        missed = np.bincount(owner, weights=~greedy.astype(bool), minlength=len(self.lengths))
        ends = np.searchsorted(self.request_of, np.arange(self.num_requests + 1))
        return [
            Likelihoods(total[a:b], missed[a:b] == 0, self.lengths[a:b])
            for a, b in zip(ends, ends[1:], strict=False)
        ]


def plan_requests(
    requests: list[Request],
    cost: buckets.Cost,
    batch_tokens: int = 1024,
    max_length: int | None = None,
) -> ScoringPlan:
    """Plans the scoring of `requests`: the same ones are always planned alike.

    Args:
        cost: of the model that will run, for choosing widths.
        batch_tokens: tokens of one batch; sets what a half-empty last batch wastes.
        max_length: the model's context; longer sequences are an error.

    Raises:
        DataError: an empty context or continuation, or a sequence beyond `max_length`.
    """
    _check(requests, max_length)
    pairs = [
        (index, continuation)
        for index, request in enumerate(requests)
        for continuation in request.continuations
    ]
    lengths = np.asarray([len(continuation) for _, continuation in pairs], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    contexts = [np.asarray(request.context, np.int32) for request in requests]
    sequences = [
        np.concatenate([contexts[index], np.asarray(continuation[:-1], np.int32)])
        for index, continuation in pairs
    ]
    order, lcp = tree.sort_sequences(sequences)
    length = np.asarray([len(sequences[i]) for i in order], np.int64)
    limit = np.asarray([len(contexts[pairs[i][0]]) - 1 for i in order], np.int64)
    lines, compiled = [], set()
    for group in tree.partition(lcp, limit, length, batch_tokens / 4) if len(order) else []:
        members = _Members(
            group, order, tree.shared_between(lcp, group.members), length[group.members]
        )
        widths = choose_widths(members, cost, batch_tokens, compiled)
        compiled |= {(width, capacity(group.prefix)) for width in widths}
        lines += _group_lines(members, widths, sequences, pairs, contexts, starts)
    prefixes = sum(len(part.prefix) for part in lines)
    return ScoringPlan(
        lines=lines,
        request_of=np.asarray([index for index, _ in pairs], np.int64),
        lengths=lengths,
        num_requests=len(requests),
        plain_tokens=int(length.sum()),
        new_tokens=prefixes + int(sum((part.enter >= 0).sum() for part in lines)),
        padded_tokens=prefixes + int(sum(part.tokens.size for part in lines)),
    )


def _check(requests, max_length):
    for index, request in enumerate(requests):
        if not request.context:
            raise DataError(
                "empty context: nothing predicts the first token",
                where=f"request {index}",
                hint="begin it with bos or eos",
            )
        for continuation in request.continuations:
            if not continuation:
                raise DataError("empty continuation: nothing to score", where=f"request {index}")
            if max_length and len(request.context) + len(continuation) - 1 > max_length:
                total = len(request.context) + len(continuation) - 1
                raise DataError(
                    f"{total} tokens do not fit a context of {max_length}",
                    where=f"request {index}",
                    hint="drop shots or cut the document",
                )


def capacity(prefix: int) -> int:
    """Slots that a prefix of this length takes; 0 where there is none."""
    return buckets.round_up(prefix, buckets.PREFIXES) if prefix else 0


@dataclasses.dataclass(frozen=True)
class _Members:
    """One group in sorted order; `shared` and `length` are by member, in tokens."""

    group: tree.PrefixGroup
    order: np.ndarray
    shared: np.ndarray
    length: np.ndarray

    def within(self, low: int, high: int):
        """Members whose suffix has more than `low` and at most `high` tokens, and what each shares
        with the one before among them.
        """
        suffix = self.length - self.group.prefix
        members = np.flatnonzero((suffix > low) & (suffix <= high))
        return members, tree.shared_between(self.shared, members)


def choose_widths(
    members: _Members, cost: buckets.Cost, batch_tokens: int, known=frozenset()
) -> tuple[int, ...]:
    """The one or two line widths that cost the least work, padding and compilation included.

    Args:
        known: (width, prefix capacity) of programs that other groups of the plan have.
    """
    prefix = members.group.prefix
    longest = buckets.round_up(int(members.length.max()) - prefix, buckets.WIDTHS)
    options = [(longest,)] + [(width, longest) for width in buckets.WIDTHS if width < longest]
    wider = [(width,) for width in buckets.WIDTHS if longest < width <= 256]
    return min(
        options + wider, key=lambda widths: _work(members, widths, cost, batch_tokens, known)
    )


def _work(members, widths, cost, batch_tokens, known):
    prefix, total, low = members.group.prefix, 0.0, 0
    for width in widths:
        indices, shared = members.within(low, width)
        units = tree.make_units(shared, members.length[indices], prefix, width)
        count = len(tree.pack([size for _, _, size in units], width))
        batch = buckets.lines_per_batch(batch_tokens, width)
        total += cost.lines(-(-count // batch) * batch, width, prefix)
        if (width, capacity(prefix)) not in known:
            total += cost.shape()
        low = width
    return total


def _group_lines(members, widths, sequences, pairs, contexts, starts):
    low = 0
    for width in widths:
        indices, shared = members.within(low, width)
        low = width
        if not len(indices):
            continue
        units = tree.make_units(shared, members.length[indices], members.group.prefix, width)
        packed = tree.pack([size for _, _, size in units], width)
        builder = _Builder(len(packed), width, members.group.prefix)
        ids = members.order[members.group.members[indices]]
        for row, items in enumerate(packed):
            builder.start(row)
            for first, end, _ in (units[item] for item in items):
                for member in range(first, end):
                    index, continuation = pairs[ids[member]]
                    builder.add(
                        sequences[ids[member]],
                        int(shared[member]) if member > first else members.group.prefix,
                    )
                    builder.predict(len(contexts[index]) - 1, continuation, starts[ids[member]])
            builder.finish()
        yield builder.lines(sequences[ids[0]][: members.group.prefix])


class _Builder:
    """Lays sequences into lines, depth first: `path` holds the slots of the current sequence's
    tokens after the prefix.
    """

    def __init__(self, rows, width, prefix):
        self.tokens, self.position = (
            np.zeros((rows, width), np.int32),
            np.zeros((rows, width), np.int32),
        )
        self.enter, self.leave = (
            np.full((rows, width), -1, np.int32),
            np.full((rows, width), -1, np.int32),
        )
        self.prefix, self.targets = prefix, []

    def start(self, row):
        self.row, self.used, self.path = row, 0, np.zeros(0, np.int64)

    def add(self, sequence, shared):
        keep, new = shared - self.prefix, len(sequence) - shared
        self.leave[self.row, self.path[keep:]] = self.used  # the subtrees that end here
        slots = np.arange(self.used, self.used + new)
        self.tokens[self.row, slots] = sequence[shared:]
        self.position[self.row, slots] = np.arange(shared, len(sequence))
        self.enter[self.row, slots] = slots
        self.path = np.concatenate([self.path[:keep], slots])
        self.used += new

    def predict(self, depth, continuation, out):
        for step, target in enumerate(continuation):
            self.targets.append(
                (self.row, self.path[depth - self.prefix + step], target, out + step)
            )

    def finish(self):
        self.leave[self.row, self.path] = self.used

    def lines(self, prefix):
        targets = np.asarray(self.targets, np.int64).reshape(-1, 4)
        targets = targets[np.lexsort((targets[:, 1], targets[:, 0]))]
        positions, targets[:, 1] = _query_positions(
            targets[:, 0], targets[:, 1], *self.tokens.shape
        )
        return Lines(
            prefix, self.tokens, self.position, self.enter, self.leave, positions, *targets.T
        )


def _query_positions(line, slot, rows, width):
    """`Lines.query_positions`, and in it the index of each (line, slot) [M], in ascending order."""
    fresh = np.concatenate([[True], (line[1:] != line[:-1]) | (slot[1:] != slot[:-1])])
    number = np.cumsum(fresh) - 1
    # Of each line, among the different positions.
    first = np.searchsorted(line[fresh], np.arange(rows))
    query = number - first[line]
    size = next((size for size in buckets.QUERY_POSITIONS if size > query.max()), width)
    if size > width // 2:
        return None, slot
    positions = np.zeros((rows, size), np.int32)
    positions[line, query] = slot
    return positions, query
