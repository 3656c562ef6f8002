"""Greedy and sampled generation behind a shared prefix: one prefill, then steps over a fixed buffer
of keys and values.

All rows share the prefix of a group. The first slots of a row's buffer hold its context, padded on
the right; the last ones are a ring for new tokens, in which all rows write at the same slot, so
that one scalar serves all. Finished sequences free their row for the next request (continuous
batching); slots of the ring that were written before are then hidden from it.
"""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax import watchdog
from amuro_jax.models.cache import KeyValues, KVCache, concatenate, empty
from amuro_jax.models.layout import Layout, begun
from amuro_jax.models.parameters import unstack_layers
from amuro_jax.scoring.memory import only_memory
from amuro_jax.scoring.prefix import read_prefix
from amuro_jax.scoring.programs import pad_rows
from amuro_jax.scoring.requests import Generation, Request
from amuro_jax.scoring.schedule import (
    NON_FINITE,
    STEPS,
    GenerationBatch,
    RowSchedule,
    ending,
    plan_batches,
    side_by_side,
)
from amuro_jax.sharding import batch_divisor

NO_EOS = -2  # no token, nor NON_FINITE


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy; `top_p` keeps the smallest set of
    tokens with that probability.

    Draws depend on (seed, request, step) alone, not on the batch.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Generator:
    """The compiled programs of generation; see `Scorer.generate`.

    Args:
        programs: `programs.Programs` of the same model.
    """

    def __init__(self, programs):
        self.programs = programs
        self.stacks = programs.strategy.step_stacks
        self.unstacked = self.stacks != programs.stacks
        self._read = programs.jit("generate_read", self._context, static_argnums=(5,))
        self._first = programs.jit(
            "generate_first", self._start, (None, programs.replicated), static_argnums=(6,)
        )
        self._join = programs.jit("generate_join", concatenate)
        self._more = programs.jit(
            "generate_steps",
            self._steps,
            (None, programs.replicated),
            static_argnums=(7, 8),
            donate_argnums=(1,),
        )
        self._replace = programs.jit("generate_replace", _replaced, donate_argnums=(0,))

    def _context(self, params, tokens_BT, length_B, prefix_length, prefix, capacity):
        """Reads contexts: a buffer that begins with their keys and values, and the hidden state of
        each last token.
        """
        slot = jnp.arange(tokens_BT.shape[1])[None]
        length = length_B[:, None]
        layout = begun(prefix_length + jnp.where(slot < length, slot, 0), length)
        last = jnp.maximum(length_B - 1, 0)[:, None]
        hidden, new = self.programs.forward(
            params, tokens_BT, layout, cache=KVCache(prefix=prefix), keep=True, query_positions=last
        )
        new = new.unstacked() if self.unstacked else new
        return new.widened(capacity), hidden[:, 0]

    def _start(self, params, last, length_B, prefix_length, request_B, seed, sampling):
        """State of all rows after their contexts, and the first new token of each for the host."""
        count = jnp.zeros_like(length_B)
        token = self._draw(params, jnp.concatenate(last), request_B, count, seed, sampling)
        return {"position": prefix_length + length_B, "count": count, "token": token}, token

    def _steps(self, params, state, prefix, request_B, eos_E, seed, ring_slot, room, sampling):
        """STEPS more tokens of each row; keys and values go into the ring, from `ring_slot` on.

        They go into a small buffer of their own, and from there into the large one at once: XLA
        copies in every step what it writes to.
        """
        past, count = state["cache"], state["count"]
        rows = state["token"].shape[0]
        recent = empty(self.programs.config, rows, STEPS, self.programs.dtype, self.stacks)

        def step(carry, number):
            token, recent = carry
            zeros = jnp.zeros((rows, 1), jnp.int32)
            layout = Layout(state["position"][:, None] + number, zeros, zeros + 1)
            cache = KVCache(prefix=prefix, past=past, buffer=recent, length=number)
            hidden, keys = self.programs.forward(
                params, token[:, None], layout, cache=cache, keep=True
            )
            recent = cache.append(keys).buffer
            new = self._draw(params, hidden[:, 0], request_B, count + number + 1, seed, sampling)
            ended = jnp.any(token[:, None] == eos_E, axis=1)
            new = jnp.where(ended, token, new)
            return (new, recent), new

        (token, recent), tokens = jax.lax.scan(step, (state["token"], recent), jnp.arange(STEPS))
        cache = past.written(recent, past.slots - room + ring_slot)
        return {
            "cache": cache,
            "position": state["position"] + STEPS,
            "count": count + STEPS,
            "token": token,
        }, tokens.T

    def _draw(self, params, hidden_BD, request_B, made_B, seed, sampling):
        """The next token of each row; NON_FINITE where its logits are not finite."""
        if sampling.temperature == 0:
            normaliser, token = self.programs.logsumexp_and_best(params, hidden_BD)
            return jnp.where(jnp.isfinite(normaliser), token, NON_FINITE)
        scores = self.programs.all_columns(params, hidden_BD) / sampling.temperature
        finite = jnp.isfinite(jnp.max(scores, axis=-1))
        if sampling.top_p < 1:
            scores = _nucleus(scores, sampling.top_p)
        key = jax.random.key(seed)
        keys = jax.vmap(
            lambda request, count: jax.random.fold_in(jax.random.fold_in(key, request), count)
        )(request_B, made_B)
        token = jax.vmap(jax.random.categorical)(keys, scores).astype(jnp.int32)
        return jnp.where(finite, token, NON_FINITE)

    def run(self, params, batch: GenerationBatch, prefix, prefix_length, eos, sampling, finish):
        """Generates one batch; `finish(number in the batch, tokens) -> Generation | None` is called
        after every few steps.
        """
        put = self.programs.put
        count, step = batch.sizes(
            1 if self.programs.mesh is None else batch_divisor(self.programs.mesh)
        )
        # Static, so that another seed is no other program.
        seed, way = (
            put(np.uint32(sampling.seed % 2**32)),
            dataclasses.replace(sampling, seed=0),
        )
        work = _Work(params, batch, prefix, put(np.int32(prefix_length)), seed, way)
        state, token = self._begin(work, count, step)
        layers, before = (
            (unstack_layers(params), prefix and prefix.unstacked())
            if self.unstacked
            else (params, prefix)
        )
        eos_E = put(np.asarray(eos or (NO_EOS,), np.int32))
        rows, ring_slot = RowSchedule(batch, count, finish), 0
        request = pad_rows(np.asarray(batch.requests[:count], np.int32), count, 0)
        rows.add(range(count), token)
        while not rows.over:
            if refilled := rows.refill(step):
                slots, numbers = zip(*refilled, strict=True)
                state, token = self._take(
                    work, state, np.asarray(slots, np.int32), numbers, count, step
                )
                request[list(slots)] = [batch.requests[number] for number in numbers]
                rows.add(slots, token)
                continue
            state, token = self._more(
                layers,
                state,
                before,
                put(request, 0),
                eos_E,
                seed,
                put(np.int32(ring_slot % batch.room)),
                batch.room,
                way,
            )
            ring_slot += STEPS
            rows.add(range(count), np.asarray(token))
            watchdog.progress()

    def _begin(self, work, count, step):
        """The state of `count` rows that hold the first texts of a batch, read `step` at a time,
        and the first token of each [count, 1].
        """
        parts, last, contexts = [], [], len(work.batch.contexts)
        for first in range(0, count, step):
            if first < contexts:
                read, hidden = self._contexts(
                    work, range(first, min(first + step, count, contexts)), min(step, count)
                )
            else:  # rows that only fill the batch up hold whatever was read last
                read = jax.tree.map(jnp.copy, read)
            parts, last = [*parts, read], [*last, hidden]
        state, token = self._first_tokens(work, last, range(min(count, contexts)), count)
        cache = self._join(parts) if len(parts) > 1 else parts[0]
        return state | {"cache": cache}, token

    def _take(self, work, state, rows, numbers, count, step):
        """The state with the texts `numbers` in `rows`, and the first token of each."""
        read, hidden = self._contexts(work, numbers, step)
        new, token = self._first_tokens(work, [hidden], numbers, step)
        state = self._replace(
            state, new | {"cache": read}, self.programs.put(pad_rows(rows, step, count))
        )
        return state, token[: len(numbers)]

    def _contexts(self, work, numbers, count):
        """What `_read` gives for texts of a batch, in `count` rows."""
        put, batch = self.programs.put, work.batch
        tokens = side_by_side([batch.contexts[number] for number in numbers], count)
        return self._read(
            work.params,
            put(tokens, 0),
            put(batch.lengths(numbers, count), 0),
            work.start,
            work.prefix,
            batch.width + batch.room,
        )

    def _first_tokens(self, work, last, numbers, count):
        put, batch = self.programs.put, work.batch
        request = pad_rows(
            np.asarray([batch.requests[number] for number in numbers], np.int32), count, 0
        )
        lengths = put(batch.lengths(numbers, count), 0)
        state, token = self._first(
            work.params, last, lengths, work.start, put(request, 0), work.seed, work.sampling
        )
        return state, np.asarray(token)[:, None]


@dataclasses.dataclass(frozen=True)
class _Work:
    """What reading the contexts of one batch takes.

    `start` is the length of the prefix, on the device.
    """

    params: dict
    batch: GenerationBatch
    prefix: KeyValues | None
    start: jax.Array
    seed: jax.Array
    sampling: Sampling


def generate(generator, limits, params, requests, *, eos, stopped, sampling, each):
    """See `Scorer.generate`; `params` are placed. Goes on with fewer rows when memory runs out."""
    results: list[Generation | None] = [None] * len(requests)

    def finish(batch, number, tokens):
        index = batch.requests[number]
        stop = stopped and functools.partial(stopped, index)
        ended = ending(tokens, batch.limits[number], eos, stop)
        if ended:
            results[index] = ended
            if each:
                each(index, ended)
        return ended

    rows = limits.rows(_longest(requests))
    for prefix_tokens, batches in plan_batches(
        requests, rows, limits.batch_tokens, generator.programs.config.max_length
    ):
        prefix = read_prefix(generator.programs, limits, params, prefix_tokens)
        waiting = collections.deque(batches)
        while waiting:
            batch = waiting.popleft()
            try:
                generator.run(
                    params,
                    batch,
                    prefix,
                    len(prefix_tokens),
                    eos,
                    sampling,
                    functools.partial(finish, batch),
                )
            except jax.errors.JaxRuntimeError as error:
                count, _ = batch.sizes(limits.divisor)
                limits.fewer_rows(only_memory(error), count, batch.width + batch.room)
                done = {
                    number
                    for number, index in enumerate(batch.requests)
                    if results[index] is not None
                }
                waiting.appendleft(batch.without(done, limits.generation_rows))
    return results


def _longest(requests: list[Request]) -> int:
    return max((len(each.context) + each.max_new_tokens for each in requests), default=1)


@functools.partial(jax.jit, static_argnums=1)
def _nucleus(scores_BV, top_p):
    ordered = jnp.sort(scores_BV, axis=-1)[:, ::-1]
    mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
    lowest = jnp.take_along_axis(ordered, jnp.sum(mass < top_p, axis=-1, keepdims=True), axis=-1)
    return jnp.where(scores_BV >= lowest, scores_BV, -jnp.inf)


def _replaced(state, new, row_N):
    """The state with other texts in the rows that `row` names; past the last: none."""
    scalars = {
        name: state[name].at[row_N].set(new[name], mode="drop")
        for name in ("position", "count", "token")
    }
    return scalars | {"cache": state["cache"].with_rows(new["cache"], row_N)}
