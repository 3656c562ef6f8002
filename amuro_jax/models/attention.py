"""Attention of queries over one or more blocks of keys, under the mask rule of `layout`: one
function, and one choice of backend.
"""

import dataclasses

import flax.struct
import jax.numpy as jnp
from jax.sharding import Mesh

from amuro_jax.models import attention_causal, attention_dense, attention_kernels
from amuro_jax.models.layout import Layout


@flax.struct.dataclass
class KeyBlock:
    """Keys and values [X, G, S, K] with their layout [X, S] and slots [S]; X is the batch, or 1
    where all rows share them.

    `shared`: a prefix that every real token sees.
    """

    key: jnp.ndarray
    value: jnp.ndarray
    layout: Layout
    slot: jnp.ndarray
    shared: bool = flax.struct.field(pytree_node=False, default=False)


@dataclasses.dataclass(frozen=True)
class Backend:
    """How attention is computed. Static: part of a program's key.

    Attributes:
        name: xla (all heads at once) | blocked (a few key heads at a time, so that scores stay in a
            CPU's cache) | causal (chunks of queries over a row's own tokens, with a backward pass
            for CPUs; else xla) | trees (TPU kernel for every mask rule of `layout`; heads that it
            is not made for go to splash) | splash (TPU kernel for prefixes and segments) | cudnn
            (GPU kernel, 16-bit). A kernel leaves to XLA what it does not support.
        mesh: devices over which a kernel is spread; XLA's need none.
        segments: every own token sees earlier tokens of the same `enter` alone (plain, padded and
            packed layouts; no trees).
        gradient: the result is differentiated: a kernel with a backward pass, of own tokens alone.
    """

    name: str = "xla"
    mesh: Mesh | None = None
    segments: bool = False
    gradient: bool = False


def best_backend(platform: str, dtype, mesh: Mesh | None = None, gradient: bool = False) -> Backend:
    """The best backend of a platform: the only function that decides.

    Training asks with `gradient`: its rows are segments, and our own kernel has no backward pass.

    Kernels take 16-bit numbers only: a run in fp32 asks for exactness, and XLA keeps its precision
    setting where kernels do not. On CPU heads are not worked on one by one where the mesh splits
    them.
    """
    small = jnp.dtype(dtype).itemsize == 2
    if gradient:
        if platform == "cpu":
            return Backend("causal", gradient=True)
        kernel = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}.get(platform) if small else None
        return Backend(kernel, mesh, segments=True, gradient=True) if kernel else Backend()
    if platform == "cpu":
        return Backend("xla" if mesh is not None and mesh.shape["tensor"] > 1 else "blocked")
    if platform == "tpu" and small:
        return Backend("trees", mesh)
    return Backend("cudnn" if platform in ("gpu", "cuda") and small else "xla", mesh)


def attend(
    query_BTHK,
    layout: Layout,
    slot_T,
    blocks: list[KeyBlock],
    window=None,
    backend: Backend = Backend(),
):
    """Softmax attention over all blocks together; fp32 scores and softmax.

    Args:
        query_BTHK: queries, rope applied.
        layout: their layout [B, T]; `slot_T` their slots, on the axis that the blocks' slots count.
        blocks: keys and values in slot order, a shared prefix first; G divides H.
        window: int scalar, or None where no layer slides.

    Returns:
        [B, T, H, K] in the queries' dtype.
    """
    if backend.name == "blocked":
        return attention_dense.head_by_head(query_BTHK, layout, slot_T, blocks, window)
    if backend.name == "causal" and attention_causal.suits(query_BTHK, blocks):
        return attention_causal.causal(query_BTHK, layout, slot_T, blocks, window)
    kernel = attention_kernels.choose(query_BTHK, blocks, window, backend)
    if kernel:
        return kernel(query_BTHK, layout, slot_T, blocks, window, backend)
    return attention_dense.all_heads(query_BTHK, layout, slot_T, blocks, window)
