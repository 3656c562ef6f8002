"""The decoder: embedding, scanned layers, final norm. One module for every family."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.models.attention import How
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.layers import EARLIER, Attention, Mlp, partitioned, width_norm
from amuro_jax.models.layout import Layout
from amuro_jax.models.rope import layer_frequencies


@flax.struct.dataclass
class KeyValues:
    """Keys and values of all layers, [L, B, S, G, K] or a tuple of L, rope applied, with the layout [B, S] of their tokens."""

    key: jnp.ndarray
    value: jnp.ndarray
    layout: Layout


class Layer(nn.Module):
    """One layer. Carries x; gives back the new keys and values where they are kept."""

    config: ModelConfig
    dtype: jnp.dtype
    keep: bool
    attention: How = How()

    @nn.compact
    def __call__(self, x, per_layer, layout, earlier, offset):
        c = self.config
        slot = jnp.arange(x.shape[1]) + (0 if offset is None else offset)

        def attention(y):
            mixed, kept = Attention(c, self.dtype, self.attention, name="attention")(y, layout, slot, per_layer, earlier)
            return mixed, kept if self.keep else None

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
        return x, kept


class Decoder(nn.Module):
    """Tokens → final hidden states, and the keys and values asked for."""

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    keep: bool = False
    unroll: int = 1
    attention: How = How()
    apart: bool = False

    @nn.compact
    def __call__(self, tokens_BT, layout, shared=None, past=None, cache=None, offset=None):
        c = self.config
        table = self.param("embedding", partitioned(nn.initializers.normal(0.02), "vocab", "embed"), (c.vocab_size, c.hidden_size), jnp.float32)
        if not c.tie_embeddings:
            init = partitioned(nn.initializers.normal(c.hidden_size**-0.5), "embed", "vocab")
            self.param("unembedding", init, (c.hidden_size, c.vocab_size), jnp.float32)
        x = jnp.take(table, tokens_BT, axis=0).astype(self.dtype)
        layer = nn.remat(Layer, prevent_cse=False) if self.remat == "full" else Layer
        settings = (c, self.dtype, self.keep or cache is not None, self.attention)
        given = {"shared": shared, "past": past, "cache": cache}
        earlier = {name: part.layout for name, part in given.items() if part is not None}
        if cache is not None:
            earlier["cache"] = _until(cache.layout, offset)
        run = self._one_by_one if self.apart else self._scanned
        x, kept = run(layer, settings, x, self._per_layer(given), layout, earlier, offset)
        hidden = width_norm(c, self.dtype, "final_norm")(x)
        if cache is not None:
            # Written once, after all layers have read it: a buffer that the scan over layers carries is copied in every one of them.
            return hidden, write(cache, KeyValues(*kept, layout), offset)
        return hidden, KeyValues(*kept, layout) if self.keep else None

    def _scanned(self, layer, settings, x, per_layer, *rest):
        layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=self.config.num_layers,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(*settings, name="layers")
        return layers(x, per_layer, *rest)

    def _one_by_one(self, layer, settings, x, per_layer, *rest):
        kept = []
        for index in range(self.config.num_layers):
            pairs = {name: tuple(part[index] for part in per_layer[name]) for name in EARLIER if name in per_layer}
            numbers = {name: value[index] for name, value in per_layer.items() if name not in pairs}
            x, new = layer(*settings, name=f"layer_{index}")(x, numbers | pairs, *rest)
            kept.append(new)
        return x, tuple(zip(*kept, strict=True)) if settings[2] else None

    def _per_layer(self, given):
        c = self.config
        inverse, factor = layer_frequencies(c)
        inputs = {"inverse": jnp.asarray(inverse), "factor": jnp.asarray(factor)}
        if any(c.sliding_layers):
            inputs["window"] = jnp.asarray([c.window if slides else np.iinfo(np.int32).max for slides in c.sliding_layers], jnp.int32)
        return inputs | {name: (part.key, part.value) for name, part in given.items() if part is not None}


def _until(layout: Layout, offset) -> Layout:
    """The layout of a buffer before `offset`; what stands at later slots is to be overwritten, and seen by nothing."""
    later = jnp.arange(layout.enter.shape[1])[None] >= offset
    return Layout(layout.position, jnp.where(later, -1, layout.enter), jnp.where(later, -1, layout.leave))


def write(cache: KeyValues, new: KeyValues, offset) -> KeyValues:
    """The buffer with `new` in it, from slot `offset` on."""

    def put(buffer, part):  # slots are the axis after the batch
        return jax.lax.dynamic_update_slice_in_dim(buffer, jnp.asarray(part, buffer.dtype), offset, axis=2 if buffer.ndim == 5 else 1)

    return jax.tree.map(put, cache, new)
