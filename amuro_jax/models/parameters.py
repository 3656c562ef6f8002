"""The parameter tree: declared once by the decoder.

Shapes, axis names, initial values and flat names follow from it.
"""

import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.decoder import Decoder, spans, stack_name
from amuro_jax.models.layout import plain


def flatten(tree: dict) -> dict:
    """Nested dict → {"layers/mlp/up/kernel": leaf}."""
    return flax.traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: dict) -> dict:
    """The inverse of `flatten`."""
    return flax.traverse_util.unflatten_dict(flat, sep="/")


# linen keeps a module's own parameters at its top level; the tree names them by what they are.
_OUTSIDE = {"embedding": "embed/embedding", "unembedding": "unembed/kernel"}


def to_linen(params: dict) -> dict:
    """The documented tree → the one the linen module reads."""
    inner = {name: value for name, value in params.items() if name not in ("embed", "unembed")}
    inner["embedding"] = params["embed"]["embedding"]
    if isinstance(inner["layers"], tuple):
        stacks = stacks_of(params)
        inner |= {
            stack_name(start, size): layers
            for (start, size), layers in zip(spans(stacks), inner.pop("layers"), strict=True)
        }
    if "unembed" in params:
        inner["unembedding"] = params["unembed"]["kernel"]
    return inner


def stack_layers(params: dict, stacks: tuple[int, ...]) -> dict:
    """The same parameters with a tuple of `stacks` instead of one stack of all layers.

    Args:
        stacks: layers in each: one is not stacked [...], more are [n, ...].
    """

    def part(start, size):
        return jax.tree.map(
            lambda leaf: leaf[start] if size == 1 else leaf[start : start + size], params["layers"]
        )

    return params | {"layers": tuple(part(*span) for span in spans(stacks))}


def unstack_layers(params: dict) -> dict:
    """Stacked parameters with every layer by itself: `stack_layers` with ones."""

    def ones(part, size):
        return (
            [part]
            if size == 1
            else [jax.tree.map(lambda leaf, i=i: leaf[i], part) for i in range(size)]
        )

    return params | {
        "layers": tuple(
            one
            for part, size in zip(params["layers"], stacks_of(params), strict=True)
            for one in ones(part, size)
        )
    }


def stacks_of(params: dict) -> tuple[int, ...] | None:
    """The sizes passed to `stack_layers`, or None where all layers are one stack."""
    if not isinstance(params["layers"], tuple):
        return None
    kernels = [part["attention"]["query"]["kernel"] for part in params["layers"]]
    return tuple(kernel.shape[0] if kernel.ndim == 4 else 1 for kernel in kernels)


def _from_linen(tree: dict) -> dict:
    return unflatten({_OUTSIDE.get(name, name): leaf for name, leaf in flatten(tree).items()})


@functools.cache
def _boxed(config: ModelConfig):
    def init():
        return Decoder(config).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32), plain(2))[
            "params"
        ]

    return jax.eval_shape(init)


def abstract_params(
    config: ModelConfig, dtype=jnp.float32, stacks: tuple[int, ...] | None = None
) -> dict:
    """Tree of `ShapeDtypeStruct` of every parameter, as `stack_layers` makes them where `stacks`
    are given.
    """
    shapes = _from_linen(nn.meta.unbox(_boxed(config)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)
    return (
        shapes
        if stacks is None
        else jax.eval_shape(lambda tree: stack_layers(tree, stacks), shapes)
    )


def logical_axes(config: ModelConfig, stacks: tuple[int, ...] | None = None) -> dict:
    """Same tree, each leaf the tuple of its logical axis names (layers, vocab, embed, heads,
    kv_heads, head_dim, mlp).
    """
    specs = nn.get_partition_spec(_boxed(config))
    axes = jax.tree.map(
        tuple, _from_linen(specs), is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec)
    )
    if stacks is None:
        return axes
    alone = jax.tree.map(
        lambda leaf: leaf[1:], axes["layers"], is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
    return axes | {"layers": tuple(alone if size == 1 else axes["layers"] for size in stacks)}


def axes_of(params: dict, config: ModelConfig, stacks: tuple[int, ...] | None = None) -> dict:
    """`logical_axes` of a tree that may hold adapters (models/lora.py): they have the axes of their
    kernel, the rank is on none.
    """

    def beside(axes, tree):
        if isinstance(tree, tuple):  # of stacks
            return tuple(map(beside, axes, tree))
        if not isinstance(tree, dict):
            return axes
        plain_names = [name for name in tree if name in axes]
        named = {name: beside(axes[name], tree[name]) for name in plain_names}
        if "lora_a" in tree:
            kernel, inputs = axes["kernel"], tree["lora_a"].ndim - 1
            lead = kernel[:1] if kernel[0] == "layers" else ()
            named |= {
                "lora_a": (*kernel[:inputs], None),
                "lora_b": (*lead, None, *kernel[inputs:]),
            }
        return named

    return beside(logical_axes(config, stacks), params)


def init_params(config: ModelConfig, seed: int) -> dict:
    """Random fp32 parameters: normal with fan-in scaling, embeddings with deviation 0.02."""

    @jax.jit
    def init(key):
        return nn.meta.unbox(
            Decoder(config).init(key, jnp.zeros((1, 2), jnp.int32), plain(2))["params"]
        )

    return _from_linen(init(jax.random.key(seed)))
