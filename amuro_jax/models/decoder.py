"""The decoder: embedding, scanned layers, final norm. One module for every family."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.models.attention import How, KeyBlock
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.layers import Attention, Mlp, partitioned, width_norm
from amuro_jax.models.layout import Layout
from amuro_jax.models.rope import layer_frequencies


@flax.struct.dataclass
class KeyValues:
    """Keys and values of all layers, [L, B, S, G, K], rope applied, with the layout [B, S] of their tokens."""

    key: jnp.ndarray
    value: jnp.ndarray
    layout: Layout


class Layer(nn.Module):
    """One layer. Carries (x, cache); gives back the new keys and values where they are kept."""

    config: ModelConfig
    dtype: jnp.dtype
    keep: bool
    attention: How = How()

    @nn.compact
    def __call__(self, carry, per_layer, layout, shared, cache_layout, offset):
        c, (x, cache) = self.config, carry
        slot = jnp.arange(x.shape[1]) + (0 if offset is None else offset)

        def write(key, value):
            nonlocal cache
            if cache is None:
                return KeyBlock(key, value, layout, slot), (key, value) if self.keep else None
            cache = tuple(_put(buffer, new, per_layer["index"], offset) for buffer, new in zip(cache, (key, value), strict=True))
            now = [jax.lax.dynamic_index_in_dim(buffer, per_layer["index"], keepdims=False) for buffer in cache]
            return KeyBlock(*now, cache_layout, jnp.arange(now[0].shape[1])), None

        def attention(y):
            return Attention(c, self.dtype, self.attention, name="attention")(y, layout, slot, per_layer, shared, write)

        mlp = Mlp(c, self.dtype, name="mlp")
        norm_a, norm_m = width_norm(c, self.dtype, "attention_norm"), width_norm(c, self.dtype, "mlp_norm")
        if c.norm_position == "post":
            mixed, kept = attention(x)
            x = x + norm_a(mixed)
            x = x + norm_m(mlp(x))
        elif c.parallel_residual:
            mixed, kept = attention(norm_a(x))
            x = mlp(norm_m(x)) + mixed + x
        else:
            mixed, kept = attention(norm_a(x))
            x = x + mixed
            x = x + mlp(norm_m(x))
        return (x, cache), kept


def _put(buffer_LBSGK, new_BTGK, layer, offset):
    return jax.lax.dynamic_update_slice(buffer_LBSGK, new_BTGK[None].astype(buffer_LBSGK.dtype), (layer, 0, offset, 0, 0))


class Decoder(nn.Module):
    """Tokens → final hidden states, and the keys and values asked for."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    keep: bool = False
    unroll: int = 1
    attention: How = How()

    @nn.compact
    def __call__(self, tokens_BT, layout, shared=None, cache=None, offset=None):
        c = self.config
        table = self.param("embedding", partitioned(nn.initializers.normal(0.02), "vocab", "embed"), (c.vocab_size, c.hidden_size), jnp.float32)
        if not c.tie_embeddings:
            init = partitioned(nn.initializers.normal(c.hidden_size**-0.5), "embed", "vocab")
            self.param("unembedding", init, (c.hidden_size, c.vocab_size), jnp.float32)
        x = jnp.take(table, tokens_BT, axis=0).astype(self.dtype)
        layer = nn.remat(Layer, prevent_cse=False) if self.remat == "full" else Layer
        layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.num_layers,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(c, self.dtype, self.keep, self.attention, name="layers")
        buffers = None if cache is None else (cache.key, cache.value)
        cache_layout = None if cache is None else _written(cache.layout, layout, offset)
        carry, kept = layers((x, buffers), self._per_layer(shared), layout, None if shared is None else shared.layout, cache_layout, offset)
        x, buffers = carry
        hidden = width_norm(c, self.dtype, "final_norm")(x)
        if cache is not None:
            return hidden, KeyValues(*buffers, cache_layout)
        return hidden, KeyValues(*kept, layout) if self.keep else None

    def _per_layer(self, shared):
        c = self.config
        inverse, factor = layer_frequencies(c)
        inputs = {"inverse": jnp.asarray(inverse), "factor": jnp.asarray(factor), "index": jnp.arange(c.num_layers)}
        if any(c.sliding_layers):
            inputs["window"] = jnp.asarray([c.window if slides else np.iinfo(np.int32).max for slides in c.sliding_layers], jnp.int32)
        if shared is not None:
            inputs["shared"] = (shared.key, shared.value)
        return inputs


def _written(old: Layout, new: Layout, offset) -> Layout:
    return jax.tree.map(lambda buffer, part: jax.lax.dynamic_update_slice(buffer, jnp.asarray(part, buffer.dtype), (0, offset)), old, new)
