"""Layout: the position of each token and which tokens see it. The one mask rule of training,
scoring and generation.

A query sees a key iff the key's slot is not later and `enter_k <= enter_q < leave_k`. With nodes of
a prefix tree numbered depth-first, (enter, leave) = (number, end of the subtree), so that a token
sees its own node and its ancestors:

    one sequence          enter 0, leave 1
    packed documents      enter i, leave i + 1
    seen by everything    enter 0, leave EVERYTHING
    padding               enter = leave = -1: seen by nothing
"""

import flax.struct
import jax.numpy as jnp
import numpy as np

EVERYTHING = 2**30


@flax.struct.dataclass
class Layout:
    """int32 arrays [B, T]: rope position, depth-first number of the token's node, and end of its
    subtree.
    """

    position: jnp.ndarray
    enter: jnp.ndarray
    leave: jnp.ndarray


def plain(length: int, batch: int = 1) -> Layout:
    """Layout of `batch` sequences of `length` tokens."""
    position = np.broadcast_to(np.arange(length, dtype=np.int32), (batch, length))
    return Layout(position, np.zeros_like(position), np.ones_like(position))


def padded(mask_BT: np.ndarray) -> Layout:
    """Layout of one sequence per line, True where a token is real; padding may be on either side.

    Positions count real tokens only, so that left- and right-padded lines give the same numbers.
    """
    mask_BT = np.asarray(mask_BT, bool)
    position = np.maximum(np.cumsum(mask_BT, axis=1) - 1, 0).astype(np.int32)
    return Layout(
        position,
        np.where(mask_BT, 0, -1).astype(np.int32),
        np.where(mask_BT, 1, -1).astype(np.int32),
    )


def packed(segments_BT: np.ndarray, position_BT: np.ndarray) -> Layout:
    """Layout of lines that hold several documents: segment numbers from 0, -1 for padding,
    positions within the document.
    """
    segments = np.asarray(segments_BT, np.int32)
    return Layout(
        np.asarray(position_BT, np.int32),
        segments,
        np.where(segments < 0, -1, segments + 1).astype(np.int32),
    )


def begun(position_BT, length, leave: int = 1) -> Layout:
    """Layout of lines whose tokens before slot `length` (a number, or [B, 1]) are real.

    May be traced.
    """
    real = jnp.broadcast_to(jnp.arange(position_BT.shape[1]), position_BT.shape) < length
    # Of one type wherever it comes from: a literal's "weak" int32 would make another program of
    # whatever takes it.
    return Layout(
        *(
            jnp.asarray(part, jnp.int32)
            for part in (position_BT, jnp.where(real, 0, -1), jnp.where(real, leave, -1))
        )
    )


def visible(query: Layout, query_slot, key: Layout, key_slot, window=None):
    """Boolean [B, T, S]: which keys each query sees.

    Slots are int32 [T] and [S], `window` an int scalar or None.
    """
    seen = (key_slot[None, None, :] <= query_slot[None, :, None]) & (
        key.enter[:, None, :] <= query.enter[:, :, None]
    )
    seen &= query.enter[:, :, None] < key.leave[:, None, :]
    if window is not None:
        seen &= query.position[:, :, None] - key.position[:, None, :] < window
    return seen
