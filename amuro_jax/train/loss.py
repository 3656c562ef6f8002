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
# Logits of a batch above which predicted positions are worked on together (`Compute.together`),
# TOGETHER at a time: fewer are not worth a second order of the positions.
WHOLE = 2**24
TOGETHER = 256


def loss_sums(params: dict, batch: dict, *, config: ModelConfig, compute: Compute):
    """Weighted sum of −log p(target) over a (micro-)batch, with (sum of weights, weighted hits of
    the argmax).

    Args:
        batch: the arrays of `train.batches.Batch`.
    """
    at_BND = compute.hidden(params, batch, config)
    target, weight = batch["target"], batch["weight"]
    if compute.together and target.size * config.vocab_size > WHOLE:
        head = {name: params[name] for name in ("embed", "unembed") if name in params}
        flat = at_BND.reshape(-1, at_BND.shape[-1]), target.reshape(-1), weight.reshape(-1)
        loss, hits = _together(config, head, *flat)
    else:
        loss, hits = _chunked(params, at_BND, target, weight, config)
    return loss, (jnp.sum(weight), hits)


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


def _cross_entropy(params, hidden, target, weight, config):
    loss, hits = _target_losses(params, hidden, target, config=config)
    return jnp.sum(loss * weight), jnp.sum(hits * weight)


def _target_losses(params, hidden, target, *, config):
    scores = logits(params, hidden, config)
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, target)
    return loss, jnp.argmax(scores, axis=-1) == target


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _together(config, head, hidden_MD, target_M, weight_M):
    """(loss, hits) summed over the positions that have a weight, TOGETHER of them at a time.

    The gradient is computed along with the loss, so that logits are neither kept nor made again.
    """
    _, count, arrays = _with_weight(hidden_MD, target_M, weight_M)

    def chunk(number):
        return _cross_entropy(head, *_cut(arrays, number), config)

    return jax.lax.fori_loop(1, count, lambda i, sums: _added(sums, chunk(i)), chunk(0))


def _together_forward(config, head, hidden_MD, target_M, weight_M):
    order, count, arrays = _with_weight(hidden_MD, target_M, weight_M)
    loss_of = functools.partial(_cross_entropy, config=config)
    derived = jax.value_and_grad(loss_of, (0, 1), has_aux=True)

    def chunk(number):
        sums, (of_head, of_hidden) = derived(head, *_cut(arrays, number))
        return (*sums, of_head), of_hidden

    def body(number, carry):
        sums, of_hidden = carry
        more, own = chunk(number)
        start = number * TOGETHER
        return _added(sums, more), jax.lax.dynamic_update_slice_in_dim(of_hidden, own, start, 0)

    first, own = chunk(0)  # outside the loop: no gradient of zeros to begin with
    of_hidden = jnp.zeros_like(arrays[0]).at[:TOGETHER].set(own)
    (loss, hits, of_head), of_hidden = jax.lax.fori_loop(1, count, body, (first, of_hidden))
    unsorted = jnp.zeros_like(hidden_MD).at[order].set(of_hidden[: len(order)])
    return (loss, hits), (of_head, unsorted)


def _together_backward(config, kept, gradients):
    scaled = jax.tree.map(lambda gradient: gradient * gradients[0], kept)
    return (*scaled, None, None)


_together.defvjp(_together_forward, _together_backward)


def _with_weight(hidden_MD, target_M, weight_M):
    """(order with weightless positions last, number of chunks that have others, at least 1, the
    arrays in this order, filled to whole chunks).
    """
    order = jnp.argsort(weight_M == 0, stable=True)
    extra = -len(order) % TOGETHER
    arrays = [
        jnp.pad(jnp.take(array, order, axis=0), [(0, extra)] + [(0, 0)] * (array.ndim - 1))
        for array in (hidden_MD, target_M, weight_M)
    ]
    return order, jnp.maximum(1, -(-jnp.sum(weight_M != 0) // TOGETHER)), arrays


def _cut(arrays, number):
    return [jax.lax.dynamic_slice_in_dim(a, number * TOGETHER, TOGETHER) for a in arrays]


def _added(left, right):
    return jax.tree.map(jnp.add, left, right)
