"""Fused attention: our own kernel (`attention_trees`) and splash on TPU, cudnn on GPU. `choose`
says what each supports.

splash knows causality and segments, not trees. So each block of keys is attended to separately, and
the blocks are joined through the sums of their softmaxes. A shared prefix is seen by every real
query: all lines together are one long query over it, the kernel's plain case. Own tokens in
segments are its causal case. Own tokens in trees are packed lines, which are short: XLA computes
their part. cudnn takes any mask, but rounds the sums to 16 bits: there all blocks are in one call.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from amuro_jax import sharding
from amuro_jax.models.attention_dense import one_block
from amuro_jax.models.attention_trees import suits as made_for
from amuro_jax.models.attention_trees import trees
from amuro_jax.models.layout import visible

LANES = 128  # of a TPU's vector unit: keys of a splash block come in multiples
# The kernel's result and softmax sums under a name that a remat policy may save (`decoder.REMAT`):
# a kernel is no matrix product to it, and would be run again in the backward pass.
RESULT = "attention_result"


def choose(query_BTHK, blocks, window, backend):
    """The kernel that `how` names, or a fallback that supports this input; None: XLA's own."""
    if backend.name.startswith("trees") and not made_for(query_BTHK, blocks):
        backend = dataclasses.replace(backend, name=backend.name.replace("trees", "splash"))
    return (
        KERNELS[backend.name]
        if backend.name.startswith("trees")
        or (backend.name in KERNELS and _suits(query_BTHK, blocks, window, backend))
        else None
    )


def _suits(query_BTHK, blocks, window, backend) -> bool:
    """Whether splash or cudnn can take this: several new tokens, and heads and lengths it knows.

    splash: no window (it differs between the layers of a scan, the kernel's is fixed), no cache,
        and a shared prefix or segments.
    cudnn: heads of a multiple of 8 up to 128, even numbers of queries and keys.
    """
    _, length, _, width = query_BTHK.shape
    keys = [block.key.shape[2] for block in blocks]
    if backend.name.startswith("cudnn"):
        return (
            length > 1
            and length % 2 == 0
            and sum(keys) % 2 == 0
            and width % 8 == 0
            and width <= 128
        )
    prefixed = len(blocks) == 2 and blocks[0].shared
    fits = width <= LANES or width % LANES == 0
    return (
        window is None
        and length > 1
        and (len(blocks) == 1 or (prefixed and not backend.gradient))
        and fits
        and (prefixed or backend.segments)
    )


def splash(query_BTHK, layout, slot_T, blocks, window, backend, interpret=False):
    """See `attention.attend`; only what `suits`."""
    parts = []
    if len(blocks) == 2:
        prefix = blocks[0]
        # Padding of queries and padding of keys do not meet either.
        keys = jnp.where(prefix.layout.enter >= 0, 0, -2)
        run = functools.partial(_over_prefix, interpret=interpret)
        parts.append(
            _spread(
                run,
                backend,
                query_BTHK,
                prefix.key,
                prefix.value,
                jnp.where(layout.enter >= 0, 0, -1),
                keys,
            )
        )
    own = blocks[-1]
    if backend.gradient:
        # padding sees padding: no query is left without a key
        run = functools.partial(_run_with_gradient, interpret=interpret)
        return _spread(
            run, backend, query_BTHK, own.key, own.value, layout.enter, own.layout.enter
        )[0]
    if backend.segments:
        keys = jnp.where(own.layout.enter >= 0, own.layout.enter, -2)
        parts.append(
            _spread(
                functools.partial(_causal, interpret=interpret),
                backend,
                query_BTHK,
                own.key,
                own.value,
                layout.enter,
                keys,
            )
        )
    else:
        parts.append(one_block(query_BTHK, layout, slot_T, own))
    return join(parts).astype(query_BTHK.dtype)


def join(parts):
    """One softmax over all blocks from (mixed [B, T, H, K], log of the sum [B, T, H]) of each.

    Fp32.
    """
    if len(parts) == 1:
        return parts[0][0]
    highest = functools.reduce(jnp.maximum, [total for _, total in parts])
    shares = [jnp.exp(total - highest)[..., None] for _, total in parts]
    return sum(
        mixed.astype(jnp.float32) * share for (mixed, _), share in zip(parts, shares, strict=True)
    ) / sum(shares)


def _over_prefix(query_BTHK, key_1GSK, value_1GSK, segment_BT, segment_1S, interpret):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    batch, length, heads, width = query_BTHK.shape
    query, segment = query_BTHK.reshape(1, -1, heads, width), segment_BT.reshape(1, -1)
    mixed, total = _run(masks.FullMask, query, key_1GSK, value_1GSK, segment, segment_1S, interpret)
    return mixed.reshape(query_BTHK.shape), total.reshape(batch, length, heads)


def _causal(query_BTHK, key_BGTK, value_BGTK, segment_BT, segment_BS, interpret):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    return _run(
        masks.CausalMask, query_BTHK, key_BGTK, value_BGTK, segment_BT, segment_BS, interpret
    )


def _run(mask, query, key, value, segment, key_segment, interpret):
    """[B, T, H, K] → (mixed, log of the sum).

    Padded to the kernel's blocks with what nothing sees.
    """
    length = query.shape[1]
    inputs = _filled(query, key, value, segment, key_segment, padding_of_keys=-2)
    kernel = _kernel(mask, inputs, save_residuals=True, interpret=interpret)
    mixed, (total,) = jax.vmap(kernel)(*inputs)
    return mixed.swapaxes(1, 2)[:, :length], total.swapaxes(1, 2)[:, :length]


def _run_with_gradient(query, key, value, segment, key_segment, interpret):
    """Causal attention within segments, [B, T, H, K] → ([B, T, H, K],); it has a backward pass."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length = query.shape[1]
    inputs = _filled(query, key, value, segment, key_segment, padding_of_keys=-1)
    rows, columns = _block(inputs[0].shape[2]), _block(inputs[1].shape[2])
    backward = {"block_q_dkv": rows, "block_kv_dkv": columns, "block_kv_dkv_compute": columns}
    backward |= {"block_q_dq": rows, "block_kv_dq": columns}
    kernel = _kernel(
        masks.CausalMask, inputs, backward, residual_checkpoint_name=RESULT, interpret=interpret
    )
    return (jax.vmap(kernel)(*inputs).swapaxes(1, 2)[:, :length],)


def _filled(query, key, value, segment, key_segment, padding_of_keys):
    """The kernel's inputs: heads before tokens, the scale in the query, whole blocks of tokens."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    scale = query.shape[3] ** -0.5
    query = (query.astype(jnp.float32) * scale).astype(query.dtype).swapaxes(1, 2)
    segments = kernels.SegmentIds(_pad(segment, 1, -1), _pad(key_segment, 1, padding_of_keys))
    return _pad(query, 2, 0), _pad(key, 2, 0), _pad(value, 2, 0), segments


def _kernel(mask, inputs, backward=None, **options):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    (_, heads, rows, _), columns = inputs[0].shape, inputs[1].shape[2]
    every = masks.MultiHeadMask([mask((rows, columns))] * heads)
    block = _block(columns)
    sizes = kernels.BlockSizes(
        block_q=_block(rows), block_kv=block, block_kv_compute=block, **(backward or {})
    )
    return kernels.make_splash_mha_single_device(every, block_sizes=sizes, **options)


def _pad(array, axis, fill):
    extra = -array.shape[axis] % LANES
    return (
        jnp.pad(
            array, [(0, extra if i == axis else 0) for i in range(array.ndim)], constant_values=fill
        )
        if extra
        else array
    )


def _block(length):
    return next(size for size in (512, 256, LANES) if length % size == 0)


def cudnn(query_BTHK, layout, slot_T, blocks, window, backend, implementation="cudnn"):
    """See `attention.attend`; only what `suits`. The prefix is copied to every line."""
    batch = query_BTHK.shape[0]

    def joined(parts, axis):
        return jnp.concatenate(
            [jnp.broadcast_to(part, (batch, *part.shape[1:])) for part in parts], axis
        )

    key, value = (
        joined([block.key for block in blocks], 2),
        joined([block.value for block in blocks], 2),
    )
    seen = joined(
        [visible(layout, slot_T, block.layout, block.slot, window) for block in blocks], 2
    )

    def run(query, key, value, seen, _):
        key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
        return (
            jax.nn.dot_product_attention(
                query, key, value, mask=seen[:, None], implementation=implementation
            ),
        )

    return _spread(run, backend, query_BTHK, key, value, seen, layout.enter)[0]


def _spread(run, backend, query, key, value, of_query, of_key):
    """`run` on each device for its own lines and heads: the compiler cannot split what it cannot
    look into.
    """
    inputs = (query, key, value, of_query, of_key)
    if backend.mesh is None or backend.mesh.size == 1:
        return run(*inputs)
    split = all(
        count % backend.mesh.shape["tensor"] == 0 for count in (query.shape[2], key.shape[1])
    )
    heads = "heads" if split else None  # else every device has all heads
    axes = [
        ("batch", None, heads, None),
        *[("batch", heads, None, None)] * 2,
        *[("batch", None, None)] * 2,
    ]
    indices = [
        sharding.spec(names[: part.ndim], part.shape, backend.mesh)
        for names, part in zip(axes, inputs, strict=True)
    ]
    out = jax.eval_shape(run, *inputs)
    out_places = tuple(PartitionSpec(*indices[0][: part.ndim]) for part in out)
    return jax.shard_map(
        run, mesh=backend.mesh, in_specs=tuple(indices), out_specs=out_places, check_vma=False
    )(*inputs)


KERNELS = {
    "trees": trees,
    "splash": splash,
    "cudnn": cudnn,
    # The same code without the machines, for tests: TPU kernels interpreted, cudnn's interface
    # answered by XLA.
    "trees_interpreted": functools.partial(trees, interpret=True),
    "splash_interpreted": functools.partial(splash, interpret=True),
    "cudnn_by_xla": functools.partial(cudnn, implementation="xla"),
}
