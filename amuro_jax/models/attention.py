"""Attention of queries over one or more blocks of keys, under the mask rule of `layout`."""

import flax.struct
import jax
import jax.numpy as jnp

from amuro_jax.models.layout import Layout, visible

MASKED = -1e30  # finite: a query that sees nothing (padding) gets a harmless mean, not a NaN


@flax.struct.dataclass
class KeyBlock:
    """Keys and values [X, S, G, K] with their layout [X, S] and slots [S]; X is the batch, or 1 where all lines share them."""

    key: jnp.ndarray
    value: jnp.ndarray
    layout: Layout
    slot: jnp.ndarray


def attend(query_BTHK, layout: Layout, slot_T, blocks: list[KeyBlock], window=None):
    """Softmax attention over all blocks together; fp32 scores and softmax.

    Args:
        query_BTHK: queries, rope applied.
        layout: their layout [B, T]; `slot_T` their slots, on the axis that the blocks' slots count.
        blocks: keys and values in slot order; G divides H.
        window: int scalar, or None where no layer slides.

    Returns:
        [B, T, H, K] in the queries' dtype.
    """
    batch, length, heads, width = query_BTHK.shape
    groups = blocks[0].key.shape[2]
    query = query_BTHK.reshape(batch, length, groups, heads // groups, width)
    scores = [_scores(query, layout, slot_T, block, window) for block in blocks]
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1) if len(scores) > 1 else scores[0], axis=-1).astype(query.dtype)
    total, start = None, 0
    for block in blocks:
        size = block.slot.shape[0]
        part = _weighted(weights[..., start : start + size], block.value)
        total, start = part if total is None else total + part, start + size
    return total.astype(query.dtype).reshape(batch, length, heads, width)


def _scores(query, layout, slot_T, block, window):
    scale = query.shape[-1] ** -0.5
    if block.key.shape[0] == 1 and query.shape[0] > 1:
        scores = jnp.einsum("btgrk,sgk->bgrts", query, block.key[0], preferred_element_type=jnp.float32)
    else:
        scores = jnp.einsum("btgrk,bsgk->bgrts", query, block.key, preferred_element_type=jnp.float32)
    seen = visible(layout, slot_T, block.layout, block.slot, window)
    return jnp.where(seen[:, None, None], scores * scale, MASKED)


def _weighted(weights, value):
    if value.shape[0] == 1 and weights.shape[0] > 1:
        return jnp.einsum("bgrts,sgk->btgrk", weights, value[0], preferred_element_type=jnp.float32)
    return jnp.einsum("bgrts,bsgk->btgrk", weights, value, preferred_element_type=jnp.float32)
