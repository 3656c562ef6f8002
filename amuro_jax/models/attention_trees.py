"""Attention for TPU in one pass over the keys (pallas): scores live in tiles on the chip, the mask
is computed there from the layout.

The splash kernel of `attention_kernels` knows causality and equality of segments. Neither says that
a token sees its ancestors in a prefix tree, nor a window that differs between the layers of a scan;
so the mask rule of `layout` is evaluated here, per tile. Blocks of keys are walked one after
another and never copied together: a prefix that all lines share stays on the chip while the lines
of one head pass by. The rest is the online softmax of FlashAttention (arXiv 2205.14135).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from amuro_jax import sharding

MASKED = -1e30
LANES = 128
QUERY_TILE, KEY_TILE = 256, 1024  # fp32 scores of a tile: 1 MB of the 16 MB that a kernel may use
NO_WINDOW = np.iinfo(np.int32).max
SHORTEST = 32  # queries: a decoding step has one, and is bound by what it reads


def suits(query_BTHK, blocks) -> bool:
    """Whether the kernel supports this: heads of a multiple of 128 channels, and more than a few
    queries.
    """
    _, length, _, width = query_BTHK.shape
    return width % LANES == 0 and length >= SHORTEST


def trees(query_BTHK, layout, slot_T, blocks, window, backend, interpret=False):
    """See `attention.attend`; only what `suits`. Queries that see nothing (padding) get zeros."""
    run = functools.partial(_on_one_device, interpret=interpret)
    if backend.mesh is not None and backend.mesh.size > 1:
        run = _split(run, backend.mesh, query_BTHK, layout, blocks, window)
    return run(query_BTHK, layout, slot_T, blocks, window)


def _split(run, mesh, query_BTHK, layout, blocks, window):
    """`run` on every device for its own lines and heads; a shared prefix is on all of them."""
    even = not any(
        heads % mesh.shape["tensor"] for heads in (query_BTHK.shape[2], blocks[0].key.shape[1])
    )
    heads = "heads" if even else None

    def placed(array, *axes):
        return sharding.spec(axes, array.shape, mesh)

    def lines(layout):
        return jax.tree.map(lambda field: placed(field, "batch", None), layout)

    def block(b):
        key = placed(b.key, "batch", heads, None, None)
        return b.replace(key=key, value=key, layout=lines(b.layout), slot=PartitionSpec())

    query, alone = placed(query_BTHK, "batch", None, heads, None), PartitionSpec()
    indices = (
        query,
        lines(layout),
        alone,
        [block(b) for b in blocks],
        None if window is None else alone,
    )
    return jax.shard_map(run, mesh=mesh, in_specs=indices, out_specs=query, check_vma=False)


def _on_one_device(query_BTHK, layout, slot_T, blocks, window, interpret):
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    of_query = jnp.stack(
        [*jnp.broadcast_arrays(layout.enter, layout.position, slot_T[None])], axis=-1
    ).astype(jnp.int32)
    real, query_BTHK, of_query = (
        query_BTHK.shape[1],
        _padded(query_BTHK, 1),
        _padded(of_query, 1, -1),
    )
    batch, length, heads, width = query_BTHK.shape
    repeat = heads // blocks[0].key.shape[1]
    tile = _tile(length, QUERY_TILE)

    def of_line(h, b, i, j, *_):
        return b, i, h

    inputs, spans, start = [query_BTHK.reshape(batch, length, heads * width), of_query], [], 0
    specs = [
        pl.BlockSpec((1, tile, width), of_line),
        pl.BlockSpec((1, tile, 3), lambda h, b, i, j, *_: (b, i, 0)),
    ]
    for block in blocks:
        marks = (block.layout.enter, block.layout.leave, block.layout.position, block.slot[None])
        marks = _padded(jnp.stack([*jnp.broadcast_arrays(*marks)], axis=1).astype(jnp.int32), 2, -1)
        key, value = _padded(block.key, 2), _padded(block.value, 2)
        size = _tile(key.shape[2], KEY_TILE)
        tiles = key.shape[2] // size
        of_keys, of_marks = _key_maps(start, tiles, key.shape[0] == 1, repeat)
        inputs += [key, value, marks]
        specs += [
            pl.BlockSpec((1, 1, size, width), of_keys),
            pl.BlockSpec((1, 1, size, width), of_keys),
            pl.BlockSpec((1, 4, size), of_marks),
        ]
        spans.append((start, start + tiles))
        start += tiles
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(heads, batch, length // tile, start),
        in_specs=specs,
        out_specs=pl.BlockSpec((1, tile, width), of_line),
        scratch_shapes=[pltpu.VMEM((tile, size), jnp.float32) for size in (1, 1, width)],
    )
    run = pl.pallas_call(
        functools.partial(_kernel, tuple(spans), width**-0.5),
        grid_spec=grid,
        out_shape=jax.ShapeDtypeStruct(inputs[0].shape, query_BTHK.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name="tree_attention",
    )
    window = jnp.reshape(jnp.int32(NO_WINDOW if window is None else window), 1)
    return run(window, *inputs).reshape(query_BTHK.shape)[:, :real]


def _padded(array, axis, fill=0):
    """`array` with `axis` filled up to a multiple of 128.

    Marks of -1 are seen by nothing and see nothing.
    """
    more = -array.shape[axis] % LANES
    return (
        jnp.pad(
            array, [(0, more if i == axis else 0) for i in range(array.ndim)], constant_values=fill
        )
        if more
        else array
    )


def _tile(length, largest):
    """The largest multiple of 128 up to `largest` that divides `length`."""
    return max(size for size in range(LANES, largest + 1, LANES) if length % size == 0)


def _key_maps(start, tiles, shared, repeat):
    """Index maps of one block's tiles.

    Outside its span a block stays at its nearest tile, which costs no transfer.
    """

    def keys(h, b, i, j, *_):
        return 0 if shared else b, h // repeat, jnp.clip(j - start, 0, tiles - 1), 0

    def marks(h, b, i, j, *_):
        return 0 if shared else b, 0, jnp.clip(j - start, 0, tiles - 1)

    return keys, marks


def _kernel(spans, scale, window_ref, query_ref, of_query_ref, *refs):
    from jax.experimental import pallas as pl

    *block_refs, out_ref, highest_ref, total_ref, mixed_ref = refs
    step = pl.program_id(3)

    @pl.when(step == 0)
    def _():
        highest_ref[...] = jnp.full_like(highest_ref, MASKED)
        total_ref[...] = jnp.zeros_like(total_ref)
        mixed_ref[...] = jnp.zeros_like(mixed_ref)

    for number, (start, end) in enumerate(spans):
        part = block_refs[3 * number : 3 * number + 3]

        @pl.when((step >= start) & (step < end))
        def _(part=part):
            _add_tile(
                scale, window_ref, query_ref, of_query_ref, *part, highest_ref, total_ref, mixed_ref
            )

    @pl.when(step == spans[-1][1] - 1)
    def _():
        total = total_ref[...]
        out_ref[0] = (mixed_ref[...] / jnp.where(total == 0, 1, total)).astype(out_ref.dtype)


# Causality, windows and segments leave some tiles unseen.
def _add_tile(
    scale,
    window_ref,
    query_ref,
    of_query_ref,
    key_ref,
    value_ref,
    of_key_ref,
    highest_ref,
    total_ref,
    mixed_ref,
):
    from jax.experimental import pallas as pl

    enter, position, slot = (of_query_ref[0, :, i : i + 1] for i in range(3))
    enter_k, leave_k, position_k, slot_k = (of_key_ref[0, i : i + 1, :] for i in range(4))
    seen = (
        (slot_k <= slot)
        & (enter_k <= enter)
        & (enter < leave_k)
        & (position - position_k < window_ref[0])
    )

    @pl.when(jnp.max(seen.astype(jnp.int32)) > 0)
    def _():
        contract_width = (((1,), (1,)), ((), ()))
        scores = (
            jax.lax.dot_general(
                query_ref[0], key_ref[0, 0], contract_width, preferred_element_type=jnp.float32
            )
            * scale
        )
        scores = jnp.where(seen, scores, MASKED)
        before = highest_ref[...]
        highest = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.where(seen, jnp.exp(scores - highest), 0.0)
        fade = jnp.exp(before - highest)
        highest_ref[...] = highest
        total_ref[...] = total_ref[...] * fade + jnp.sum(weights, axis=1, keepdims=True)
        mixed_ref[...] = mixed_ref[...] * fade + jnp.dot(
            weights.astype(value_ref.dtype), value_ref[0, 0], preferred_element_type=jnp.float32
        )
