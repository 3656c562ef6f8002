"""Attention that is differentiated: kernels with a backward pass give XLA's numbers and gradients,
in the programs of each TPU generation too.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.models import attention_causal
from amuro_jax.models.attention import Backend, KeyBlock, attend, best_backend
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import packed, plain
from amuro_jax.models.parameters import init_params

RNG = np.random.default_rng(0)
# Three documents and padding, and two documents, in rows that are no multiple of a block.
SEGMENTS = np.repeat([[0, 1, 2, -1], [0, 0, 1, 1]], 40, axis=1)[:, :150]
TPUS = {"v5e:2x2": "fsdp:4", "v5p:2x2x1": "data:2,tensor:2", "v6e:2x2": "data:2,fsdp:2"}


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def inputs(heads, groups, width, segments=SEGMENTS):
    batch, length = segments.shape
    query, key, value = (
        normal(batch, length, heads, width),
        normal(batch, groups, length, width),
        normal(batch, groups, length, width),
    )
    wanted = normal(batch, length, heads, width) * (segments >= 0)[:, :, None, None]
    return query, key, value, wanted


def loss(backend, segments, query, key, value, wanted):
    layout, slot = packed(segments, np.zeros_like(segments)), jnp.arange(segments.shape[1])
    block = KeyBlock(key, value, layout, slot)
    return jnp.sum(attend(query, layout, slot, [block], None, backend) * wanted)


def gradients(backend, arrays, segments=SEGMENTS):
    def run(*arrays):
        return loss(backend, segments, *arrays)

    return jax.jit(jax.value_and_grad(run, (0, 1, 2)))(*arrays)


@pytest.mark.parametrize("name", ["splash_interpreted", "cudnn_by_xla"])
@pytest.mark.parametrize("heads,groups", [(4, 4), (4, 2)])
def test_gradients_of_packed_rows_are_those_of_xla(name, heads, groups, monkeypatch):
    arrays = inputs(heads, groups, 16)
    value, plainly = gradients(Backend(), arrays)
    monkeypatch.setattr("amuro_jax.models.attention_dense.all_heads", None)
    mine, kernel = gradients(Backend(name, segments=True, gradient=True), arrays)
    np.testing.assert_allclose(mine, value, rtol=1e-4)
    for one, other in zip(kernel, plainly, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("length", [40, 96, 150, 400])  # one chunk, two, two, three
@pytest.mark.parametrize("groups", [4, 2])
def test_gradients_in_chunks_are_those_of_all_pairs(length, groups, monkeypatch):
    segments = np.repeat(SEGMENTS, 3, axis=1)[:, 40 : 40 + length]
    arrays = inputs(4, groups, 16, segments)
    value, plainly = gradients(Backend(), arrays, segments)
    monkeypatch.setattr("amuro_jax.models.attention_dense.all_heads", None)
    mine, chunked = gradients(Backend("causal", gradient=True), arrays, segments)
    np.testing.assert_allclose(mine, value, rtol=1e-4)
    for one, other in zip(chunked, plainly, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_chunks_queries_do_not_meet_later_keys():
    """About half of all pairs: no array in the program has all queries beside all keys."""
    segments = np.zeros((2, 384), int)
    program = jax.make_jaxpr(
        lambda *arrays: gradients(Backend("causal", gradient=True), arrays, segments)
    )(*inputs(4, 4, 16, segments))
    assert attention_causal.chunks(384) == [(0, 192), (192, 384)]
    assert "192,384]" in str(program) and "384,384]" not in str(program)


def test_padding_gives_no_gradient_and_no_result():
    """A query without keys has a result of zeros, whatever asks for its gradient."""
    segments = np.where(np.arange(150) < 100, 0, -1)[None]
    query, key, value, _ = inputs(4, 4, 16, segments)
    wanted = normal(1, 150, 4, 16) * (segments < 0)[:, :, None, None]
    total, found = gradients(
        Backend("causal", gradient=True), (query, key, value, wanted), segments
    )
    assert total == 0 and not any(np.any(one) for one in found)


def test_a_window_limits_the_chunks_too():
    query, key, value, wanted = inputs(4, 4, 16, np.zeros((2, 150), int))
    layout, slot = plain(150, 2), jnp.arange(150)

    def run(backend, *arrays):
        block = KeyBlock(*arrays[1:], layout, slot)
        return jnp.sum(attend(arrays[0], layout, slot, [block], jnp.int32(7), backend) * wanted)

    each = [
        jax.jit(jax.value_and_grad(functools.partial(run, backend), (0, 1, 2)))(query, key, value)
        for backend in (Backend(), Backend("causal", gradient=True))
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5), *each)


def test_gradients_over_a_mesh():
    segments = np.repeat(SEGMENTS, 2, axis=0)
    arrays = inputs(4, 2, 16, segments)
    _, plainly = gradients(Backend(), arrays, segments)
    mesh = sharding.make_mesh("data:4,tensor:2")
    backend = Backend("splash_interpreted", mesh, segments=True, gradient=True)
    for one, other in zip(gradients(backend, arrays, segments)[1], plainly, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_one_place_chooses_for_training():
    mesh = sharding.make_mesh("data:4,tensor:2")
    tpu = best_backend("tpu", "bfloat16", mesh, gradient=True)
    assert tpu == Backend("splash", mesh, segments=True, gradient=True)
    gpu = best_backend("gpu", "bfloat16", gradient=True)
    assert gpu == Backend("cudnn", None, segments=True, gradient=True)
    for platform in ("tpu", "gpu"):
        assert best_backend(platform, "float32", gradient=True) == Backend()
    for dtype in ("float32", "bfloat16"):
        assert best_backend("cpu", dtype, gradient=True) == Backend("causal", gradient=True)


def test_a_window_that_hides_nothing_keeps_the_kernel(monkeypatch):
    """OLMo-3's sliding layers see 4,096 tokens: shorter rows need no window, which splash lacks."""
    config = ModelConfig(
        "olmo3", 64, 32, 2, 2, 2, 16, 32, 64, window=20, sliding_layers=(True, False)
    )
    params, tokens = init_params(config, 0), np.arange(40)[None] % 64
    backend = Backend("splash_interpreted", segments=True, gradient=True)

    def hidden(config, length, attention):
        run = functools.partial(forward, config=config, attention=attention)
        return jax.jit(run)(params, tokens[:, :length], plain(length))[0]

    everything = dataclasses.replace(config, window=None, sliding_layers=())
    np.testing.assert_allclose(
        hidden(config, 20, Backend()), hidden(everything, 20, Backend()), atol=1e-6
    )
    assert np.abs(hidden(config, 40, Backend()) - hidden(everything, 40, Backend())).max() > 1e-3
    expected = hidden(config, 20, Backend())
    monkeypatch.setattr("amuro_jax.models.attention_dense.all_heads", None)
    np.testing.assert_allclose(hidden(config, 20, backend), expected, atol=2e-5)


@pytest.fixture(scope="module")
def topologies():
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    return topologies


@pytest.mark.parametrize("topology", TPUS)
def test_forward_and_backward_kernels_are_compiled_for_each_tpu(topology, topologies):
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # no compiler for this machine
        pytest.skip(f"no TPU compiler: {error}")
    mesh, segments = sharding.make_mesh(TPUS[topology], devices), np.zeros((4, 1024), np.int32)
    backend = best_backend("tpu", "bfloat16", mesh, gradient=True)
    place = sharding.replicated(mesh)
    shapes = [(4, 1024, 4, 128), (4, 2, 1024, 128), (4, 2, 1024, 128), (4, 1024, 4, 128)]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place) for shape in shapes]

    def run(*arrays):
        return loss(backend, segments, *arrays)

    program = jax.jit(jax.grad(run, (0, 1, 2))).lower(*arrays).compile().as_text()
    for kernel in ("splash_mha_fwd", "splash_mha_dq", "splash_mha_dkv"):
        assert kernel in program
    assert "1024,1024]" not in program  # no scores and no mask of all pairs
