"""Fused attention: splash on TPU, cudnn on GPU. Each block of keys by itself, joined through the sums of their softmaxes.

A shared prefix is seen by every real query, so that all lines together are one long query over it: the kernel's plain case. Own tokens
in segments are its causal case. Own tokens in trees (packed lines, short) are left to XLA: no kernel knows trees, and at
128 tokens a line they are a small part of the work. Sliding windows, single tokens and buffers of a cache are left to XLA whole.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from amuro_jax import sharding
from amuro_jax.models.attention_dense import one_block

LANES = 128  # of a TPU's vector unit: keys of a splash block come in multiples


def suits(query_BTHK, blocks, window, how) -> bool:
    """Whether a kernel has a part in this: no window, more than one query, no cache, and a shared prefix or segments."""
    _, length, _, width = query_BTHK.shape
    prefixed = len(blocks) == 2 and blocks[0].key.shape[0] == 1
    plain = len(blocks) == 1 or prefixed
    fits = width <= LANES or width % LANES == 0 if how.name.startswith("splash") else width % 8 == 0 and width <= 128
    own = blocks[-1].key.shape[1] == length  # a cache's buffer is longer than what is new, but for its very first tokens
    return window is None and length > 1 and plain and own and fits and (prefixed or how.segments)


def attend(query_BTHK, layout, slot_T, blocks, how):
    """See `attention.attend`; only what `suits`."""
    kernel, parts = KERNELS[how.name], []
    if len(blocks) == 2:
        parts.append(_spread(kernel["prefix"], how, query_BTHK, blocks[0], jnp.where(layout.enter >= 0, 0, -1)))
    own = blocks[-1]
    parts.append(_spread(kernel["causal"], how, query_BTHK, own, layout.enter) if how.segments else one_block(query_BTHK, layout, slot_T, own))
    return join(parts).astype(query_BTHK.dtype)


def join(parts):
    """One softmax over all blocks from (mixed [B, T, H, K], log of the sum [B, T, H]) of each; fp32."""
    if len(parts) == 1:
        return parts[0][0]
    highest = functools.reduce(jnp.maximum, [total for _, total in parts])
    shares = [jnp.exp(total - highest)[..., None] for _, total in parts]
    return sum(mixed.astype(jnp.float32) * share for (mixed, _), share in zip(parts, shares, strict=True)) / sum(shares)


def _spread(kernel, how, query_BTHK, block, segment_BT):
    """Runs a kernel on each device's lines and heads: the compiler cannot split it by itself."""
    inputs = (query_BTHK, block.key, block.value, segment_BT, block.layout.enter)
    if how.mesh is None or how.mesh.size == 1:
        return kernel(*inputs)
    axes = [("batch", None, "heads", None), ("batch", None, "kv_heads", None), ("batch", None, "kv_heads", None), ("batch", None), ("batch", None)]
    places = [sharding.spec(names, array.shape, how.mesh) for names, array in zip(axes, inputs, strict=True)]
    if places[0][2] != places[1][2]:  # fewer key heads than devices: every device has all heads
        places[:3] = [PartitionSpec(place[0], None, None, None) for place in places[:3]]
    out = (places[0], PartitionSpec(*places[0][:3]))
    return jax.shard_map(kernel, mesh=how.mesh, in_specs=tuple(places), out_specs=out, check_vma=False)(*inputs)


# --- splash ------------------------------------------------------------------------------------------------------


def _splash_prefix(query_BTHK, key_1SGK, value_1SGK, segment_BT, enter_1S, interpret=False):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    batch, length, heads, width = query_BTHK.shape
    query, segment = query_BTHK.reshape(1, -1, heads, width), segment_BT.reshape(1, -1)
    keys = jnp.where(enter_1S >= 0, 0, -2)  # padding of queries and padding of keys do not meet either
    mixed, total = _splash(masks.FullMask, query, key_1SGK, value_1SGK, segment, keys, interpret)
    return mixed.reshape(query_BTHK.shape), total.reshape(batch, length, heads)


def _splash_causal(query_BTHK, key_BSGK, value_BSGK, segment_BT, enter_BS, interpret=False):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    return _splash(masks.CausalMask, query_BTHK, key_BSGK, value_BSGK, segment_BT, jnp.where(enter_BS >= 0, enter_BS, -2), interpret)


def _splash(mask, query, key, value, segment, key_segment, interpret):
    """[B, T, H, K] → (mixed, log of the sum); padded to the kernel's blocks, with what nothing sees."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length, heads, scale = query.shape[1], query.shape[2], query.shape[3] ** -0.5
    query = (query.astype(jnp.float32) * scale).astype(query.dtype)
    query, segment = _pad(query, 0), _pad(segment, -1)
    key, value, key_segment = _pad(key, 0), _pad(value, 0), _pad(key_segment, -2)
    rows, columns = _block(query.shape[1]), _block(key.shape[1])
    multi = splash.BlockSizes(block_q=rows, block_kv=columns, block_kv_compute=columns)
    shape = (query.shape[1], key.shape[1])
    many = masks.MultiHeadMask([mask(shape)] * heads)
    kernel = splash.make_splash_mha_single_device(many, block_sizes=multi, save_residuals=True, interpret=interpret)
    by_head = (part.transpose(0, 2, 1, 3) for part in (query, key, value))
    mixed, (total,) = jax.vmap(kernel)(*by_head, splash.SegmentIds(segment, key_segment))
    return mixed.transpose(0, 2, 1, 3)[:, :length], total.transpose(0, 2, 1)[:, :length]


def _pad(array, fill):
    extra = -array.shape[1] % LANES
    return jnp.pad(array, ((0, 0), (0, extra)) + ((0, 0),) * (array.ndim - 2), constant_values=fill) if extra else array


def _block(length):
    return next(size for size in (512, 256, LANES) if length % size == 0)


# --- cudnn -------------------------------------------------------------------------------------------------------


def _cudnn_prefix(query_BTHK, key_1SGK, value_1SGK, segment_BT, enter_1S, implementation="cudnn"):
    batch, length, heads, width = query_BTHK.shape
    query = query_BTHK.reshape(1, -1, heads, width)
    given = {"query_seq_lengths": jnp.full(1, batch * length, jnp.int32), "key_value_seq_lengths": jnp.sum(enter_1S >= 0, axis=1, dtype=jnp.int32)}
    mixed, total = jax.nn.dot_product_attention(query, key_1SGK, value_1SGK, **given, implementation=implementation, return_residual=True)
    return mixed.reshape(query_BTHK.shape), total.reshape(batch, length, heads)


def _cudnn_causal(query_BTHK, key_BSGK, value_BSGK, segment_BT, enter_BS, implementation="cudnn"):
    seen = (segment_BT[:, :, None] == enter_BS[:, None]) & (segment_BT >= 0)[:, :, None]
    given = {"mask": seen[:, None], "is_causal": True}
    return jax.nn.dot_product_attention(query_BTHK, key_BSGK, value_BSGK, **given, implementation=implementation, return_residual=True)


KERNELS = {
    "splash": {"prefix": _splash_prefix, "causal": _splash_causal},
    "cudnn": {"prefix": _cudnn_prefix, "causal": _cudnn_causal},
    # The same code without the machines, for tests: splash interpreted, cudnn's interface answered by XLA.
    "splash_interpreted": {"prefix": functools.partial(_splash_prefix, interpret=True), "causal": functools.partial(_splash_causal, interpret=True)},
    "cudnn_by_xla": {name: functools.partial(f, implementation="xla") for name, f in (("prefix", _cudnn_prefix), ("causal", _cudnn_causal))},
}
