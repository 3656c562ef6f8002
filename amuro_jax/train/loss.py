"""Cross entropy of the predicted tokens, as (sum, weight) in fp32.

The vocabulary is projected at those positions only.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import logits
from amuro_jax.train.compute import Compute

# predicted positions per row whose logits exist at once; longer rows are chunked and recomputed
CHUNK = 128


def loss_sums(params: dict, batch: dict, *, config: ModelConfig, compute: Compute):
    """Weighted sum of −log p(target) over a (micro-)batch, with (sum of weights, weighted hits of
    the argmax).

    Args:
        batch: the arrays of `train.batches.Batch`.
    """
    at_BND = compute.hidden(params, batch, config)
    loss, hits = _chunked(params, at_BND, batch["target"], batch["weight"], config)
    return loss, (jnp.sum(batch["weight"]), hits)


def target_losses(params: dict, batch: dict, *, config: ModelConfig, compute: Compute):
    """−log p(target) and whether it is the argmax, each [B, N], of every place in `batch`."""
    at_BND = compute.hidden(params, batch, config)
    each = functools.partial(_target_losses, params, config=config)
    if at_BND.shape[1] <= CHUNK:
        return each(at_BND, batch["target"])
    parts = jax.lax.map(
        jax.checkpoint(lambda part: each(*part)), (_chunks(at_BND), _chunks(batch["target"]))
    )
    return tuple(jnp.moveaxis(part, 0, 1).reshape(batch["target"].shape) for part in parts)


def _chunks(x):
    """[B, N, …] → [N / CHUNK, B, CHUNK, …]."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, CHUNK, *x.shape[2:]), 1, 0)


def _chunked(params, hidden_BND, target_BN, weight_BN, config):
    if hidden_BND.shape[1] <= CHUNK:
        return _cross_entropy(params, hidden_BND, target_BN, weight_BN, config)
    one = jax.checkpoint(lambda part: _cross_entropy(params, *part, config))
    losses, hits = jax.lax.map(one, (_chunks(hidden_BND), _chunks(target_BN), _chunks(weight_BN)))
    return jnp.sum(losses), jnp.sum(hits)


def _cross_entropy(params, hidden_BND, target_BN, weight_BN, config):
    loss, hits = _target_losses(params, hidden_BND, target_BN, config=config)
    return jnp.sum(loss * weight_BN), jnp.sum(hits * weight_BN)


def _target_losses(params, hidden_BND, target_BN, *, config):
    scores = logits(params, hidden_BND, config)
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, target_BN)
    return loss, jnp.argmax(scores, axis=-1) == target_BN
