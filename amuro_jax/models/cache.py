"""Keys and values of earlier tokens: what a forward pass attends to besides its own tokens.

`KeyValues` are stored; a `KVCache` says how a pass uses them:

    prefix    read only, batch 1, seen by every row
    past      read only, one row of keys for each row of the batch
    buffer    fixed capacity; tokens are appended at `length`, and later slots are hidden

Any of them may be absent, in every combination. A pass never writes: it gives back the keys and
values of its own tokens, and `KVCache.append` puts them into the buffer.
"""

import flax.struct
import jax
import jax.numpy as jnp

from amuro_jax.models.attention import KeyBlock
from amuro_jax.models.layout import Layout


@flax.struct.dataclass
class KeyValues:
    """Keys and values of all layers, rope applied, with the layout [B, S] of their tokens.

    Attributes:
        key, value: one array per stack of layers (`parameters.stack_layers`): [n, B, G, S, K], or
            [B, G, S, K] of a layer that is not stacked.
    """

    key: tuple
    value: tuple
    layout: Layout

    @property
    def rows(self) -> int:
        """B."""
        return self.layout.enter.shape[0]

    @property
    def slots(self) -> int:
        """S."""
        return self.layout.enter.shape[1]

    def widened(self, slots: int) -> "KeyValues":
        """The same with further slots at the end, which hold nothing."""

        def widen(leaf):
            room = [(0, 0)] * leaf.ndim
            room[_slot_axis(leaf)] = (0, slots - self.slots)
            return jnp.pad(leaf, room, constant_values=-1 if leaf.ndim == 2 else 0)

        return jax.tree.map(widen, self)

    def written(self, new: "KeyValues", slot) -> "KeyValues":
        """The same with `new` in it, from `slot` on."""

        def put(leaf, part):
            part = jnp.asarray(part, leaf.dtype)
            return jax.lax.dynamic_update_slice_in_dim(leaf, part, slot, axis=_slot_axis(leaf))

        return jax.tree.map(put, self, new)

    def with_rows(self, new: "KeyValues", row_N) -> "KeyValues":
        """The same with `new` in the rows that `row` names; a number past the last is dropped."""

        def put(leaf, part):
            index = (slice(None),) * _row_axis(leaf) + (row_N,)
            return leaf.at[index].set(part, mode="drop")

        return jax.tree.map(put, self, new.widened(self.slots))

    def unstacked(self) -> "KeyValues":
        """The same with every layer in an array of its own."""

        def split(stacks):
            return tuple(
                layer for stack in stacks for layer in (stack if stack.ndim == 5 else [stack])
            )

        return KeyValues(split(self.key), split(self.value), self.layout)


def concatenate(parts: list[KeyValues]) -> KeyValues:
    """The rows of all parts, which have the same slots."""
    return jax.tree.map(lambda *leaf: jnp.concatenate(leaf, axis=_row_axis(leaf[0])), *parts)


def empty(config, rows: int, slots: int, dtype, stacks: tuple[int, ...] | None = None) -> KeyValues:
    """Keys and values that hold nothing, stacked as the layers are (None: in one stack).

    Call it inside jit, where it costs no second trace.
    """
    one = (rows, config.num_kv_heads, slots, config.head_dim)
    shapes = [one if size == 1 else (size, *one) for size in stacks or ()]

    def zeros():
        return tuple(jnp.zeros(shape, dtype) for shape in shapes or [(config.num_layers, *one)])

    hidden = jnp.full((rows, slots), -1, jnp.int32)
    return KeyValues(zeros(), zeros(), Layout(jnp.zeros_like(hidden), hidden, hidden))


@flax.struct.dataclass
class KVCache:
    """Earlier tokens, as one forward pass uses them.

    Attributes:
        prefix: read only, batch 1: tokens that every row sees.
        past: read only, batch B: earlier tokens of each row, seen where their layout says so.
        buffer: batch B: its first `length` slots hold earlier tokens, seen where their layout says
            so; the tokens of the pass count as slots [length, length + T).
        length: int scalar, may be traced.
    """

    prefix: KeyValues | None = None
    past: KeyValues | None = None
    buffer: KeyValues | None = None
    length: jnp.ndarray | int = 0

    def append(self, new: KeyValues) -> "KVCache":
        """The cache after a pass that gave `new`, which now is in the buffer."""
        buffer = self.buffer.written(new, self.length)
        return self.replace(buffer=buffer, length=self.length + new.slots)

    def blocks(self) -> list[KeyBlock]:
        """Blocks in slot order, whose keys and values are tuples of stacks.

        Prefix and past end before slot 0; the buffer's slots are those that own tokens count.
        """
        blocks = [
            _block(part, part.layout, jnp.arange(-part.slots, 0), shared=part is self.prefix)
            for part in (self.prefix, self.past)
            if part is not None
        ]
        if self.buffer is not None:
            slot = jnp.arange(self.buffer.slots)
            blocks.append(_block(self.buffer, _until(self.buffer.layout, slot, self.length), slot))
        return blocks


def _block(part, layout, slot, shared=False):
    return KeyBlock(part.key, part.value, layout, slot, shared=shared)


def _until(layout, slot, length):
    """The layout of a buffer whose slots from `length` on are seen by nothing."""
    later = slot[None] >= length
    enter, leave = (jnp.where(later, -1, field) for field in (layout.enter, layout.leave))
    return Layout(layout.position, enter, leave)


# Keys and values are [..., B, G, S, K], layouts [B, S].
def _row_axis(leaf):
    return leaf.ndim - 4 if leaf.ndim > 2 else 0


def _slot_axis(leaf):
    return leaf.ndim - 2 if leaf.ndim > 2 else 1
