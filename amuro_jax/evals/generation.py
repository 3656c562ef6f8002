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
from amuro_jax.models.decoder import KeyValues
from amuro_jax.models.layout import Layout
from amuro_jax.models.parameters import set_apart
from amuro_jax.sharding import batch_divisor

ROWS = (1, 4, 16, 64, 256)
STEPS = 8  # new tokens between two looks at the text


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
        devices = jax.devices() if programs.mesh is None else programs.mesh.devices.flat
        self._apart = devices[0].platform == "cpu"  # see parameters.set_apart
        self._first = programs.jit("generate_first", self._start, static_argnums=(6, 7))
        self._more = programs.jit("generate_steps", self._steps, static_argnums=(5, 6), donate_argnums=(1,))

    def _start(self, params, tokens_BT, length_B, prefix_length, shared, request_B, capacity, sampling):
        """Reads the contexts; gives the buffer and the first new token of each row."""
        slot = jnp.arange(tokens_BT.shape[1])[None]
        real = slot < length_B[:, None]
        layout = Layout(prefix_length + jnp.where(real, slot, 0), jnp.where(real, 0, -1), jnp.where(real, 1, -1))
        hidden, kept = self.programs.forward(params, tokens_BT, layout, shared=shared, keep=True)
        last = jnp.take_along_axis(hidden, jnp.maximum(length_B - 1, 0)[:, None, None], axis=1)[:, 0]
        cache = _widen(kept, capacity)
        state = {"cache": _by_layer(cache) if self._apart else cache, "position": prefix_length + length_B, "step": jnp.int32(0)}
        return state | {"token": self._draw(params, last, request_B, 0, sampling)}

    def _steps(self, params, state, shared, request_B, eos, width, sampling):
        """STEPS more tokens of each row; the row's layout makes what follows its end invisible to nobody but itself."""

        shared = _by_layer(shared) if self._apart and shared is not None else shared

        def step(state, _):
            token, number = state["token"], state["step"]
            zeros = jnp.zeros_like(token)[:, None]
            layout = Layout(state["position"][:, None], zeros, zeros + 1)
            more = {"shared": shared, "cache": state["cache"], "offset": width + number}
            hidden, cache = self.programs.forward(params, token[:, None], layout, **more)
            new = self._draw(params, hidden[:, 0], request_B, number + 1, sampling)
            new = jnp.where(token == eos, eos, new)
            return {"cache": cache, "position": state["position"] + 1, "step": number + 1, "token": new}, new

        state, tokens = jax.lax.scan(step, state, length=STEPS)
        return state, tokens.T

    def _draw(self, params, hidden_BD, request_B, step, sampling):
        if sampling.temperature == 0:
            return self.programs.summarise(params, hidden_BD)[1]
        scores = self.programs.all_columns(params, hidden_BD) / sampling.temperature
        if sampling.top_p < 1:
            scores = _nucleus(scores, sampling.top_p)
        key = jax.random.key(sampling.seed)
        keys = jax.vmap(lambda request: jax.random.fold_in(jax.random.fold_in(key, request), step))(request_B)
        return jax.vmap(jax.random.categorical)(keys, scores).astype(jnp.int32)

    def run(self, params, batch, shared, prefix_length, eos, sampling, finish):
        """Generates for one batch; `finish(row, tokens) -> Generation | None` is asked after every few steps."""
        put = self.programs.put
        shards = 1 if self.programs.mesh is None else batch_divisor(self.programs.mesh)
        rows = -(-buckets.round_up(len(batch.requests), ROWS) // shards) * shards
        width = batch.width
        capacity = width + batch.room
        tokens, length = np.zeros((rows, width), np.int32), np.zeros(rows, np.int32)
        for row, context in enumerate(batch.contexts):
            tokens[row, : len(context)], length[row] = context, len(context)
        request = put(pad_rows(np.asarray(batch.requests, np.int32), rows, 0), 0)
        state = self._first(params, put(tokens, 0), put(length, 0), put(np.int32(prefix_length)), shared, request, capacity, sampling)
        params = set_apart(params) if self._apart else params
        out = [[int(token)] for token in np.asarray(state["token"])[: len(batch.requests)]]
        done = {row: result for row, made in enumerate(out) if (result := finish(row, made))}
        while len(done) < len(out):
            state, new = self._more(params, state, shared, request, put(np.int32(eos)), width, sampling)
            for row, more in enumerate(np.asarray(new)[: len(out)].tolist()):
                if row not in done:
                    out[row] += more
                    if result := finish(row, out[row]):
                        done[row] = result
        return [done[row] for row in range(len(out))]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows that are generated together: numbers of their requests, contexts after the prefix, new tokens at most; slots of a line."""

    requests: list[int]
    contexts: list[np.ndarray]
    limits: list[int]
    width: int
    room: int


def plan_batches(requests: list[Request], rows: int, overhead: float, max_length: int):
    """Yields (prefix, batches) for all requests: grouped by shared prefix, batched by length.

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
    for group in tree.partition(lcp, length - 1, length, overhead) if len(order) else []:
        members = sorted(order[group.members].tolist(), key=lambda i: (len(contexts[i]), i))
        batches = []
        for start in range(0, len(members), rows):
            part = members[start : start + rows]
            suffixes = [contexts[i][group.prefix :] for i in part]
            width = buckets.round_up(max(map(len, suffixes)), buckets.WIDTHS)
            batches.append(Batch(part, suffixes, [requests[i].max_new_tokens for i in part], width, room))
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


def _by_layer(cache: KeyValues) -> KeyValues:
    return KeyValues(tuple(cache.key), tuple(cache.value), cache.layout)


def _widen(kept: KeyValues, capacity: int) -> KeyValues:
    """A buffer of `capacity` slots that begins with what was read."""
    more = capacity - kept.key.shape[2]
    key, value = (jnp.pad(part, ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))) for part in (kept.key, kept.value))
    layout = jax.tree.map(lambda part: jnp.pad(part, ((0, 0), (0, more)), constant_values=-1), kept.layout)
    return KeyValues(key, value, layout)
