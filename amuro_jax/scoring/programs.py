"""The compiled programs of the scorer: prefix, lines, vocabulary head.

Parameters are arguments, shapes come from buckets.
"""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax import processes, sharding
from amuro_jax.models import cache
from amuro_jax.models.cache import KVCache
from amuro_jax.models.forward import forward, logits
from amuro_jax.models.layout import EVERYTHING, Layout, begun
from amuro_jax.models.parameters import axes_of, stack_layers

HEAD_POSITIONS = (32, 128, 512)  # hidden states of one call of the head
LOGITS_AT_ONCE = 2**23  # fp32: 32 MB
TARGETS_PER_POSITION = 4  # that one call of the head takes


class Programs:
    """Jitted functions of one model configuration; `traces` counts how often each was traced.

    Args:
        config: ModelConfig.
        mesh: from `sharding.make_mesh`, or None for the default device.
        dtype: compute dtype.
        strategy: `strategy.Strategy`.

    Attributes:
        stacks: how the parameters' layers are stacked, see `parameters.stack_layers`.
        replicated: sharding of what every process needs in full: a copy on each device; None
            without a mesh.
    """

    def __init__(self, config, mesh, dtype, strategy):
        self.config, self.mesh, self.dtype = config, mesh, jnp.dtype(dtype)
        self.strategy, self.stacks = strategy, strategy.stacks
        self.attention, self.vocab_chunk = strategy.attention, strategy.vocab_chunk
        self.traces: collections.Counter = collections.Counter()
        self.replicated = None if mesh is None else sharding.replicated(mesh)
        self.prefix = self.jit("prefix", self._prefix, self.replicated)
        self.prefix_part = self.jit(
            "prefix_part", self._prefix_part, self.replicated, donate_argnums=(1,)
        )
        self.empty = self.jit(
            "empty",
            lambda capacity: cache.empty(config, 1, capacity, self.dtype, self.stacks),
            self.replicated,
            static_argnums=(0,),
        )
        self.lines = self.jit("lines", self._lines)
        self.head = self.jit("head", self._head, self.replicated)

    def jit(self, name, function, out_shardings=None, **options):
        """`jax.jit` with the traces counted under `name`."""

        @functools.wraps(function)
        def counted(*args):
            self.traces[name] += 1
            return function(*args)

        return jax.jit(counted, out_shardings=out_shardings, **options)

    def place(self, params):
        """Parameters on the mesh as the programs read them: layers in `stacks`, kernels and
        embeddings in the compute dtype, norms in fp32.
        """
        cast = self.cast(params)
        cast = cast if isinstance(params["layers"], tuple) else stack_layers(cast, self.stacks)
        if self.mesh is None:
            return jax.device_put(cast)
        return jax.device_put(
            cast, sharding.shardings(axes_of(cast, self.config, self.stacks), cast, self.mesh)
        )

    def cast(self, params):
        """Parameters (or their shapes) in the dtype the programs read."""

        def one(path, leaf):
            norm = any("norm" in str(getattr(key, "key", key)) for key in path)
            target = jnp.dtype(jnp.float32) if norm else self.dtype
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(leaf.shape, target)
            return leaf if leaf.dtype == target else leaf.astype(target)

        return jax.tree_util.tree_map_with_path(one, params)

    def put(self, array, batch_axis: int | None = None):
        """A host array on the device.

        Split along `batch_axis` over the batch axes of the mesh, else a copy on each.
        """
        if self.mesh is None:
            return jnp.asarray(array)
        if batch_axis is None:
            return processes.put(array, self.replicated)
        return processes.put(array, sharding.batch_sharding(self.mesh, array.ndim, batch_axis))

    def forward(self, params, tokens, layout, **more):
        """`models.forward.forward` of this configuration."""
        return forward(
            params,
            tokens,
            layout,
            **{"config": self.config, "dtype": self.dtype, "attention": self.attention} | more,
        )

    def _prefix(self, params, tokens_1P, length):
        layout = begun(jnp.arange(tokens_1P.shape[1])[None], length, EVERYTHING)
        return self.forward(
            params,
            tokens_1P,
            layout,
            keep=True,
            attention=dataclasses.replace(self.attention, segments=True),
        )[1]

    def _prefix_part(self, params, buffer, tokens_1C, offset, length):
        """A prefix of `length` tokens read in parts: the buffer with the part from `offset` on."""
        slot = offset + jnp.arange(tokens_1C.shape[1])[None]
        layout = begun(slot, length - offset, EVERYTHING)
        read = KVCache(buffer=buffer, length=offset)
        _, new = self.forward(params, tokens_1C, layout, cache=read, keep=True)
        return read.append(new).buffer

    def _lines(self, params, tokens_BT, position_BT, enter_BT, leave_BT, query_positions, prefix):
        hidden, _ = self.forward(
            params,
            tokens_BT,
            Layout(position_BT, enter_BT, leave_BT),
            cache=KVCache(prefix=prefix),
            query_positions=query_positions,
        )
        return hidden.reshape(-1, hidden.shape[-1])

    def _head(self, params, hidden_ND, position_A, row_M, target_M):
        """Log-probability of each target [M] and whether it is the most probable token [M].

        `row` points into `position`.
        """
        hidden_AD = jnp.take(hidden_ND, position_A, axis=0)
        normaliser, best = self.logsumexp_and_best(params, hidden_AD)
        score = self.score(params, jnp.take(hidden_AD, row_M, axis=0), target_M)
        return score - jnp.take(normaliser, row_M), jnp.take(best, row_M) == target_M

    def score(self, params, hidden_MD, target_M):
        """fp32 logit of one target per hidden state."""
        tied = self.config.tie_embeddings
        table = params["embed"]["embedding"] if tied else params["unembed"]["kernel"]
        column = jnp.take(table, target_M, axis=0) if tied else jnp.take(table, target_M, axis=1).T
        return jnp.einsum(
            "md,md->m",
            hidden_MD,
            column.astype(hidden_MD.dtype),
            preferred_element_type=jnp.float32,
        )

    def logsumexp_and_best(self, params, hidden_AD):
        """Log-sum-exp over the vocabulary and its most probable token (the first of equals), a
        chunk of columns at a time.
        """
        size = self.config.vocab_size
        # Few rows need no chunks: a slice of the columns is a copy, and costs as much as their
        # product.
        chunk = (
            size
            if hidden_AD.shape[0] * size <= LOGITS_AT_ONCE
            else min(self.vocab_chunk or size, size)
        )

        def step(carry, start):
            part = self._columns(params, hidden_AD, start, chunk)
            return _merge(carry, part, start), None

        rows = hidden_AD.shape[0]
        carry = (jnp.full(rows, -jnp.inf), jnp.zeros(rows), jnp.zeros(rows, jnp.int32))
        carry, _ = jax.lax.scan(step, carry, jnp.arange(size // chunk) * chunk)
        if size % chunk:
            start = size - size % chunk
            carry = _merge(carry, self._columns(params, hidden_AD, start, size % chunk), start)
        highest, total, best = carry
        return highest + jnp.log(total), best

    def all_columns(self, params, hidden_AD):
        """fp32 logits [A, V] of a few hidden states, for sampling."""
        return logits(params, hidden_AD, self.config)

    def _columns(self, params, hidden, start, size):
        if size == self.config.vocab_size:
            return logits(params, hidden, self.config)
        if self.config.tie_embeddings:
            table = jax.lax.dynamic_slice_in_dim(params["embed"]["embedding"], start, size, axis=0)
            return logits({"embed": {"embedding": table}}, hidden, self.config)
        kernel = jax.lax.dynamic_slice_in_dim(params["unembed"]["kernel"], start, size, axis=1)
        return logits({"unembed": {"kernel": kernel}}, hidden, self.config)


def _merge(carry, part_AV, start):
    highest, total, best = carry
    here = jnp.max(part_AV, axis=-1)
    new = jnp.maximum(highest, here)
    total = total * jnp.exp(highest - new) + jnp.sum(jnp.exp(part_AV - new[:, None]), axis=-1)
    return (
        new,
        total,
        jnp.where(here > highest, jnp.argmax(part_AV, axis=-1).astype(jnp.int32) + start, best),
    )


def pad_rows(array: np.ndarray, rows: int, fill: int) -> np.ndarray:
    """`array` with its first axis padded to `rows`."""
    if len(array) == rows:
        return array
    return np.concatenate(
        [array, np.full((rows - len(array), *array.shape[1:]), fill, array.dtype)]
    )
