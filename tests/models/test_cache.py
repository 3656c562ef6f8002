"""Key-value caches, stacks of layers and query positions: the same numbers as the plain forward
pass.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amuro_jax.models.attention import Backend
from amuro_jax.models.cache import KVCache, concatenate, empty
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import EVERYTHING, plain
from amuro_jax.models.parameters import (
    abstract_params,
    init_params,
    logical_axes,
    stack_layers,
    stacks_of,
    unstack_layers,
)

BASE = ModelConfig("olmo", 97, 32, 3, 4, 2, 8, 64, 64)
FAMILIES = {
    "pre-norm": BASE,
    "post-norm": dataclasses.replace(
        BASE, norm="rmsnorm", norm_scale=True, norm_position="post", qk_norm=True
    ),
    "parallel": dataclasses.replace(
        BASE, parallel_residual=True, gated_mlp=False, activation="gelu"
    ),
    "sliding": dataclasses.replace(
        BASE,
        window=5,
        sliding_layers=(True, False, True),
        sliding_rope=dataclasses.replace(BASE.rope, theta=500.0),
    ),
}
TOKENS = np.random.default_rng(0).integers(0, 97, (2, 12)).astype(np.int32)
ASKED = np.asarray([[3, 11, 0], [7, 7, 2]], np.int32)


def hidden_of(params, config, **more):
    return jax.jit(lambda params: forward(params, TOKENS, plain(12, 2), config=config, **more))(
        params
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("stacks", [None, (2, 1), (1, 1, 1)])
def test_asked_positions_have_the_numbers_of_the_whole(name, stacks):
    config = FAMILIES[name]
    params = jax.tree.map(lambda leaf: 3 * leaf, init_params(config, 0))
    whole, kept = hidden_of(params, config, keep=True)
    split = params if stacks is None else stack_layers(params, stacks)
    assert stacks_of(split) == stacks
    some, mine = hidden_of(split, config, keep=True, query_positions=jnp.asarray(ASKED))
    np.testing.assert_allclose(
        some, np.take_along_axis(np.asarray(whole), ASKED[:, :, None], axis=1), atol=2e-5
    )
    for ours, theirs in (
        (mine.key, kept.key),
        (mine.value, kept.value),
    ):  # all tokens, whatever was asked
        ours = [part if part.ndim == 5 else part[None] for part in ours]
        np.testing.assert_allclose(np.concatenate(ours), theirs[0], atol=2e-5)


def test_work_after_attention_is_for_asked_positions_only():
    params = init_params(BASE, 0)

    def flops(params, **more):
        lowered = jax.jit(
            lambda params: forward(params, TOKENS, plain(12, 2), config=BASE, **more)[0]
        ).lower(params)
        return lowered.compile().cost_analysis()["flops"]

    alone = stack_layers(params, (1, 1, 1))
    saved = flops(alone) - flops(alone, query_positions=jnp.asarray(ASKED))
    expected = (
        (TOKENS.size - ASKED.size)
        * 2
        * BASE.hidden_size
        * (BASE.num_heads * BASE.head_dim + 3 * BASE.mlp_size)
    )
    assert saved == pytest.approx(
        expected, rel=0.25
    )  # and activations, norms and residuals besides


def test_split_trees_have_the_shapes_and_axes_of_their_stacks():
    stacks = (2, 1)
    split, shapes, axes = (
        stack_layers(init_params(BASE, 0), stacks),
        abstract_params(BASE, stacks=stacks),
        logical_axes(BASE, stacks),
    )
    assert jax.tree.map(lambda leaf: leaf.shape, split) == jax.tree.map(
        lambda leaf: leaf.shape, shapes
    )
    ranks = jax.tree.map(
        len,
        axes,
        is_leaf=lambda node: (
            isinstance(node, tuple) and all(isinstance(name, str) or name is None for name in node)
        ),
    )
    assert ranks == jax.tree.map(lambda leaf: leaf.ndim, split)
    kernels = [part["attention"]["query"]["kernel"] for part in axes["layers"]]
    assert kernels == [("layers", "embed", "heads", "head_dim"), ("embed", "heads", "head_dim")]
    one_by_one, direct = unstack_layers(split), stack_layers(init_params(BASE, 0), (1, 1, 1))
    assert jax.tree.structure(one_by_one) == jax.tree.structure(direct)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one_by_one, direct)))


@pytest.mark.parametrize("attention", ["xla", "blocked"])
@pytest.mark.parametrize("stacks", [None, (1, 1, 1)])
def test_prefix_past_and_buffer_together_equal_one_pass(stacks, attention):
    """Of 12 tokens 4 are a prefix, 4 the past of each row, 3 in the buffer; the last is new."""
    params = jax.tree.map(lambda leaf: 3 * leaf, init_params(BASE, 0))
    params = params if stacks is None else stack_layers(params, stacks)
    tokens = TOKENS.copy()
    tokens[:, :4] = tokens[:1, :4]
    read_tokens = functools.partial(forward, config=BASE, keep=True, attention=Backend(attention))
    run = jax.jit(read_tokens)
    whole, _ = run(params, tokens, plain(12, 2))

    def part(first, end, rows=2):
        return tokens[:rows, first:end], jax.tree.map(lambda a: a[:rows, first:end], plain(12, 2))

    def read(cache, *given):
        return run(params, *part(*given), cache=cache)

    prefix = read(None, 0, 4, 1)[1]
    cache = KVCache(
        prefix=prefix.replace(
            layout=prefix.layout.replace(leave=EVERYTHING + 0 * prefix.layout.leave)
        )
    )
    past = read(cache, 4, 8)[1]
    cache = cache.replace(past=past.widened(6), buffer=empty(BASE, 2, 5, jnp.float32, stacks))
    cache = cache.append(read(cache, 8, 11)[1])
    assert cache.length == 3
    # What stands in the buffer beyond its length is hidden, whatever its layout says.
    cache = cache.replace(
        buffer=cache.buffer.written(past, 3 - 2).written(read(cache.replace(length=0), 8, 11)[1], 0)
    )
    last, _ = read(cache, 11, 12)
    np.testing.assert_allclose(last[:, 0], whole[:, 11], atol=2e-5)


def test_rows_of_a_cache_are_replaced_joined_and_widened():
    params = init_params(BASE, 0)
    _, kept = hidden_of(params, BASE, keep=True)
    both = concatenate([kept, kept])
    assert (both.rows, both.slots, kept.widened(20).slots) == (4, 12, 20)
    other = jax.tree.map(lambda leaf: leaf + 1, kept)
    mixed = both.with_rows(other, jnp.asarray([2, 4]))  # there is no row 4
    for name in ("key", "value"):
        (before,), (new,), (after,) = (getattr(part, name) for part in (both, other, mixed))
        np.testing.assert_array_equal(after[:, [0, 1, 3]], before[:, [0, 1, 3]])
        np.testing.assert_array_equal(after[:, 2], new[:, 0])
    alone = kept.unstacked()
    assert [key.shape for key in alone.key] == [kept.key[0].shape[1:]] * BASE.num_layers
