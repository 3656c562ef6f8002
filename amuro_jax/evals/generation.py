"""Greedy and sampled generation behind a shared prefix: one prefill, then steps over a fixed buffer of keys and values.

The prefix of a group stands once, for all rows. Rows stand in slots of one batch; the first T slots of the buffer hold their
contexts, right-padded, and all rows write their new token at the same further slot, so that one scalar offset serves all.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.errors import DataError
from amuro_jax.evals import buckets, tree
from amuro_jax.evals.programs import pad_rows
from amuro_jax.evals.requests import Generation, Request
from amuro_jax.models.decoder import KeyValues, slot_axis, write
from amuro_jax.models.forward import empty_cache
from amuro_jax.models.layout import Layout
from amuro_jax.models.parameters import apart
from amuro_jax.sharding import batch_divisor

ROWS = (1, 4, 16, 64, 256)
WIDTHS = tuple(sorted({48, 80, *buckets.WIDTHS}))  # finer than for lines: every slot of the buffer is read at every step
MOST_PARTS = 4  # buffers of some rows each: every one is a piece of each layer's program
STEPS = 4  # new tokens between two looks at the text


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy; `top_p` keeps the smallest set of tokens with that probability.

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
        # One CPU. A loop over stacked layers would copy each layer out of the stack there, which costs more than the products of a few tokens.
        self.alone = programs.attention.name == "blocked" and (programs.mesh is None or programs.mesh.size == 1)
        self.parts = (1,) * programs.config.num_layers if self.alone else programs.parts
        self._read = programs.jit("generate_read", self._context, static_argnums=(5,))
        self._first = programs.jit("generate_first", self._start, (None, programs.whole), static_argnums=(6,))
        self._join = programs.jit("generate_join", _joined)
        self._more = programs.jit("generate_steps", self._steps, (None, programs.whole), static_argnums=(6, 7), donate_argnums=(1,))

    def _context(self, params, tokens_BT, length_B, prefix_length, shared, capacity):
        """Reads contexts: a buffer that begins with their keys and values, and the hidden state of each last token."""
        slot = jnp.arange(tokens_BT.shape[1])[None]
        real = slot < length_B[:, None]
        layout = Layout(prefix_length + jnp.where(real, slot, 0), jnp.where(real, 0, -1), jnp.where(real, 1, -1))
        last = jnp.maximum(length_B - 1, 0)[:, None]
        hidden, kept = self.programs.forward(params, tokens_BT, layout, shared=shared, keep=True, asked=last)
        return _widen(self._split(kept), capacity), hidden[:, 0]

    def _start(self, params, last, length_B, prefix_length, request_B, seed, sampling):
        """Where all rows stand, and the first new token of each, twice: for the next steps, and for the host."""
        token = self._draw(params, jnp.concatenate(last), request_B, 0, seed, sampling)
        return {"position": prefix_length + length_B, "step": jnp.int32(0), "token": token}, token

    def _gather(self, kept):
        """The buffer of all rows from those of the parts that were read."""
        if not self.alone:
            return self._join(kept) if len(kept) > 1 else kept[0]
        # On one CPU rows stay as they were read: no copy, and short contexts beside long ones have no slots that nothing stands in.
        several = -(-len(kept) // MOST_PARTS)
        groups = [kept[i : i + several] for i in range(0, len(kept), several)]
        return tuple(self._join(group) if len(group) > 1 else group[0] for group in groups)

    def _steps(self, params, state, shared, request_B, eos, seed, room, sampling):
        """STEPS more tokens of each row.

        They go into a small buffer of their own, and from there into the large one at once: what a step writes to is copied in it.
        """
        past, first = state["cache"], state["step"]
        rows = state["token"].shape[0]
        recent = empty_cache(self.programs.config, rows, STEPS, self.programs.dtype, self.parts)

        def step(carry, number):
            token, recent = carry
            zeros = jnp.zeros((rows, 1), jnp.int32)
            layout = Layout(state["position"][:, None] + number, zeros, zeros + 1)
            more = {"shared": shared, "past": past, "cache": recent, "offset": number}
            hidden, recent = self.programs.forward(params, token[:, None], layout, **more)
            new = self._draw(params, hidden[:, 0], request_B, first + number + 1, seed, sampling)
            new = jnp.where(token == eos, eos, new)
            return (new, recent), new

        (token, recent), tokens = jax.lax.scan(step, (state["token"], recent), jnp.arange(STEPS))
        state = {"cache": self._write(past, recent, room, first), "position": state["position"] + STEPS, "step": first + STEPS, "token": token}
        return state, tokens.T

    def _write(self, past, recent, room, first):
        """The buffer, or all of them, with the recent tokens: they go into the last `room` slots, from the `first` of these on."""
        if not self.alone:
            return write(past, recent, past.layout.enter.shape[1] - room + first)
        written, start = [], 0
        for part in past:
            rows, slots = part.layout.enter.shape
            mine = jax.tree.map(lambda leaf, start=start, end=start + rows: leaf[start:end], recent)
            written.append(write(part, mine, slots - room + first))
            start += rows
        return tuple(written)

    def _split(self, cache):
        """Keys and values in the parts that steps work with."""
        if not self.alone:
            return cache
        key, value = ([one for part in parts for one in (part if part.ndim == 5 else [part])] for parts in (cache.key, cache.value))
        return KeyValues(tuple(key), tuple(value), cache.layout)

    def _draw(self, params, hidden_BD, request_B, step, seed, sampling):
        if sampling.temperature == 0:
            return self.programs.summarise(params, hidden_BD)[1]
        scores = self.programs.all_columns(params, hidden_BD) / sampling.temperature
        if sampling.top_p < 1:
            scores = _nucleus(scores, sampling.top_p)
        key = jax.random.key(seed)
        keys = jax.vmap(lambda request: jax.random.fold_in(jax.random.fold_in(key, request), step))(request_B)
        return jax.vmap(jax.random.categorical)(keys, scores).astype(jnp.int32)

    def run(self, params, batch, shared, prefix_length, eos, sampling, finish):
        """Generates for one batch; `finish(row, tokens) -> Generation | None` is asked after every few steps."""
        put = self.programs.put
        shards = 1 if self.programs.mesh is None else batch_divisor(self.programs.mesh)
        step = -(-batch.read // shards) * shards
        rows = -(-buckets.round_up(len(batch.requests), ROWS) // shards) * shards
        rows = -(-rows // step) * step if rows > step else rows
        length = pad_rows(np.asarray([len(context) for context in batch.contexts], np.int32), rows, 0)
        request, start = put(pad_rows(np.asarray(batch.requests, np.int32), rows, 0), 0), put(np.int32(prefix_length))
        kept, last = [], []
        for first in range(0, rows, step):
            end = min(first + step, rows)
            if first < len(batch.contexts):
                tokens = _side_by_side(batch.contexts[first:end], end - first)
                capacity = (tokens.shape[1] if self.alone else batch.width) + batch.room
                read, hidden = self._read(params, put(tokens, 0), put(length[first:end], 0), start, shared, capacity)
            else:  # rows that only fill the batch up hold whatever was read last
                read = jax.tree.map(jnp.copy, read)
            kept, last = [*kept, read], [*last, hidden]
        seed = put(np.uint32(sampling.seed % 2**32))
        way = dataclasses.replace(sampling, seed=0)  # static, so that another seed is no other program
        state, token = self._first(params, last, put(length, 0), start, request, seed, way)
        state |= {"cache": self._gather(kept)}
        del kept, read  # the steps write into these buffers
        params = apart(params) if self.alone else params
        shared = shared if shared is None else self._split(shared)
        out = [[made] for made in np.asarray(token)[: len(batch.requests)].tolist()]
        done = {row: result for row, made in enumerate(out) if (result := finish(row, made))}
        while len(done) < len(out):
            state, new = self._more(params, state, shared, request, put(np.int32(eos)), seed, batch.room, way)
            for row, more in enumerate(np.asarray(new)[: len(out)].tolist()):
                if row not in done:
                    out[row] += more
                    if result := finish(row, out[row]):
                        done[row] = result
        return [done[row] for row in range(len(out))]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows that are generated together: numbers of their requests, contexts after the prefix (shortest first), new tokens at most.

    `width`: slots of the longest context; `room`: slots for new tokens; `read`: rows whose contexts are read at once.
    """

    requests: list[int]
    contexts: list[np.ndarray]
    limits: list[int]
    width: int
    room: int
    read: int


def halves(batch: Batch) -> list[Batch]:
    """Two batches in place of one; each line keeps its slots, so that no other program is needed than for fewer rows."""
    middle = len(batch.requests) // 2
    return [
        dataclasses.replace(batch, requests=batch.requests[part], contexts=batch.contexts[part], limits=batch.limits[part])
        for part in (slice(0, middle), slice(middle, None))
    ]


def _side_by_side(contexts, rows):
    """int32 [rows, width]: contexts padded on the right."""
    tokens = np.zeros((rows, buckets.round_up(max(map(len, contexts), default=1), WIDTHS)), np.int32)
    for row, context in enumerate(contexts):
        tokens[row, : len(context)] = context
    return tokens


def plan_batches(requests: list[Request], rows: int, batch_tokens: int, max_length: int):
    """Yields (prefix, batches) for all requests: grouped by shared prefix, batched by length; about `batch_tokens` are read at once.

    Raises:
        DataError: an empty context, no new tokens, or more tokens than `max_length`.
    """
    for index, request in enumerate(requests):
        if not request.context or request.max_new_tokens < 1:
            raise DataError("generation needs a context and at least one new token", where=f"request {index}")
        if len(request.context) + request.max_new_tokens > max_length:
            what = f"{len(request.context)} tokens and {request.max_new_tokens} new ones do not fit a context of {max_length}"
            raise DataError(what, where=f"request {index}", hint="drop shots or cut the document")
    room = -(-max((request.max_new_tokens for request in requests), default=0) // STEPS) * STEPS  # one size for all: fewer programs
    contexts = [np.asarray(request.context, np.int32) for request in requests]
    order, lcp = tree.sort_sequences(contexts)
    length = np.asarray([len(contexts[i]) for i in order], np.int64)
    for group in tree.partition(lcp, length - 1, length, batch_tokens / 4) if len(order) else []:
        members = sorted(order[group.members].tolist(), key=lambda i: (len(contexts[i]), i))
        batches = []
        for start in range(0, len(members), rows):
            part = members[start : start + rows]
            suffixes = [contexts[i][group.prefix :] for i in part]
            width = buckets.round_up(max(map(len, suffixes)), WIDTHS)
            read = max((size for size in ROWS if size * width <= 2 * batch_tokens), default=ROWS[0])
            batches.append(Batch(part, suffixes, [requests[i].max_new_tokens for i in part], width, room, read))
        yield contexts[members[0]][: group.prefix], batches


def ending(tokens: list[int], limit: int, eos: int | None, stopped) -> Generation | None:
    """The finished generation that `tokens` hold, or None where more are needed.

    Args:
        stopped: function of the tokens so far that gives how many belong to the text at its stop string, or None.
    """
    made = tokens[:limit]
    if eos is not None and eos in made:
        made = made[: made.index(eos)]
    kept = stopped(made) if stopped else None
    if kept is not None:
        return Generation(tuple(made[:kept]), "stop")
    if len(made) < min(limit, len(tokens)):
        return Generation(tuple(made), "eos")
    return Generation(tuple(made), "length") if len(made) == limit else None


@functools.partial(jax.jit, static_argnums=1)
def _nucleus(scores_BV, top_p):
    ordered = jnp.sort(scores_BV, axis=-1)[:, ::-1]
    mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
    lowest = jnp.take_along_axis(ordered, jnp.sum(mass < top_p, axis=-1, keepdims=True), axis=-1)
    return jnp.where(scores_BV >= lowest, scores_BV, -jnp.inf)


def _joined(kept: list[KeyValues]) -> KeyValues:
    """One buffer of all rows, as wide as the widest."""
    capacity = max(part.layout.enter.shape[1] for part in kept)
    kept = [_widen(part, capacity) for part in kept]
    return jax.tree.map(lambda *part: jnp.concatenate(part, axis=max(part[0].ndim - 4, 0)), *kept)


def _widen(kept: KeyValues, capacity: int) -> KeyValues:
    """A buffer of `capacity` slots that begins with what was read."""

    def widen(part):
        room, axis = [(0, 0)] * part.ndim, slot_axis(part)
        room[axis] = (0, capacity - part.shape[axis])
        return jnp.pad(part, room, constant_values=-1 if part.ndim == 2 else 0)

    return jax.tree.map(widen, kept)
