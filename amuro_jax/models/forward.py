"""Forward pass and unembedding: all that training, scoring and generation call."""

import jax.numpy as jnp

from amuro_jax.models.attention import Backend
from amuro_jax.models.cache import KVCache
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.decoder import Decoder
from amuro_jax.models.layout import Layout
from amuro_jax.models.parameters import stacks_of, to_linen


def forward(
    params: dict,
    tokens_BT,
    layout: Layout,
    *,
    config: ModelConfig,
    dtype=jnp.float32,
    cache: KVCache | None = None,
    keep: bool = False,
    query_positions=None,
    attention: Backend = Backend(),
    remat: str = "none",
):
    """Hidden states after the final norm, and keys and values of the tokens.

    Args:
        params: the parameter tree of docs/architecture.md, or what `parameters.stack_layers` makes
            of it.
        tokens_BT: int32 token ids; ids of padding are read but seen by nothing.
        layout: [B, T], see `models.layout`.
        dtype: compute dtype; norms, rope (by family), softmax and sums are fp32.
        cache: earlier tokens, stacked as the parameters' layers are; only read.
        keep: give back keys and values, for `KVCache.append` or as a prefix or past.
        query_positions: int32 [B, A], slots of each row whose hidden states are wanted; None: all.
            A last layer that is not stacked works on those only, once their attention is known.
        attention: see `models.attention.best_backend`.
        remat: a name of `decoder.REMAT`: what the backward pass computes again.

    Returns:
        (hidden [B, T, D], or [B, A, D], in `dtype`; KeyValues of all T tokens, or None).
    """
    decoder = Decoder(config, jnp.dtype(dtype), remat, keep, attention, stacks_of(params))
    return decoder.apply({"params": to_linen(params)}, tokens_BT, layout, cache, query_positions)


def logits(params: dict, hidden, config: ModelConfig, columns=None):
    """fp32 logits [..., V] of hidden states [..., D], or [..., C] of token ids `columns` [C]."""
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
