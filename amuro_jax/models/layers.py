"""Norms, attention and MLP of one layer.

Parameter names and shapes are those of docs/architecture.md.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from amuro_jax.models.attention import Backend, KeyBlock, attend
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.rope import rotate

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_fast": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


def partitioned(init, *axes):
    """`init` with the logical axis names of the parameter beside it."""
    return nn.with_logical_partitioning(init, axes)


def kernel_init(fan_in: int):
    """Normal with standard deviation fan_in ** -0.5."""
    return nn.initializers.normal(fan_in**-0.5)


class Norm(nn.Module):
    """LayerNorm or RMSNorm in fp32, with or without scale and bias.

    [..., width] → the compute dtype.
    """

    kind: str
    eps: float
    scale: bool
    bias: bool
    cast_first: bool
    dtype: jnp.dtype
    axis: str = "embed"

    @nn.compact
    def __call__(self, x):
        x = x.astype(jnp.float32)
        if self.kind == "layernorm":
            x = x - jnp.mean(x, axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps)
        if self.cast_first:
            x = x.astype(self.dtype)
        if self.scale:
            scale = self.param(
                "scale", partitioned(nn.initializers.ones, self.axis), (x.shape[-1],), jnp.float32
            )
            x = x * scale.astype(x.dtype)
        if self.bias:
            bias = self.param(
                "bias", partitioned(nn.initializers.zeros, self.axis), (x.shape[-1],), jnp.float32
            )
            x = x + bias.astype(x.dtype)
        return x.astype(self.dtype)


def width_norm(config: ModelConfig, dtype, name: str) -> Norm:
    """The family's norm over the model width."""
    return Norm(
        config.norm,
        config.norm_eps,
        config.norm_scale,
        config.norm_bias,
        config.norm_cast_first,
        dtype,
        name=name,
    )


class Projection(nn.Module):
    """Contracts the last `len(inputs)` axes of x with a kernel [*inputs, *outputs], optional bias
    [*outputs].
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    axes: tuple[str, ...]
    bias: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        fan_in = 1
        for size in self.inputs:
            fan_in *= size
        kernel = self.param(
            "kernel",
            partitioned(kernel_init(fan_in), *self.axes),
            (*self.inputs, *self.outputs),
            jnp.float32,
        )
        lead = x.shape[: x.ndim - len(self.inputs)]
        # Two axes, not three: the weight's gradient then contracts one axis, which XLA does 1.7
        # times faster on CPU.
        flat = x.reshape(-1, fan_in)
        y = jnp.dot(flat, kernel.astype(self.dtype).reshape(fan_in, -1))
        if self.has_variable("params", "lora_a"):  # an adapter (lora.py), its scale in B
            lora_a, lora_b = (
                self.get_variable("params", name).astype(self.dtype)
                for name in ("lora_a", "lora_b")
            )
            y = y + jnp.dot(
                jnp.dot(flat, lora_a.reshape(fan_in, -1)), lora_b.reshape(-1, y.shape[1])
            )
        y = y.reshape(*lead, *self.outputs)
        if self.bias:
            axes = self.axes[len(self.inputs) :]
            y = y + self.param(
                "bias", partitioned(nn.initializers.zeros, *axes), self.outputs, jnp.float32
            ).astype(self.dtype)
        return y


class Attention(nn.Module):
    """Self-attention of one layer over its own tokens and earlier ones."""

    config: ModelConfig
    dtype: jnp.dtype
    attention: Backend = Backend()

    def _project(self, x, name, heads, axis):
        c = self.config
        projection = Projection(
            (c.hidden_size,),
            (heads, c.head_dim),
            ("embed", axis, "head_dim"),
            c.attention_bias,
            self.dtype,
            name=name,
        )
        y = projection(x)
        if c.qk_norm and name != "value":
            flat = y.reshape(*y.shape[:-2], heads * c.head_dim)
            norm = Norm(
                "rmsnorm",
                c.norm_eps,
                True,
                False,
                c.norm_cast_first,
                self.dtype,
                axis,
                name=f"{name}_norm",
            )
            y = norm(flat).reshape(y.shape)
        return y if c.clip_qkv is None else jnp.clip(y, -c.clip_qkv, c.clip_qkv)

    @nn.compact
    def __call__(self, x_BTD, layout, slot_T, rotary, per_layer, blocks, query_positions=None):
        """Gives (mixed [B, T or A, D], (keys, values) [B, G, T, K]).

        Args:
            rotary: from `rope.rotary_tables`.
            per_layer: what differs between layers: number of the rotary table, window, and the keys
                and values of each block.
            blocks: `KVCache.blocks` without keys and values.
            query_positions: see `forward`.
        """
        c = self.config
        query = self._project(x_BTD, "query", c.num_heads, "heads")
        key = self._project(x_BTD, "key", c.num_kv_heads, "kv_heads")
        value = self._project(x_BTD, "value", c.num_kv_heads, "kv_heads")
        cos, sin = (table[per_layer.get("rope", 0)] for table in rotary)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
        blocks = [
            block.replace(key=earlier[0], value=earlier[1])
            for block, earlier in zip(blocks, per_layer["earlier"], strict=True)
        ]
        blocks.append(KeyBlock(key, value, layout, slot_T))
        mixed = attend(query, layout, slot_T, blocks, per_layer.get("window"), self.attention)
        if query_positions is not None:
            mixed = jnp.take_along_axis(mixed, query_positions[:, :, None, None], axis=1)
        out = Projection(
            (c.num_heads, c.head_dim),
            (c.hidden_size,),
            ("heads", "head_dim", "embed"),
            c.attention_out_bias,
            self.dtype,
            name="out",
        )
        return out(mixed), (key, value)


class Mlp(nn.Module):
    """Gated (SwiGLU) or plain feed-forward block."""

    config: ModelConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        c = self.config
        wide = {
            "inputs": (c.hidden_size,),
            "outputs": (c.mlp_size,),
            "axes": ("embed", "mlp"),
            "bias": c.mlp_bias,
            "dtype": self.dtype,
        }
        activation = ACTIVATIONS[c.activation]
        up = Projection(**wide, name="up")(x)
        hidden = (
            activation(Projection(**wide, name="gate")(x)) * up if c.gated_mlp else activation(up)
        )
        return Projection(
            (c.mlp_size,), (c.hidden_size,), ("mlp", "embed"), c.mlp_bias, self.dtype, name="down"
        )(hidden)
