"""Parameters split into parts, hidden states of asked positions alone, caches of some lines each:
the same numbers as the plain forward pass.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amuro_jax.models.attention import How
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import plain
from amuro_jax.models.parameters import (
    abstract_params,
    apart,
    init_params,
    logical_axes,
    parts_of,
    split_layers,
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
@pytest.mark.parametrize("parts", [None, (2, 1), (1, 1, 1)])
def test_asked_positions_have_the_numbers_of_the_whole(name, parts):
    config = FAMILIES[name]
    params = jax.tree.map(lambda leaf: 3 * leaf, init_params(config, 0))
    whole, kept = hidden_of(params, config, keep=True)
    split = params if parts is None else split_layers(params, parts)
    assert parts_of(split) == parts
    some, mine = hidden_of(split, config, keep=True, asked=jnp.asarray(ASKED))
    np.testing.assert_allclose(
        some, np.take_along_axis(np.asarray(whole), ASKED[:, :, None], axis=1), atol=2e-5
    )
    for ours, theirs in (
        (mine.key, kept.key),
        (mine.value, kept.value),
    ):  # all tokens, whatever was asked
        ours = [
            part if part.ndim == 5 else part[None]
            for part in (ours if isinstance(ours, tuple) else [ours])
        ]
        np.testing.assert_allclose(np.concatenate(ours), theirs, atol=2e-5)


def test_work_after_attention_is_for_asked_positions_only():
    params = init_params(BASE, 0)

    def flops(params, **more):
        lowered = jax.jit(
            lambda params: forward(params, TOKENS, plain(12, 2), config=BASE, **more)[0]
        ).lower(params)
        return lowered.compile().cost_analysis()["flops"]

    alone = split_layers(params, (1, 1, 1))
    saved = flops(alone) - flops(alone, asked=jnp.asarray(ASKED))
    expected = (
        (TOKENS.size - ASKED.size)
        * 2
        * BASE.hidden_size
        * (BASE.num_heads * BASE.head_dim + 3 * BASE.mlp_size)
    )
    assert saved == pytest.approx(
        expected, rel=0.25
    )  # and activations, norms and residuals besides


def test_split_trees_have_the_shapes_and_axes_of_their_parts():
    parts = (2, 1)
    split, shapes, axes = (
        split_layers(init_params(BASE, 0), parts),
        abstract_params(BASE, parts=parts),
        logical_axes(BASE, parts),
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
    one_by_one, direct = apart(split), split_layers(init_params(BASE, 0), (1, 1, 1))
    assert jax.tree.structure(one_by_one) == jax.tree.structure(direct)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one_by_one, direct)))


@pytest.mark.parametrize("rows", [(2,), (1, 1)])
def test_earlier_tokens_may_stand_in_caches_of_some_lines_each(rows):
    params = split_layers(jax.tree.map(lambda leaf: 3 * leaf, init_params(BASE, 0)), (1, 1, 1))
    whole, kept = hidden_of(params, BASE, keep=True)
    ends, past = np.cumsum([0, *rows]), []
    for number, (first, end) in enumerate(zip(ends, ends[1:], strict=False)):
        widen = [
            (0, 0),
            (0, 0),
            (0, 3 * number),
            (0, 0),
        ]  # a slot more or less does not matter where nothing stands in it
        mine = jax.tree.map(lambda leaf, first=first, end=end: leaf[first:end], kept)

        def pad(leaf, widen=widen):
            slots = leaf.ndim == 4
            widths = widen if slots else [(0, 0), widen[2]]
            return jnp.pad(leaf, widths, constant_values=0 if slots else -1)

        seen = mine.layout.position < 11  # all but the last token, which comes anew
        mine = mine.replace(
            layout=mine.layout.replace(
                leave=jnp.where(seen, mine.layout.leave, -1), enter=jnp.where(seen, 0, -1)
            )
        )
        past.append(jax.tree.map(pad, mine))
    layout = jax.tree.map(lambda field: field[:, 11:], plain(12, 2))
    again, _ = forward(
        params, TOKENS[:, 11:], layout, config=BASE, past=tuple(past), attention=How("blocked")
    )
    np.testing.assert_allclose(again[:, 0], whole[:, 11], atol=2e-5)
