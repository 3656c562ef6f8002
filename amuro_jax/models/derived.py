"""Parameters made of other parameters: their average, and themselves with noise."""

import functools
import zlib
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from amuro_jax.models.parameters import flatten, unflatten


def average(trees: Iterable[dict], count: int) -> dict:
    """The mean of `count` trees of one shape, summed in fp32; each is asked for when it is due."""
    total = None
    for params in trees:
        if total is None:  # a copy: the sum gives its memory away, and the first tree is another's
            total = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32, copy=True), params)
        else:
            total = _add(total, params)
    return jax.tree.map(lambda leaf: leaf / count, total)


# One program for the whole tree; the sum so far gives its memory to the next one.
_add = jax.jit(
    lambda total, params: jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, params),
    donate_argnums=0,
)


def with_noise(params: dict, sigma: float, seed: int) -> dict:
    """Parameters with Gaussian noise on every matrix: its standard deviation is `sigma` times the
    root mean square of the matrix, layer by layer. Vectors (norms, biases) stay as they are.

    The noise is a function of the seed and the parameter's name, whatever the mesh.
    """
    flat = flatten(params)
    noisy = {
        name: _noisy(leaf, sigma, seed, name) if leaf.ndim - _stacked(name) >= 2 else leaf
        for name, leaf in flat.items()
    }
    return unflatten(noisy)


def matrix_scale(params: dict) -> float:
    """The root mean square of the matrices as one number: moving every weight by d is, averaged in
    squares over matrices and layers, as much as `with_noise` of d over this scale.
    """
    inverse = []
    for name, leaf in flatten(params).items():
        if leaf.ndim - _stacked(name) >= 2:
            inverse.append(jnp.ravel(1 / _scale(leaf, _stacked(name)) ** 2))
    return float(jnp.mean(jnp.concatenate(inverse)) ** -0.5)


def _noisy(leaf, sigma, seed, name):
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return _perturbed(leaf, sigma, key, _stacked(name))


def _stacked(name):
    """Whether the first axis counts layers."""
    return name.startswith("layers/")


@functools.partial(jax.jit, static_argnums=3)
def _perturbed(leaf, sigma, key, stacked):
    scale = _scale(leaf, stacked)
    return leaf + sigma * scale * jax.random.normal(key, leaf.shape, leaf.dtype)


def _scale(leaf, stacked):
    """Root mean square of a matrix, layer by layer where it is stacked; it keeps its axes."""
    axes = tuple(range(int(stacked), leaf.ndim))
    return jnp.sqrt(jnp.mean(jnp.square(leaf), axis=axes, keepdims=True))
