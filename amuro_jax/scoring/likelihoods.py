"""Runs a `ScoringPlan`: a few batches of packed lines in flight, halved when memory runs out."""

import collections

import jax
import numpy as np

from amuro_jax import watchdog
from amuro_jax.scoring import buckets
from amuro_jax.scoring.memory import only_memory
from amuro_jax.scoring.prefix import read_prefix
from amuro_jax.scoring.programs import HEAD_POSITIONS, TARGETS_PER_POSITION, pad_rows

IN_FLIGHT = 2  # batches that run while the host prepares the next


def run_plan(programs, limits, params, plan):
    """fp32 log-probability and greedy hit of every continuation token of a plan, flat.

    Args:
        params: placed parameters.
        limits: `limits.Limits`, which shrink when memory runs out.
    """
    count = plan.lengths.sum()
    logprob, greedy = np.zeros(count, np.float32), np.zeros(count, bool)
    for lines in plan.lines:
        prefix = read_prefix(programs, limits, params, lines.prefix)
        for output, values, hits in _LineRunner(programs, limits, params, lines, prefix).run():
            logprob[output], greedy[output] = values, hits
    return logprob, greedy


class _LineRunner:
    """The batches of one set of lines behind one prefix."""

    def __init__(self, programs, limits, params, lines, prefix):
        self.programs, self.limits, self.params = programs, limits, params
        self.lines, self.prefix, self.width = lines, prefix, lines.tokens.shape[1]

    def run(self):
        """Yields (outputs, log-probabilities, greedy hits) of each call of the head."""
        waiting, start, total = collections.deque(), 0, len(self.lines.tokens)
        while start < total or waiting:
            while start < total and len(waiting) < IN_FLIGHT:
                end = min(start + self.limits.lines(self.width), total)
                waiting.append((start, end, self._attempt(start, end)))
                start = end
            yield from self._collect(*waiting.popleft())
            watchdog.progress()

    def _attempt(self, start, end):
        """Starts one batch; an out-of-memory at launch counts as one at the end."""
        try:
            return self._launch(start, end)
        except jax.errors.JaxRuntimeError as error:
            return only_memory(error)

    def _launch(self, start, end):
        lines, put, rows = self.lines, self.programs.put, self.limits.lines(self.width)
        fields = [lines.tokens, lines.position, lines.enter, lines.leave, lines.query_positions]
        inputs = [
            field if field is None else put(pad_rows(field[start:end], rows, fill), 0)
            for field, fill in zip(fields, (0, 0, -1, -1, 0), strict=True)
        ]
        hidden = self.programs.lines(self.params, *inputs, self.prefix)
        low, high = np.searchsorted(lines.target_line, [start, end])
        each = self.width if lines.query_positions is None else lines.query_positions.shape[1]
        position = (lines.target_line[low:high] - start) * each + lines.target_query[low:high]
        output = lines.target_output[low:high]
        return [
            (output[a:b], b - a, self.programs.head(self.params, hidden, *map(put, arrays)))
            for a, b, *arrays in head_calls(position, lines.target_id[low:high])
        ]

    def _collect(self, start, end, calls):
        try:
            if isinstance(calls, Exception):
                raise calls
            return [
                (output, np.asarray(values)[:count], np.asarray(hits)[:count])
                for output, count, (values, hits) in calls
            ]
        except jax.errors.JaxRuntimeError as error:
            self.limits.fewer_lines(only_memory(error), self.width, end - start)
        results = []
        while start < end:
            middle = min(start + self.limits.lines(self.width), end)
            results += self._collect(start, middle, self._attempt(start, middle))
            start = middle
        return results


def head_calls(position: np.ndarray, target: np.ndarray):
    """Cuts (position of the hidden state, target) pairs, in order of position, into calls of the
    head of a few fixed sizes.

    Yields:
        (first, end, positions [A], row of each pair [M], targets [M]), padded.
    """
    fresh = (
        np.concatenate([[True], position[1:] != position[:-1]])
        if len(position)
        else np.zeros(0, bool)
    )
    bounds = [*np.flatnonzero(fresh), len(position)]
    done = 0
    for rows in buckets.cut(len(bounds) - 1, HEAD_POSITIONS):
        goal, limit = min(done + rows, len(bounds) - 1), rows * TARGETS_PER_POSITION
        # More than one call where positions have many targets.
        for first in range(bounds[done], bounds[goal], limit):
            end = min(first + limit, bounds[goal])
            positions, row = np.unique(position[first:end], return_inverse=True)
            padded = ((positions, rows), (row, limit), (target[first:end], limit))
            yield (
                first,
                end,
                *(pad_rows(values.astype(np.int32), size, 0) for values, size in padded),
            )
        done = goal
