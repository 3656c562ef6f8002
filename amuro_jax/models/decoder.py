"""The decoder: embedding, scanned layers, final norm. One module for every family."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.models.attention import How
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.layers import Attention, Mlp, partitioned, width_norm
from amuro_jax.models.layout import Layout
from amuro_jax.models.rope import layer_frequencies, turns


@flax.struct.dataclass
class KeyValues:
    """Keys and values of all layers, rope applied, with the layout [B, S] of their tokens.

    [L, B, G, S, K], or a tuple with one array for each part of the layers: [n, B, G, S, K], or [B,
    G, S, K] of a layer alone.
    """

    key: jnp.ndarray
    value: jnp.ndarray
    layout: Layout


def spans(parts: tuple[int, ...]) -> list[tuple[int, int]]:
    """(first layer, layers) of each part."""
    return [(sum(parts[:index]), size) for index, size in enumerate(parts)]


def part_name(start: int, size: int) -> str:
    """The linen name of a part of the layers."""
    return f"layer_{start}" if size == 1 else f"layers_{start}"


class Layer(nn.Module):
    """One layer. Carries x; gives back the new keys and values where they are kept.

    `asked`: see `forward`.
    """

    config: ModelConfig
    dtype: jnp.dtype
    keep: bool
    attention: How = How()

    @nn.compact
    def __call__(self, x, per_layer, layout, turns, earlier, offset, asked=None):
        c = self.config
        slot = jnp.arange(x.shape[1]) + (0 if offset is None else offset)

        def attention(y):
            mixed, kept = Attention(c, self.dtype, self.attention, name="attention")(
                y, layout, slot, turns, per_layer, earlier, asked
            )
            return mixed, kept if self.keep else None

        def wanted(y):
            return y if asked is None else jnp.take_along_axis(y, asked[:, :, None], axis=1)

        mlp = Mlp(c, self.dtype, name="mlp")
        norm_a, norm_m = (
            width_norm(c, self.dtype, "attention_norm"),
            width_norm(c, self.dtype, "mlp_norm"),
        )
        if c.norm_position == "post":
            mixed, kept = attention(x)
            x = wanted(x) + norm_a(mixed)
            x = x + norm_m(mlp(x))
        elif c.parallel_residual:
            mixed, kept = attention(norm_a(x))
            x = wanted(x)
            x = mlp(norm_m(x)) + mixed + x
        else:
            mixed, kept = attention(norm_a(x))
            x = wanted(x) + mixed
            x = x + mlp(norm_m(x))
        return x, kept


class Decoder(nn.Module):
    """Tokens → final hidden states, and the keys and values asked for.

    `parts`: see `parameters.split_layers`.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    keep: bool = False
    unroll: int = 1
    attention: How = How()
    parts: tuple[int, ...] | None = None

    @nn.compact
    def __call__(
        self, tokens_BT, layout, shared=None, past=None, cache=None, offset=None, asked=None
    ):
        c = self.config
        table = self.param(
            "embedding",
            partitioned(nn.initializers.normal(0.02), "vocab", "embed"),
            (c.vocab_size, c.hidden_size),
            jnp.float32,
        )
        if not c.tie_embeddings:
            init = partitioned(nn.initializers.normal(c.hidden_size**-0.5), "embed", "vocab")
            self.param("unembedding", init, (c.hidden_size, c.vocab_size), jnp.float32)
        x = jnp.take(table, tokens_BT, axis=0).astype(self.dtype)
        layer = nn.remat(Layer, prevent_cse=False) if self.remat == "full" else Layer
        settings = (c, self.dtype, self.keep or cache is not None, self.attention)
        given = {"shared": shared, "past": past, "cache": cache}
        earlier = {
            name: _each(lambda cache: cache.layout, part)
            for name, part in given.items()
            if part is not None
        }
        if cache is not None:
            earlier["cache"] = _until(cache.layout, offset)
        rest, kept = (layout, turns(c, layout.position, self.dtype), earlier, offset), []
        for start, size in spans(self.parts or (c.num_layers,)):
            inputs = self._inputs(given, start, size)
            if self.parts is not None and size == 1:
                here = asked if start + size == c.num_layers else None
                x, new = layer(*settings, name=part_name(start, size))(x, inputs, *rest, here)
            else:
                x, new = self._scanned(layer, settings, start, size)(x, inputs, *rest)
            kept.append(new)
        if asked is not None and x.shape[1] != asked.shape[1]:
            x = jnp.take_along_axis(x, asked[:, :, None], axis=1)
        kept = (
            ()
            if kept[0] is None
            else kept[0]
            if self.parts is None
            else tuple(zip(*kept, strict=True))
        )
        hidden = width_norm(c, self.dtype, "final_norm")(x)
        if cache is not None:
            # Written once, after all layers have read it: a buffer that the scan over layers
            # carries is copied in every one of them.
            return hidden, write(cache, KeyValues(*kept, layout), offset)
        return hidden, KeyValues(*kept, layout) if self.keep else None

    def _scanned(self, layer, settings, start, size):
        return nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=size,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(*settings, name="layers" if self.parts is None else part_name(start, size))

    def _inputs(self, given, start, size):
        """What differs between layers, for one part of them: numbers, and earlier keys and values."""
        c = self.config
        kinds, number = layer_frequencies(c)
        inputs = {"turn": jnp.asarray(number)} if len(kinds) > 1 else {}
        if any(c.sliding_layers):
            inputs["window"] = jnp.asarray(
                [c.window if slides else np.iinfo(np.int32).max for slides in c.sliding_layers],
                jnp.int32,
            )
        given = {name: part for name, part in given.items() if part is not None}
        if self.parts is None:
            return inputs | {name: (part.key, part.value) for name, part in given.items()}
        number = [first for first, _ in spans(self.parts)].index(start)
        inputs = {
            name: value[start] if size == 1 else value[start : start + size]
            for name, value in inputs.items()
        }
        return inputs | {
            name: _each(lambda cache: (cache.key[number], cache.value[number]), part)
            for name, part in given.items()
        }


def _each(function, part):
    """`function` of a cache, or of each in a tuple of them."""
    return tuple(map(function, part)) if isinstance(part, tuple) else function(part)


def _until(layout: Layout, offset) -> Layout:
    """The layout of a buffer before `offset`.

    What stands at later slots is to be overwritten, and seen by nothing.
    """
    later = jnp.arange(layout.enter.shape[1])[None] >= offset
    return Layout(
        layout.position, jnp.where(later, -1, layout.enter), jnp.where(later, -1, layout.leave)
    )


def slot_axis(part) -> int:
    """The axis of a KeyValues' array that counts slots: keys and values are [..., S, K], layouts
    [B, S].
    """
    return part.ndim - 2 if part.ndim > 2 else 1


def write(cache: KeyValues, new: KeyValues, offset) -> KeyValues:
    """The buffer with `new` in it, from slot `offset` on."""

    def put(buffer, part):
        return jax.lax.dynamic_update_slice_in_dim(
            buffer, jnp.asarray(part, buffer.dtype), offset, axis=slot_axis(buffer)
        )

    return jax.tree.map(put, cache, new)
