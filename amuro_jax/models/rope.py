"""Rotary position embeddings: inverse frequencies of every scaling kind, and the rotation
(half-split, as in HF).

Sources: HF `modeling_rope_utils.py`; YaRN, arXiv 2309.00071; Llama 3.1 frequency scaling.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig, Rope


def frequencies(rope: Rope, dim: int) -> tuple[np.ndarray, float]:
    """Inverse frequencies, fp32 [dim // 2], and the factor on cos and sin.

    Raises:
        CheckpointError: an unknown kind of scaling.
    """
    wavelength = _wavelength_over_2pi(rope.theta, dim)
    inverse = np.float32(1) / wavelength
    if rope.kind == "default":
        return inverse, 1.0
    if rope.kind == "linear":
        return inverse / np.float32(rope.factor), 1.0
    if rope.kind == "llama3":
        return _llama3(rope, inverse), 1.0
    if rope.kind == "yarn":
        factor = rope.attention_factor or _yarn_attention_factor(rope.factor)
        return _yarn(rope, wavelength, dim), factor
    raise CheckpointError(
        f"unknown rope scaling {rope.kind!r}",
        where="model config: rope",
        hint="known: default, linear, llama3, yarn",
    )


def _wavelength_over_2pi(theta, dim):
    """theta ** (2i / dim), fp32 [dim // 2], to the last bit as torch has it.

    At position 2,048 one unit in the last place (ulp) of a frequency already moves logits by more
    than all other rounding does, and checkpoints were trained with torch's: its exponents are
    rounded to fp32, its power is exact to that. (numpy's fp32 power is up to 2 units off.)
    """
    exponent = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return (np.float64(theta) ** exponent.astype(np.float64)).astype(np.float32)


def _llama3(rope, inverse):
    # fp32 operations in HF's order; torch divides a number by a tensor as number × reciprocal.
    one, length = np.float32(1), np.float32(rope.original_max_length)
    low, high = np.float32(rope.low_freq_factor), np.float32(rope.high_freq_factor)
    wavelength = one / inverse * np.float32(2 * math.pi)
    smooth = (one / wavelength * length - low) / (high - low)
    divided = inverse / np.float32(rope.factor)
    between = (one - smooth) * inverse / np.float32(rope.factor) + smooth * inverse
    unscaled = wavelength < length / high
    return np.where(wavelength > length / low, divided, np.where(unscaled, inverse, between))


def _yarn(rope, wavelength, dim):
    def channel(rotations):
        return (
            dim
            * math.log(rope.original_max_length / (rotations * 2 * math.pi))
            / (2 * math.log(rope.theta))
        )

    low, high = channel(rope.beta_fast), channel(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = (np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(
        high - low or 0.001
    )
    extrapolated = np.float32(1) - np.clip(ramp, 0, 1)
    interpolated = np.float32(1) / (np.float32(rope.factor) * wavelength)
    return interpolated * (np.float32(1) - extrapolated) + np.float32(1) / wavelength * extrapolated


def _yarn_attention_factor(factor):
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def layer_frequencies(config: ModelConfig) -> tuple[list[tuple[np.ndarray, float]], np.ndarray]:
    """The different (inverse frequencies fp32 [R], factor on cos and sin) of a model's layers, and
    the number of each layer's [L].
    """
    if config.sliding_rope is None or not any(config.sliding_layers):
        return [frequencies(config.rope, config.rotary_dim)], np.zeros(config.num_layers, np.int32)
    kinds = [
        frequencies(config.rope, config.rotary_dim),
        frequencies(config.sliding_rope, config.rotary_dim),
    ]
    return kinds, np.asarray(config.sliding_layers, np.int32)


def rotary_tables(config: ModelConfig, position_BT, dtype):
    """cos and sin of position × frequency, [U, B, T, R] for U different frequencies; fp32, or
    `dtype` where the family rotates in it.

    Made once for all layers: they cost many times what the rotation does.
    """
    kinds, _ = layer_frequencies(config)
    inverse = jnp.asarray(np.stack([inverse for inverse, _ in kinds]))[:, None, None]
    factor = jnp.asarray([factor for _, factor in kinds], jnp.float32)[:, None, None, None]
    angle = position_BT[None, :, :, None].astype(jnp.float32) * inverse
    cos, sin = jnp.cos(angle) * factor, jnp.sin(angle) * factor
    tables = (cos, sin) if config.rope_in_fp32 else (cos.astype(dtype), sin.astype(dtype))
    return jax.lax.platform_dependent(
        tables, cpu=_through_products, default=jax.lax.optimization_barrier
    )


def _through_products(tables):
    # XLA for CPU drops the barrier, and would make cos and sin anew in each use: a product with the
    # identity, exact, it does not look into.
    return jax.tree.map(
        lambda table: jnp.matmul(table, jnp.eye(table.shape[-1], dtype=table.dtype)), tables
    )


def rotate(x_BTHK, cos_BTR, sin_BTR):
    """Rotates the first 2R channels of each head; the others pass."""
    half = cos_BTR.shape[-1]
    cos, sin = cos_BTR[:, :, None], sin_BTR[:, :, None]
    first, second, rest = x_BTHK[..., :half], x_BTHK[..., half : 2 * half], x_BTHK[..., 2 * half :]
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([part.astype(x_BTHK.dtype) for part in rotated] + [rest], axis=-1)
