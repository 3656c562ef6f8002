"""Attention of training rows on a CPU, with a backward pass of its own.

Queries are worked on in chunks, each over the keys up to the chunk's end: about half of all pairs
are never computed. The backward pass keeps the softmax's exponentials, not the softmax, puts the
division on arrays without the keys' axis, and gets the softmax's sums from output × gradient, so
that it makes one array of pairs. Every product has its arrays of pairs in the order that it wants
them (docs/notes/training.md has the times).
"""

import functools

import jax
import jax.numpy as jnp

from amuro_jax.models.attention_dense import MASKED
from amuro_jax.models.layout import Layout, visible

SHORT = 96  # tokens; shorter rows are one chunk
CHUNK = 192  # queries at most, while there are not MOST chunks
MOST = 8  # chunks: each is code of its own in every layer


def suits(query_BTHK, blocks) -> bool:
    """Whether the keys are the queries' own tokens, row by row, and no others."""
    batch, length = query_BTHK.shape[:2]
    own = blocks[0].key
    return len(blocks) == 1 and (own.shape[0], own.shape[2]) == (batch, length)


def causal(query_BTHK, layout, slot_T, blocks, window):
    """See `attention.attend`; only what `suits`, with slots that rise with the place in the row.

    A query that sees nothing (padding) gets zeros, and gives no gradient.
    """
    batch, length, heads, width = query_BTHK.shape
    groups = blocks[0].key.shape[1]
    query = query_BTHK.reshape(batch, length, groups, heads // groups, width)
    mixed = _attention(
        query.transpose(0, 2, 3, 1, 4), blocks[0].key, blocks[0].value, layout, slot_T, window
    )
    return mixed.transpose(0, 3, 1, 2, 4).reshape(query_BTHK.shape)


def chunks(length: int) -> list[tuple[int, int]]:
    """(start, end) of the chunks of a row's queries."""
    count = 1 if length < SHORT else min(max(2, -(-length // CHUNK)), MOST)
    size = -(-length // count)
    return [(start, min(start + size, length)) for start in range(0, length, size)]


@jax.custom_vjp
def _attention(query_BGRTK, key_BGSK, value_BGSK, layout, slot_T, window):
    return _forward(query_BGRTK, key_BGSK, value_BGSK, layout, slot_T, window)[0]


def _forward(query, key, value, layout, slot_T, window):
    mixed, exponentials, shares = [], [], []
    for start, end in chunks(query.shape[3]):
        own, seen = slice(start, end), slice(0, end)
        scores = _product("bgrtk,bgsk->bgrts", query[:, :, :, own], key[:, :, seen])
        mask = visible(_part(layout, own), slot_T[own], _part(layout, seen), slot_T[seen], window)[
            :, None, None
        ]
        scores = jnp.where(mask, scores * query.shape[-1] ** -0.5, MASKED)
        highest = jnp.max(scores, axis=-1, keepdims=True)
        each = jnp.exp(scores - highest)
        share = jnp.where(highest > MASKED, 1 / jnp.sum(each, axis=-1, keepdims=True), 0)
        each = each.astype(query.dtype)
        mixed.append(_product("bgrts,bgsk->bgrtk", each, value[:, :, seen]) * share)
        exponentials.append(each)
        shares.append(share)
    total = jnp.concatenate(mixed, axis=3).astype(query.dtype)
    return total, (query, key, value, total, exponentials, jnp.concatenate(shares, axis=3))


def _backward(kept, gradient):
    query, key, value, total, exponentials, share = kept
    scale, length = query.shape[-1] ** -0.5, query.shape[3]
    gradient = gradient.astype(jnp.float32)
    # Σ over keys of softmax × its gradient, without an array of pairs
    sums = jnp.sum(gradient * total, axis=-1, keepdims=True) * share
    gradient = (gradient * share).astype(query.dtype)
    scaled = (query.astype(jnp.float32) * scale).astype(query.dtype)
    of_query, of_key, of_value = [], [], []
    for each, (start, end) in zip(exponentials, chunks(length), strict=True):
        own, seen = slice(start, end), slice(0, end)
        pairs = _product("bgrtk,bgsk->bgrts", gradient[:, :, :, own], value[:, :, seen])
        pairs = (each * (pairs - sums[:, :, :, own])).astype(query.dtype)
        of_query.append(_product("bgrts,bgsk->bgrtk", pairs, key[:, :, seen]) * scale)
        whole = functools.partial(jnp.pad, pad_width=((0, 0), (0, 0), (0, 0), (0, length - end)))
        of_key.append(whole(_product("bgrtk,bgrts->bgks", scaled[:, :, :, own], pairs)))
        of_value.append(whole(_product("bgrtk,bgrts->bgks", gradient[:, :, :, own], each)))
    return (
        jnp.concatenate(of_query, axis=3).astype(query.dtype),
        sum(of_key).swapaxes(2, 3).astype(key.dtype),
        sum(of_value).swapaxes(2, 3).astype(value.dtype),
        None,
        None,
        None,
    )


_attention.defvjp(_forward, _backward)


def _part(layout: Layout, own: slice) -> Layout:
    return jax.tree.map(lambda array: array[:, own], layout)


_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
