"""Forward pass and unembedding: the only two functions that training, scoring and generation call."""

import jax.numpy as jnp

from amuro_jax.models.attention import How
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.decoder import Decoder, KeyValues
from amuro_jax.models.layout import Layout
from amuro_jax.models.parameters import parts_of, to_linen


def forward(
    params: dict,
    tokens_BT,
    layout: Layout,
    *,
    config: ModelConfig,
    dtype=jnp.float32,
    shared: KeyValues | None = None,
    past: KeyValues | tuple[KeyValues, ...] | None = None,
    cache: KeyValues | None = None,
    offset=None,
    remat: str = "none",
    keep: bool = False,
    unroll: int = 1,
    attention: How = How(),
    asked=None,
):
    """Hidden states after the final norm, and keys and values.

    Args:
        params: the parameter tree of docs/architecture.md, or what `parameters.split_layers` makes
            of it.
        tokens_BT: int32 token ids; ids of padding are read but seen by nothing.
        layout: [B, T], see `models.layout`.
        dtype: compute dtype; norms, rope (by family), softmax and sums are fp32.
        shared: read-only prefix, batch 1; seen by all.
        past: read-only earlier tokens of each line, batch B; seen where their layout says so. A
            tuple of them holds some lines each, for one
            new token per line, layers alone, and `blocked` attention.
        cache: buffer of fixed capacity, written at slots [offset, offset + T) and attended over
            whole.
        offset: int scalar, with `cache` only.
        remat: none | full, recompute each layer in the backward pass.
        keep: without `cache`, give back the new keys and values.
        unroll: layers per step of the scan.
        attention: see `models.attention.best`.
        asked: int32 [B, A], places in each line whose hidden states are wanted; None: all. A last
            layer that stands
            alone then works on those only, once their attention is known.

    Returns:
        (hidden [B, T, D], or [B, A, D], in `dtype`; the updated cache | the new KeyValues | None).
        Keys and values are split as the parameters' layers are.
    """
    decoder = Decoder(config, jnp.dtype(dtype), remat, keep, unroll, attention, parts_of(params))
    return decoder.apply(
        {"params": to_linen(params)}, tokens_BT, layout, shared, past, cache, offset, asked
    )


def logits(params: dict, hidden, config: ModelConfig, columns=None):
    """fp32 logits of hidden states [..., D]: [..., V], or [..., C] for the token ids `columns` [C]."""
    if config.tie_embeddings:
        table = params["embed"]["embedding"]
        table = table if columns is None else jnp.take(table, columns, axis=0)
        return jnp.einsum(
            "...d,vd->...v", hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32
        )
    kernel = params["unembed"]["kernel"]
    kernel = kernel if columns is None else jnp.take(kernel, columns, axis=1)
    return jnp.einsum(
        "...d,dv->...v", hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32
    )


def empty_cache(
    config: ModelConfig, batch: int, capacity: int, dtype, parts: tuple[int, ...] | None = None
) -> KeyValues:
    """A cache that holds nothing, split as the layers are.

    Call it inside jit, where it costs no second trace.
    """
    one = (batch, config.num_kv_heads, capacity, config.head_dim)
    shapes = [one if size == 1 else (size, *one) for size in parts or ()]

    def buffer():
        return (
            tuple(jnp.zeros(shape, dtype) for shape in shapes)
            if parts
            else jnp.zeros((config.num_layers, *one), dtype)
        )

    hidden = jnp.full((batch, capacity), -1, jnp.int32)
    return KeyValues(buffer(), buffer(), Layout(jnp.zeros_like(hidden), hidden, hidden))
