"""Cross entropy of the predicted tokens, as (sum, weight) in fp32.

The vocabulary is projected at those positions only.
"""

import jax
import jax.numpy as jnp

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward, logits
from amuro_jax.models.layout import Layout

# predicted positions per row whose logits exist at once; longer rows are chunked and recomputed
CHUNK = 128


def loss_sums(params: dict, batch: dict, *, config: ModelConfig, dtype, remat: str):
    """Weighted sum of −log p(target) over a (micro-)batch, with (sum of weights, weighted hits of
    the argmax).

    Args:
        batch: the arrays of `train.batches.Batch`.
    """
    layout = Layout(batch["position"], batch["enter"], batch["leave"])
    hidden, _ = forward(params, batch["tokens"], layout, config=config, dtype=dtype, remat=remat)
    at_BND = jnp.take_along_axis(hidden, batch["source"][:, :, None], axis=1)
    loss, hits = _chunked(params, at_BND, batch["target"], batch["weight"], config)
    return loss, (jnp.sum(batch["weight"]), hits)


def _chunked(params, hidden_BND, target_BN, weight_BN, config):
    count = hidden_BND.shape[1]
    if count <= CHUNK:
        return _cross_entropy(params, hidden_BND, target_BN, weight_BN, config)

    def chunks(x):
        return jnp.moveaxis(x.reshape(x.shape[0], count // CHUNK, CHUNK, *x.shape[2:]), 1, 0)

    one = jax.checkpoint(lambda part: _cross_entropy(params, *part, config))
    losses, hits = jax.lax.map(one, (chunks(hidden_BND), chunks(target_BN), chunks(weight_BN)))
    return jnp.sum(losses), jnp.sum(hits)


def _cross_entropy(params, hidden_BND, target_BN, weight_BN, config):
    scores = logits(params, hidden_BND, config)
    chosen = jnp.take_along_axis(scores, target_BN[..., None], axis=-1)[..., 0]
    loss = jax.nn.logsumexp(scores, axis=-1) - chosen
    hits = jnp.argmax(scores, axis=-1) == target_BN
    return jnp.sum(loss * weight_BN), jnp.sum(hits * weight_BN)
