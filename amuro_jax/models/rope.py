"""Rotary position embeddings: inverse frequencies of every scaling kind, and the rotation (half-split, as in HF).

Sources: HF `modeling_rope_utils.py`; YaRN, arXiv 2309.00071; Llama 3.1 frequency scaling.
"""

import math

import jax.numpy as jnp
import numpy as np

from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig, Rope


def frequencies(rope: Rope, dim: int) -> tuple[np.ndarray, float]:
    """Inverse frequencies, fp32 [dim // 2], and the factor on cos and sin.

    Raises:
        CheckpointError: an unknown kind of scaling.
    """
    inverse = (1.0 / rope.theta ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))).astype(np.float32)
    if rope.kind == "default":
        return inverse, 1.0
    if rope.kind == "linear":
        return inverse / np.float32(rope.factor), 1.0
    if rope.kind == "llama3":
        return _llama3(rope, inverse), 1.0
    if rope.kind == "yarn":
        return _yarn(rope, inverse, dim), rope.attention_factor or _yarn_attention_factor(rope.factor)
    raise CheckpointError(f"unknown rope scaling {rope.kind!r}", where="model config: rope", hint="known: default, linear, llama3, yarn")


def _llama3(rope, inverse):
    wavelength = 2 * math.pi / inverse
    long, short = rope.original_max_length / rope.low_freq_factor, rope.original_max_length / rope.high_freq_factor
    smooth = (rope.original_max_length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    between = (1 - smooth) * inverse / rope.factor + smooth * inverse
    scaled = np.where(wavelength > long, inverse / rope.factor, np.where(wavelength < short, inverse, between))
    return scaled.astype(np.float32)


def _yarn(rope, inverse, dim):
    def channel(rotations):
        return dim * math.log(rope.original_max_length / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = channel(rope.beta_fast), channel(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2, dtype=np.float32) - low) / (high - low or 0.001), 0, 1)
    return (inverse / np.float32(rope.factor) * ramp + inverse * (1 - ramp)).astype(np.float32)


def _yarn_attention_factor(factor):
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def layer_frequencies(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Per layer: inverse frequencies fp32 [L, R] and the factor on cos and sin fp32 [L]."""
    full = frequencies(config.rope, config.rotary_dim)
    sliding = frequencies(config.sliding_rope or config.rope, config.rotary_dim)
    rows = [sliding if slides else full for slides in config.sliding_layers or (False,) * config.num_layers]
    return np.stack([row[0] for row in rows]), np.asarray([row[1] for row in rows], np.float32)


def rotate(x_BTHK, position_BT, inverse_R, factor, in_fp32: bool):
    """Rotates the first 2R channels of each head by position × frequency; the others pass."""
    angle = position_BT[:, :, None, None].astype(jnp.float32) * inverse_R
    cos, sin = jnp.cos(angle) * factor, jnp.sin(angle) * factor
    half = inverse_R.shape[-1]
    if not in_fp32:
        cos, sin = cos.astype(x_BTHK.dtype), sin.astype(x_BTHK.dtype)
    first, second, rest = x_BTHK[..., :half], x_BTHK[..., half : 2 * half], x_BTHK[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([part.astype(x_BTHK.dtype) for part in turned] + [rest], axis=-1)
