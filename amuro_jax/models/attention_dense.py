"""Attention written out in XLA operations: all heads at once, or one key head at a time.

And one block alone, for `attention_kernels`.
"""

import functools

import jax
import jax.numpy as jnp

from amuro_jax.models.layout import visible

# key heads of `head_by_head` that may run beside each other: what one of them does alone leaves
# cores idle
AT_ONCE = 4
MASKED = -1e30  # finite: a query that sees nothing (padding) gets a harmless mean, not a NaN


def all_heads(query_BTHK, layout, slot_T, blocks, window):
    """See `attention.attend`; scores of all heads exist at once."""
    batch, length, heads, width = query_BTHK.shape
    groups = blocks[0].key.shape[1]
    query = query_BTHK.reshape(batch, length, groups, heads // groups, width)
    scores = [_scores(query, layout, slot_T, block, window) for block in blocks]
    weights = jax.nn.softmax(
        jnp.concatenate(scores, axis=-1) if len(scores) > 1 else scores[0], axis=-1
    ).astype(query.dtype)
    total, start = None, 0
    for block in blocks:
        size = block.slot.shape[0]
        part = _weighted(weights[..., start : start + size], block.value)
        total, start = part if total is None else total + part, start + size
    return total.astype(query.dtype).reshape(batch, length, heads, width)


def one_block(query_BTHK, layout, slot_T, block, window=None):
    """Softmax attention over one block alone, to be joined with others: fp32 (mixed [B, T, H, K],
    log of the softmax's sum [B, T, H]).
    """
    batch, length, heads, width = query_BTHK.shape
    groups = block.key.shape[1]
    query = query_BTHK.reshape(batch, length, groups, heads // groups, width)
    scores = _scores(query, layout, slot_T, block, window)
    total = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
    mixed = _weighted(jnp.exp(scores - total).astype(query.dtype), block.value)
    return mixed.reshape(batch, length, heads, width), total[..., 0].transpose(0, 3, 1, 2).reshape(
        batch, length, heads
    )


def _scores(query, layout, slot_T, block, window):
    scale = query.shape[-1] ** -0.5
    if block.key.shape[0] == 1 and query.shape[0] > 1:
        scores = jnp.einsum(
            "btgrk,gsk->bgrts", query, block.key[0], preferred_element_type=jnp.float32
        )
    else:
        scores = jnp.einsum(
            "btgrk,bgsk->bgrts", query, block.key, preferred_element_type=jnp.float32
        )
    seen = visible(layout, slot_T, block.layout, block.slot, window)
    return jnp.where(seen[:, None, None], scores * scale, MASKED)


def _weighted(weights, value):
    if value.shape[0] == 1 and weights.shape[0] > 1:
        return jnp.einsum("bgrts,gsk->btgrk", weights, value[0], preferred_element_type=jnp.float32)
    return jnp.einsum("bgrts,bgsk->btgrk", weights, value, preferred_element_type=jnp.float32)


def head_by_head(query_BTHK, layout, slot_T, blocks, window):
    """See `attention.attend`; scores of a few key heads at a time."""
    # Measured on CPU (8 lines of 128 tokens, prefix 448, 12 heads of 64): 15 ms for one head at a
    # time, against 53 ms for all at once.
    batch, length, heads, width = query_BTHK.shape
    groups = blocks[0].key.shape[1]
    if length == 1:
        return _one_token(
            query_BTHK.reshape(batch, groups, heads // groups, width),
            layout,
            slot_T,
            blocks,
            window,
        ).reshape(query_BTHK.shape)
    seen = [visible(layout, slot_T, block.layout, block.slot, window)[:, None] for block in blocks]
    query = query_BTHK.reshape(batch, length, groups, heads // groups, width).transpose(
        2, 0, 3, 1, 4
    )
    pairs = [(block.key.swapaxes(0, 1), block.value.swapaxes(0, 1)) for block in blocks]

    def step(_, each):
        return None, _one_head(each[0], seen, each[1])

    _, mixed = jax.lax.scan(step, None, (query, pairs), unroll=min(AT_ONCE, groups))
    return (
        mixed.astype(query_BTHK.dtype).transpose(1, 3, 0, 2, 4).reshape(batch, length, heads, width)
    )


def _one_head(query_BRTK, seen, pairs):
    scale = query_BRTK.shape[-1] ** -0.5
    scores = [
        jnp.where(mask, _lines(query_BRTK, key, "brtk,bsk->brts") * scale, MASKED)
        for mask, (key, _) in zip(seen, pairs, strict=True)
    ]
    highest = functools.reduce(
        jnp.maximum, [jnp.max(score, axis=-1, keepdims=True) for score in scores]
    )
    weights = [jnp.exp(score - highest) for score in scores]
    mixed = [
        _lines(weight.astype(query_BRTK.dtype), value, "brts,bsk->brtk")
        for weight, (_, value) in zip(weights, pairs, strict=True)
    ]
    return sum(mixed) / sum(jnp.sum(weight, axis=-1, keepdims=True) for weight in weights)


def _one_token(query_BGRK, layout, slot_T, blocks, window):
    # A decoding step reads every key once. Products head by head over [B, G, S, K] run at the speed
    # of memory; other orders are slower.
    scale = query_BGRK.shape[-1] ** -0.5
    seen = [visible(layout, slot_T, block.layout, block.slot, window)[:, None] for block in blocks]
    scores = [
        jnp.where(mask, _dot(query_BGRK, block.key) * scale, MASKED)
        for mask, block in zip(seen, blocks, strict=True)
    ]
    highest = functools.reduce(
        jnp.maximum, [jnp.max(score, axis=-1, keepdims=True) for score in scores]
    )
    weights = [jnp.exp(score - highest) for score in scores]
    total = sum(jnp.sum(weight, axis=-1, keepdims=True) for weight in weights)
    mixed = sum(
        _mix(weight.astype(query_BGRK.dtype), block.value)
        for weight, block in zip(weights, blocks, strict=True)
    )
    return (mixed / total).astype(query_BGRK.dtype)


def _dot(query_BGRK, key):
    if key.shape[0] == 1:
        return jnp.einsum("bgrk,gsk->bgrs", query_BGRK, key[0], preferred_element_type=jnp.float32)
    return jnp.einsum("bgrk,bgsk->bgrs", query_BGRK, key, preferred_element_type=jnp.float32)


def _mix(weight_BGRS, value):
    if value.shape[0] == 1:
        return jnp.einsum(
            "bgrs,gsk->bgrk", weight_BGRS, value[0], preferred_element_type=jnp.float32
        )
    return jnp.einsum("bgrs,bgsk->bgrk", weight_BGRS, value, preferred_element_type=jnp.float32)


def _lines(left, right_BSK, equation):
    """The product by line, or one matrix product where all lines share the right side; fp32."""
    if right_BSK.shape[0] == 1 and left.shape[0] > 1:
        right = right_BSK[0] if equation.endswith("k") else right_BSK[0].T
        return jnp.matmul(
            left.reshape(-1, left.shape[-1]), right, preferred_element_type=jnp.float32
        ).reshape(*left.shape[:-1], -1)
    return jnp.einsum(equation, left, right_BSK, preferred_element_type=jnp.float32)
