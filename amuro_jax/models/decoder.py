"""The decoder: embedding, scanned layers, final norm. One module for every family."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.models.attention import Backend
from amuro_jax.models.attention_kernels import RESULT
from amuro_jax.models.cache import KeyValues
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.layers import Attention, Mlp, partitioned, width_norm
from amuro_jax.models.rope import layer_frequencies, rotary_tables


def spans(stacks: tuple[int, ...]) -> list[tuple[int, int]]:
    """(first layer, layers) of each stack."""
    return [(sum(stacks[:index]), size) for index, size in enumerate(stacks)]


def stack_name(start: int, size: int) -> str:
    """The linen name of a stack of layers."""
    return f"layer_{start}" if size == 1 else f"layers_{start}"


class Layer(nn.Module):
    """One layer. Carries x; returns the keys and values of its tokens where `keep` is set."""

    config: ModelConfig
    dtype: jnp.dtype
    keep: bool
    attention: Backend = Backend()

    @nn.compact
    def __call__(self, x, per_layer, layout, rotary, blocks, first_slot, query_positions=None):
        c = self.config
        slot = first_slot + jnp.arange(x.shape[1])

        def attention(y):
            mixed, new = Attention(c, self.dtype, self.attention, name="attention")(
                y, layout, slot, rotary, per_layer, blocks, query_positions
            )
            return mixed, new if self.keep else None

        def wanted(y):
            if query_positions is None:
                return y
            return jnp.take_along_axis(y, query_positions[:, :, None], axis=1)

        mlp = Mlp(c, self.dtype, name="mlp")
        norm_a, norm_m = (
            width_norm(c, self.dtype, "attention_norm"),
            width_norm(c, self.dtype, "mlp_norm"),
        )
        if c.norm_position == "post":
            mixed, new = attention(x)
            x = wanted(x) + norm_a(mixed)
            x = x + norm_m(mlp(x))
        elif c.parallel_residual:
            mixed, new = attention(norm_a(x))
            x = wanted(x)
            x = mlp(norm_m(x)) + mixed + x
        else:
            mixed, new = attention(norm_a(x))
            x = wanted(x) + mixed
            x = x + mlp(norm_m(x))
        return x, new


_policies = jax.checkpoint_policies
_save_kernel = _policies.save_only_these_names(RESULT)
_save_dots = _policies.save_from_both_policies(
    _policies.dots_with_no_batch_dims_saveable, _save_kernel
)
_move_dots = _policies.offload_dot_with_no_batch_dims("device", "pinned_host")


def _offload(primitive, *inputs, **params):
    if _save_kernel(primitive, *inputs, **params):  # [B, T, D] a layer: stays on the device
        return True
    return _move_dots(primitive, *inputs, **params)


# What the backward pass computes again (`config.Remat`), from the fastest to the smallest.
REMAT = {
    "none": lambda layer: layer,
    "dots": functools.partial(nn.remat, prevent_cse=False, policy=_save_dots),
    "offload": functools.partial(nn.remat, prevent_cse=False, policy=_offload),
    "full": functools.partial(nn.remat, prevent_cse=False),
}


class Decoder(nn.Module):
    """Tokens → final hidden states, and keys and values; see `forward`.

    `stacks`: see `parameters.stack_layers`.
    """

    config: ModelConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    keep: bool = False
    attention: Backend = Backend()
    stacks: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, tokens_BT, layout, cache=None, query_positions=None):
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
        layer = REMAT[self.remat](Layer)
        settings = (c, self.dtype, self.keep, self.attention)
        blocks = [] if cache is None else cache.blocks()
        # Keys and values differ by layer, the rest of a block does not.
        shared = tuple(block.replace(key=None, value=None) for block in blocks)
        first_slot = 0 if cache is None else cache.length
        rotary = rotary_tables(c, layout.position, self.dtype)
        common, kept_keys = (layout, rotary, shared, first_slot), []
        wanted = query_positions  # until a layer has taken them
        for number, (start, size) in enumerate(spans(self.stacks or (c.num_layers,))):
            inputs = self._inputs(blocks, number, start, size, tokens_BT.shape[1])
            if self.stacks is not None and size == 1:
                here = None
                if start + size == c.num_layers:
                    here, wanted = wanted, None
                x, new = layer(*settings, name=stack_name(start, size))(x, inputs, *common, here)
            else:
                x, new = self._scanned(layer, settings, start, size)(x, inputs, *common)
            kept_keys.append(new)
        if wanted is not None:
            x = jnp.take_along_axis(x, wanted[:, :, None], axis=1)
        hidden = width_norm(c, self.dtype, "final_norm")(x)
        return hidden, KeyValues(*zip(*kept_keys, strict=True), layout) if self.keep else None

    def _scanned(self, layer, settings, start, size):
        return nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=size,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(*settings, name="layers" if self.stacks is None else stack_name(start, size))

    def _inputs(self, blocks, number, start, size, length):
        """What differs between layers, for one stack: settings, and earlier keys and values."""
        c = self.config
        kinds, rope = layer_frequencies(c)
        inputs = {"rope": jnp.asarray(rope)} if len(kinds) > 1 else {}
        # Without earlier tokens, and with fewer than the window has, it hides nothing.
        if any(c.sliding_layers) and (blocks or length > c.window):
            everything = np.iinfo(np.int32).max
            windows = [c.window if slides else everything for slides in c.sliding_layers]
            inputs["window"] = jnp.asarray(windows, jnp.int32)
        if self.stacks is not None:
            layers = start if size == 1 else slice(start, start + size)
            inputs = {name: value[layers] for name, value in inputs.items()}
        return inputs | {"earlier": [(block.key[number], block.value[number]) for block in blocks]}
