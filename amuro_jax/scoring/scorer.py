"""The scorer: log-likelihoods, generation and rolling log-likelihood of token requests, exact and
compiled once.

Parameters are arguments: one program per (bucket, configuration) serves every checkpoint of a
family.
"""

import collections
import functools
import os
import warnings
import weakref

import jax
import numpy as np

from amuro_jax.models.attention import Backend, best_backend
from amuro_jax.scoring import buckets, planner
from amuro_jax.scoring.generation import Generator, Sampling
from amuro_jax.scoring.generation_batches import ending, plan_batches, rows_within
from amuro_jax.scoring.memory import LEAST, memory_of, only_memory, too_large
from amuro_jax.scoring.programs import HEAD_ROWS, PAIRS_PER_ROW, Programs, pad_rows
from amuro_jax.scoring.requests import Generation, Likelihoods, Request
from amuro_jax.sharding import batch_divisor

ROWS_PER_DEVICE = 64  # texts that are generated together
IN_FLIGHT = 2  # batches that run while the host prepares the next


class Scorer:
    """Scores requests under one model configuration.

    Args:
        config: ModelConfig of the checkpoints to come.
        mesh: from `sharding.make_mesh`, or None for the default device.
        dtype: compute dtype (norms, softmax and logits stay fp32).
        batch_tokens: tokens of one batch of lines; 0: what the devices' memory allows (`memory`).
        attention: a name of `models.attention.How`; "": the best of the platform.
        vocab_chunk: vocabulary columns of one step of the head; 0: all at once.
        cache_folder: where compiled programs are kept between runs; None: not kept.

    Attributes:
        traces: Counter of traces by program; it does not grow when another checkpoint of the family
            is scored.
        batch_tokens: as used now; halved when the device runs out of memory, as are `prefix_tokens`
            and `generation_rows`.
        prefix_tokens: tokens of a prefix that are read at once.
        generation_rows: texts that are generated together, on all devices.
    """

    def __init__(
        self,
        config,
        mesh=None,
        dtype="float32",
        *,
        batch_tokens=0,
        attention="",
        vocab_chunk=-1,
        cache_folder=None,
    ):
        if cache_folder:
            keep_programs(cache_folder)
        platform = (jax.devices() if mesh is None else list(mesh.devices.flat))[0].platform
        split = mesh is not None and mesh.shape["tensor"] > 1
        self.config, self.mesh = config, mesh
        self.divisor = 1 if mesh is None else batch_divisor(mesh)
        self.cost = buckets.cost_of(config)
        how = Backend(attention, mesh) if attention else best_backend(platform, dtype, mesh)
        chunk = vocab_chunk if vocab_chunk >= 0 else 0 if split else 8192
        self.programs = Programs(config, mesh, dtype, how, chunk)
        self.generator = Generator(self.programs)
        self.memory = memory_of(config, mesh, dtype, how.name, chunk)
        longest = min(2048, config.max_length)
        self.batch_tokens = (
            batch_tokens or self.memory.batch_tokens(min(512, longest), longest) * self.divisor
        )
        self.prefix_tokens = self.memory.prefix_chunk(buckets.PREFIXES[-1])
        self.generation_rows = ROWS_PER_DEVICE * self.divisor
        self._plans: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._known: set[tuple[int, int]] = set()

    @property
    def traces(self) -> collections.Counter:
        """Times each program was traced."""
        return self.programs.traces

    def place(self, params):
        """Parameters as the programs read them, on the device.

        A no-op for parameters placed before.
        """
        return self.programs.place(params)

    def plan(self, requests: list[Request]) -> planner.Plan:
        """The work of `requests`, to be made once and run for every checkpoint."""
        plan = planner.make_plan(
            requests, self.cost, self.batch_tokens, self.config.max_length, frozenset(self._known)
        )
        self._known |= {
            (part.tokens.shape[1], planner.capacity(len(part.prefix))) for part in plan.lines
        }
        return plan

    def plan_once(self, source) -> planner.Plan:
        """The plan of `source.requests`, made at the first call and forgotten with `source`, which
        is known by its identity.
        """
        if source not in self._plans:
            self._plans[source] = self.plan(source.requests)
        return self._plans[source]

    def loglikelihoods(self, params, requests: list[Request] | planner.Plan) -> list[Likelihoods]:
        """Log-probability of every continuation given its context, in request order; takes requests
        or their plan.

        Raises:
            DataError: an empty context or continuation, or one that does not fit the model's
                context.
            NonFiniteError: a log-probability that is not finite.
        """
        plan = requests if isinstance(requests, planner.Plan) else self.plan(requests)
        params = self.place(params)
        logprob, greedy = (
            np.zeros(plan.lengths.sum(), np.float32),
            np.zeros(plan.lengths.sum(), bool),
        )
        for lines in plan.lines:
            shared = self.read_prefix(params, lines.prefix)
            for out, values, hits in self._score_lines(params, lines, shared):
                logprob[out], greedy[out] = values, hits
        return plan.assemble(logprob, greedy)

    def generate(
        self,
        params,
        requests: list[Request],
        *,
        eos: int | tuple[int, ...] | None = None,
        stopped=None,
        sampling=Sampling(),
        each=None,
    ) -> list[Generation]:
        """Continues every request, in request order; ends at an id of `eos`, at a stop string, or
        at the request's `max_new_tokens`.

        Args:
            eos: the id, or all ids, that end a text; by default the configuration's.
            stopped: `(request index, tokens so far) -> tokens of the text at its stop string, or
                None`, asked every few steps.
            sampling: greedy by default.
            each: `(request index, Generation)`, called as soon as a text is finished.

        Raises:
            DataError: an empty context, or one that does not fit the model's context with its new
                tokens.
            AmuroError: not even one row fits the device's memory.
            NonFiniteError: logits that are not finite.
        """
        eos = self.config.eos_id if eos is None else eos
        eos = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
        params, results = self.place(params), [None] * len(requests)
        longest = max(
            (len(request.context) + request.max_new_tokens for request in requests), default=1
        )
        fitting = (
            self.memory.generation_rows(
                max(1, self.generation_rows // self.divisor), longest, longest
            )
            * self.divisor
        )
        rows = rows_within(min(fitting, self.generation_rows), self.divisor)

        def finish(batch, number, tokens):
            index = batch.requests[number]
            made = ending(
                tokens, batch.limits[number], eos, stopped and functools.partial(stopped, index)
            )
            if made:
                results[index] = made
                if each:
                    each(index, made)
            return made

        for prefix, batches in plan_batches(
            requests, rows, self.batch_tokens, self.config.max_length
        ):
            shared, waiting = self.read_prefix(params, prefix), collections.deque(batches)
            while waiting:
                batch = waiting.popleft()
                try:
                    self.generator.run(
                        params,
                        batch,
                        shared,
                        len(prefix),
                        eos or (-1,),
                        sampling,
                        functools.partial(finish, batch),
                    )
                except jax.errors.JaxRuntimeError as error:
                    waiting.appendleft(self._halve_rows(only_memory(error), batch, results))
        return results

    def _halve_rows(self, error, batch, results):
        """What is left of a batch that did not fit, fewer rows at once."""
        count, _ = batch.sizes(self.divisor)
        if count <= self.divisor:
            raise too_large(
                f"{count} rows of {batch.width + batch.room} tokens", error, self.memory
            ) from error
        self.generation_rows = rows_within(count - 1, self.divisor)
        warnings.warn(
            f"out of device memory generating {count} rows at once; going on with {self.generation_rows}",
            stacklevel=3,
        )
        done = {number for number, index in enumerate(batch.requests) if results[index] is not None}
        return batch.without(done, self.generation_rows)

    def rolling(self, params, sequences: list[list[int]], start: int) -> list[tuple[float, int]]:
        """(log-probability, tokens) of whole sequences of any length, each token scored once.

        A sequence longer than the context is cut into windows that share one token; the last one
        reaches back as far as it can.

        Args:
            start: id that stands before the first token (bos or eos).
        """
        requests = [
            rolling_windows(sequence, start, self.config.max_length) for sequence in sequences
        ]
        results = iter(
            self.loglikelihoods(params, [window for windows in requests for window in windows])
        )
        return [
            (float(sum(next(results).logprob[0] for _ in windows)), len(s))
            for windows, s in zip(requests, sequences, strict=True)
        ]

    def read_prefix(self, params, prefix: np.ndarray):
        """Keys and values of a prefix, padded to its bucket; None for the empty prefix."""
        if not len(prefix):
            return None
        tokens, put = (
            pad_rows(np.asarray(prefix, np.int32), planner.capacity(len(prefix)), 0)[None],
            self.programs.put,
        )
        while True:
            try:
                if self.prefix_tokens >= tokens.shape[1]:
                    return jax.block_until_ready(
                        self.programs.prefix(params, put(tokens), put(np.int32(len(prefix))))
                    )
                return jax.block_until_ready(self._read_in_parts(params, tokens, len(prefix)))
            except jax.errors.JaxRuntimeError as error:
                tried = min(self.prefix_tokens, tokens.shape[1])
                if tried <= LEAST:
                    raise too_large(
                        f"a prefix of {len(prefix)} tokens", error, self.memory
                    ) from only_memory(error)
                self.prefix_tokens = max(LEAST, tried // 2)
                only_memory(error)
                warnings.warn(
                    f"out of device memory with {tried} tokens of a prefix at once; going on with {self.prefix_tokens}",
                    stacklevel=2,
                )

    def _read_in_parts(self, params, tokens, length):
        size, put = self.prefix_tokens, self.programs.put
        cache = self.programs.empty(-(-tokens.shape[1] // size) * size)
        for start in range(0, tokens.shape[1], size):
            part = pad_rows(tokens[0, start : start + size], size, 0)[None]
            cache = self.programs.prefix_part(
                params, cache, put(part), put(np.int32(start)), put(np.int32(length))
            )
        return cache

    def _score_lines(self, params, lines, shared):
        waiting, start = collections.deque(), 0
        while start < len(lines.tokens) or waiting:
            while start < len(lines.tokens) and len(waiting) < IN_FLIGHT:
                end = min(
                    start
                    + buckets.lines_per_batch(
                        self.batch_tokens, lines.tokens.shape[1], self.divisor
                    ),
                    len(lines.tokens),
                )
                waiting.append((start, end, self._attempt(params, lines, start, end, shared)))
                start = end
            first, end, pieces = waiting.popleft()
            yield from self._collect(params, lines, first, end, shared, pieces)

    def _attempt(self, params, lines, start, end, shared):
        """Starts one batch; an out-of-memory at launch counts as one at the end."""
        try:
            return self._launch(params, lines, start, end, shared)
        except jax.errors.JaxRuntimeError as error:
            return only_memory(error)

    def _launch(self, params, lines, start, end, shared):
        width = lines.tokens.shape[1]
        rows = buckets.lines_per_batch(self.batch_tokens, width, self.divisor)
        put = self.programs.put
        arrays = [lines.tokens, lines.position, lines.enter, lines.leave, lines.asked]
        inputs = [
            a if a is None else put(pad_rows(a[start:end], rows, fill), 0)
            for a, fill in zip(arrays, (0, 0, -1, -1, 0), strict=True)
        ]
        hidden = self.programs.lines(params, *inputs, shared)
        low, high = np.searchsorted(lines.ask_line, [start, end])
        each = width if lines.asked is None else lines.asked.shape[1]
        place = (lines.ask_line[low:high] - start) * each + lines.ask_place[low:high]
        return [
            (
                lines.ask_out[low:high][a:b],
                b - a,
                self.programs.head(params, hidden, *map(put, inputs)),
            )
            for a, b, *inputs in head_calls(place, lines.ask_target[low:high])
        ]

    def _collect(self, params, lines, start, end, shared, pieces):
        try:
            if isinstance(pieces, Exception):
                raise pieces
            results = [
                (out, np.asarray(values)[:count], np.asarray(hits)[:count])
                for out, count, (values, hits) in pieces
            ]
        except jax.errors.JaxRuntimeError as error:
            self._halve(only_memory(error), lines.tokens.shape[1], end - start)
            results, low = [], start
            while low < end:
                high = min(
                    low
                    + buckets.lines_per_batch(
                        self.batch_tokens, lines.tokens.shape[1], self.divisor
                    ),
                    end,
                )
                results += self._collect(
                    params,
                    lines,
                    low,
                    high,
                    shared,
                    self._attempt(params, lines, low, high, shared),
                )
                low = high
        return results

    def _halve(self, error, width, tried):
        now = buckets.lines_per_batch(self.batch_tokens, width, self.divisor)
        if now < tried:
            return  # a batch before this one found out
        if now <= self.divisor:
            raise too_large(f"{now} lines of {width} tokens", error, self.memory) from error
        self.batch_tokens = max(1, now // 2) * width
        warnings.warn(
            f"out of device memory with {now} lines of {width} tokens; going on with {self.batch_tokens} tokens a batch",
            stacklevel=2,
        )


def rolling_windows(sequence: list[int], start: int, max_length: int) -> list[Request]:
    """Requests that predict every token of `sequence` once, in windows of `max_length` tokens read."""
    tokens, windows = [start, *sequence], []
    for first in range(1, len(tokens), max_length):
        end = min(first + max_length, len(tokens))
        windows.append(
            Request(
                tuple(tokens[max(0, end - max_length - 1) : first]), (tuple(tokens[first:end]),)
            )
        )
    return windows


def head_calls(place: np.ndarray, target: np.ndarray):
    """Cuts asked (place, target) pairs, ascending by place, into calls of the head of a few fixed
    sizes.

    Yields:
        (first, end, places [A], row of each pair [M], targets [M]), padded.
    """
    fresh = np.concatenate([[True], place[1:] != place[:-1]]) if len(place) else np.zeros(0, bool)
    bounds = [*np.flatnonzero(fresh), len(place)]
    done = 0
    for rows in buckets.cut(len(bounds) - 1, HEAD_ROWS):
        goal, limit = min(done + rows, len(bounds) - 1), rows * PAIRS_PER_ROW
        for first in range(
            bounds[done], bounds[goal], limit
        ):  # more than one call where positions have many targets
            end = min(first + limit, bounds[goal])
            places, row = np.unique(place[first:end], return_inverse=True)
            padded = ((places, rows), (row, limit), (target[first:end], limit))
            yield (
                first,
                end,
                *(pad_rows(values.astype(np.int32), size, 0) for values, size in padded),
            )
        done = goal


def keep_programs(folder) -> None:
    """Keeps compiled programs under `folder`, for this process and those to come."""
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    jax.config.update(
        "jax_persistent_cache_enable_xla_caches", "none"
    )  # a path in programs' keys (jax 0.10.2): a moved folder would miss
