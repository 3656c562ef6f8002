"""The parameter tree: declared once by the decoder; shapes, axis names, initial values and flat names follow from it."""

import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.decoder import Decoder
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
        inner |= {f"layer_{index}": layer for index, layer in enumerate(inner.pop("layers"))}
    if "unembed" in params:
        inner["unembedding"] = params["unembed"]["kernel"]
    return inner


def set_apart(params: dict) -> dict:
    """The same parameters with a tuple of layers in place of stacked ones: read one after another, without a loop.

    A loop over stacked layers copies each layer's part out of the stack on CPU, which costs more than the products of a few tokens.
    """
    count = jax.tree.leaves(params["layers"])[0].shape[0]
    return params | {"layers": tuple(jax.tree.map(lambda leaf, index=index: leaf[index], params["layers"]) for index in range(count))}


def _from_linen(tree: dict) -> dict:
    return unflatten({_OUTSIDE.get(name, name): leaf for name, leaf in flatten(tree).items()})


@functools.cache
def _boxed(config: ModelConfig):
    def init():
        return Decoder(config).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32), plain(2))["params"]

    return jax.eval_shape(init)


def abstract_params(config: ModelConfig, dtype=jnp.float32) -> dict:
    """Tree of `ShapeDtypeStruct` of every parameter."""
    shapes = _from_linen(nn.meta.unbox(_boxed(config)))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)


def logical_axes(config: ModelConfig) -> dict:
    """Same tree, each leaf the tuple of its logical axis names (layers, vocab, embed, heads, kv_heads, head_dim, mlp)."""
    specs = nn.get_partition_spec(_boxed(config))
    return jax.tree.map(tuple, _from_linen(specs), is_leaf=lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec))


def init_params(config: ModelConfig, seed: int) -> dict:
    """Random fp32 parameters: normal with fan-in scaling, embeddings with standard deviation 0.02."""

    @jax.jit
    def init(key):
        return nn.meta.unbox(Decoder(config).init(key, jnp.zeros((1, 2), jnp.int32), plain(2))["params"])

    return _from_linen(init(jax.random.key(seed)))
