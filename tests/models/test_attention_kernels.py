"""Fused attention: the same numbers as XLA's under every mask, and really in the program that a TPU
would run.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.models.attention import Backend, KeyBlock, attend, best_backend
from amuro_jax.models.layout import EVERYTHING, Layout, packed, padded

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def own(layout, groups, width=16):
    batch, length = layout.enter.shape
    return KeyBlock(
        normal(batch, groups, length, width),
        normal(batch, groups, length, width),
        layout,
        jnp.arange(length),
    )


def prefix(real, capacity, groups, width=16):
    seen = np.arange(capacity)[None] < real
    layout = Layout(
        jnp.arange(capacity)[None], jnp.where(seen, 0, -1), jnp.where(seen, EVERYTHING, -1)
    )
    return KeyBlock(
        normal(1, groups, capacity, width),
        normal(1, groups, capacity, width),
        layout,
        jnp.arange(capacity) - capacity,
        shared=True,
    )


def tree(batch, length):
    """A query of 20 tokens, two choices of 10, and a second query; then padding."""
    enter, leave = np.full((batch, length), -1, np.int32), np.full((batch, length), -1, np.int32)
    for first, end, closes in ((0, 20, 40), (20, 30, 30), (30, 40, 40), (40, 60, 60)):
        enter[:, first:end], leave[:, first:end] = np.arange(first, end), closes
    return Layout(jnp.zeros((batch, length), jnp.int32), jnp.asarray(enter), jnp.asarray(leave))


SEGMENTS = np.repeat([[0, 1, 2, -1], [0, 0, 1, 1]], 40, axis=1)[:, :150]
CASES = {
    "segments": (packed(SEGMENTS, np.zeros_like(SEGMENTS)), None, True),
    "left padding": (padded(np.arange(130)[None] >= [[20], [0]]), None, True),
    "prefix and segments": (packed(SEGMENTS, np.zeros_like(SEGMENTS)), 100, True),
    "prefix and trees": (tree(3, 64), 190, False),
}


WIDTHS = {"trees_interpreted": 128, "splash_interpreted": 16, "cudnn_by_xla": 16}


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heads,groups", [(4, 4), (4, 2)])
def test_a_kernel_gives_the_numbers_of_xla(name, case, heads, groups, monkeypatch):
    layout, real, segments = CASES[case]
    batch, length = layout.enter.shape
    width = WIDTHS[name]
    blocks = (
        [own(layout, groups, width)]
        if real is None
        else [prefix(real, 192, groups, width), own(layout, groups, width)]
    )
    query, slot = normal(batch, length, heads, width), jnp.arange(length)
    plain = attend(query, layout, slot, blocks)
    monkeypatch.setattr(
        "amuro_jax.models.attention_dense.all_heads", None
    )  # what is compared is not XLA's own
    mine = attend(query, layout, slot, blocks, None, Backend(name, segments=segments))
    sees = np.asarray(layout.enter) >= 0
    np.testing.assert_allclose(np.asarray(mine)[sees], np.asarray(plain)[sees], atol=2e-5)
    assert np.isfinite(mine).all()


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("before", ["nothing", "prefix", "prefix and cache"])
def test_our_kernel_takes_trees_windows_and_caches(before, window, monkeypatch):
    layout = tree(3, 300)
    layout = layout.replace(position=jnp.broadcast_to(jnp.arange(300), (3, 300)))
    earlier = packed(
        np.where(np.arange(140)[None] < [[140], [60], [1]], 0, -1),
        np.broadcast_to(np.arange(140) - 140, (3, 140)),
    )
    cache = own(earlier, 2, 128).replace(slot=jnp.arange(140) - 140)
    cache = cache.replace(
        layout=cache.layout.replace(leave=jnp.where(cache.layout.enter < 0, -1, 50))
    )
    blocks = {
        "nothing": [],
        "prefix": [prefix(190, 192, 2, 128)],
        "prefix and cache": [prefix(190, 192, 2, 128), cache],
    }[before]
    query, slot, blocks = normal(3, 300, 4, 128), jnp.arange(300), [*blocks, own(layout, 2, 128)]
    plain = attend(query, layout, slot, blocks, window and jnp.int32(window))
    monkeypatch.setattr("amuro_jax.models.attention_dense.all_heads", None)
    mine = attend(
        query, layout, slot, blocks, window and jnp.int32(window), Backend("trees_interpreted")
    )
    sees = np.asarray(layout.enter) >= 0
    np.testing.assert_allclose(np.asarray(mine)[sees], np.asarray(plain)[sees], atol=2e-5)
    assert np.isfinite(mine).all()


def test_what_no_kernel_is_made_for_goes_to_xla(monkeypatch):
    calls = []
    monkeypatch.setattr("amuro_jax.models.attention_dense.all_heads", lambda *args: calls.append(1))
    layout, query, slot = tree(2, 64), normal(2, 64, 4, 16), jnp.arange(64)
    shared, block, splash, cudnn = (
        prefix(30, 64, 4),
        own(layout, 4),
        Backend("splash_interpreted"),
        Backend("cudnn_by_xla"),
    )
    one = jax.tree.map(lambda part: part[:, :1], layout)
    attend(query, layout, slot, [block], None, splash)  # a tree without a prefix
    attend(query, layout, slot, [shared, block], jnp.int32(8), splash)  # a window
    attend(
        query, layout, slot, [shared, block, block], None, splash
    )  # a cache between prefix and own tokens
    attend(query, layout, slot, [block, block], None, splash)  # a cache alone
    attend(query[:, :1], one, slot[-1:], [shared, block], None, splash)  # a decoding step
    attend(query[:, :1], one, slot[-1:], [shared, block], None, cudnn)
    attend(
        query[..., :12], layout, slot, [shared, block], None, cudnn
    )  # a head width that the kernel lacks
    trees = Backend("trees_interpreted")
    attend(
        query[..., :12], layout, slot, [block], None, trees
    )  # narrow heads, which go to splash, and it has no trees
    wide = prefix(30, 64, 4, 128)
    attend(
        normal(2, 1, 4, 128), one, slot[-1:], [wide, own(one, 4, 128)], None, trees
    )  # a decoding step
    assert len(calls) == 9


def test_narrow_heads_go_from_our_kernel_to_splash(monkeypatch):
    monkeypatch.setattr("amuro_jax.models.attention_dense.all_heads", None)
    layout, slot = tree(2, 64), jnp.arange(64)
    assert attend(
        normal(2, 64, 4, 16),
        layout,
        slot,
        [prefix(30, 64, 4), own(layout, 4)],
        None,
        Backend("trees_interpreted"),
    ).shape == (2, 64, 4, 16)


def test_cudnn_takes_windows_too():
    layout = packed(np.zeros((2, 64), np.int32), np.broadcast_to(np.arange(64), (2, 64)))
    query, slot, block = normal(2, 64, 4, 16), jnp.arange(64), own(layout, 2)
    mine = attend(query, layout, slot, [block], jnp.int32(8), Backend("cudnn_by_xla"))
    np.testing.assert_allclose(mine, attend(query, layout, slot, [block], jnp.int32(8)), atol=2e-5)


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("text", ["data:8", "data:4,tensor:2", "data:1,tensor:8"])
def test_a_kernel_is_spread_over_a_mesh(text, name):
    mesh, width = sharding.make_mesh(text), WIDTHS[name]
    layout = tree(8, 64)
    blocks, query, slot = (
        [prefix(100, 128, 2, width), own(layout, 2, width)],
        normal(8, 64, 4, width),
        jnp.arange(64),
    )
    plain = attend(query, layout, slot, blocks)
    spread = jax.jit(
        lambda query, layout, blocks: attend(query, layout, slot, blocks, None, Backend(name, mesh))
    )(query, layout, blocks)
    sees = np.asarray(layout.enter) >= 0
    np.testing.assert_allclose(np.asarray(spread)[sees], np.asarray(plain)[sees], atol=2e-5)


def test_one_place_chooses():
    split = sharding.make_mesh("data:4,tensor:2")
    assert (
        best_backend("cpu", "bfloat16").name == "blocked"
        and best_backend("cpu", "float32", split).name == "xla"
    )
    assert (
        best_backend("tpu", "bfloat16", split) == Backend("trees", split)
        and best_backend("tpu", "float32").name == "xla"
    )
    assert (
        best_backend("gpu", "bfloat16").name == "cudnn"
        and best_backend("gpu", "float32").name == "xla"
    )
