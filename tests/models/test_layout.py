"""The mask rule: causality, packing, trees, padding, shared prefixes and caches give the plain
forward's numbers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amuro_jax.models.cache import KVCache, empty
from amuro_jax.models.config import ModelConfig, Rope
from amuro_jax.models.forward import forward, logits
from amuro_jax.models.layout import EVERYTHING, Layout, packed, padded, plain
from amuro_jax.models.parameters import init_params, stack_layers

OLMO = ModelConfig("olmo", 128, 32, 3, 4, 4, 8, 48, 256)
SLIDING = ModelConfig(
    "olmo3",
    128,
    32,
    4,
    4,
    2,
    8,
    48,
    256,
    norm="rmsnorm",
    norm_scale=True,
    norm_position="post",
    qk_norm=True,
    rope=Rope(5e5, "yarn", factor=4.0, original_max_length=32),
    sliding_rope=Rope(5e5),
    window=5,
    sliding_layers=(True, True, True, False),
    tie_embeddings=False,
)
NEOX = ModelConfig(
    "gpt_neox",
    128,
    32,
    2,
    4,
    4,
    8,
    64,
    256,
    norm_scale=True,
    norm_bias=True,
    parallel_residual=True,
    attention_bias=True,
    attention_out_bias=True,
    gated_mlp=False,
    mlp_bias=True,
    activation="gelu",
    rotary_fraction=0.25,
    rope_in_fp32=False,
    tie_embeddings=False,
)
CONFIGS = [OLMO, SLIDING, NEOX]


@pytest.fixture(params=CONFIGS, ids=lambda c: c.family, scope="module")
def model(request):
    config = request.param
    params = init_params(config, 0)
    # Scales and biases start at 1 and 0: move them, so that a forgotten one shows.
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = jax.tree.unflatten(
        treedef,
        [
            leaf + 0.05 * jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ],
    )
    return (
        config,
        params,
        jax.jit(
            lambda p, t, l, s=None: forward(p, t, l, config=config, cache=KVCache(prefix=s))[0]
        ),
    )


def tokens(batch, length, seed=0):
    return np.random.default_rng(seed).integers(0, 128, (batch, length)).astype(np.int32)


def close(a, b, tolerance=2e-5):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance, rtol=0)


def test_causality(model):
    config, params, run = model
    t = tokens(2, 24)
    changed = t.copy()
    changed[:, 13:] = (changed[:, 13:] + 1) % 128
    before, after = run(params, t, plain(24, 2)), run(params, changed, plain(24, 2))
    close(before[:, :13], after[:, :13], 0)
    assert np.abs(np.asarray(before - after)[:, 13]).max() > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_real_tokens(model, side):
    config, params, run = model
    t, mask = tokens(2, 24), np.ones((2, 24), bool)
    mask[0, slice(0, 9) if side == "left" else slice(15, 24)] = False
    padded_run = run(params, t, padded(mask))
    alone = run(params, t[:1][:, mask[0]], plain(15))
    close(padded_run[0][mask[0]], alone[0])
    close(padded_run[1], run(params, t, plain(24, 2))[1])
    assert np.isfinite(np.asarray(padded_run)).all()


def test_packed_documents_do_not_see_each_other(model):
    config, params, run = model
    t = tokens(1, 30)
    segments = np.repeat([0, 1, 2, -1], [11, 7, 9, 3])[None]
    positions = np.concatenate([np.arange(11), np.arange(7), np.arange(9), np.zeros(3)])[None]
    line = run(params, t, packed(segments, positions))
    for number, (start, stop) in enumerate([(0, 11), (11, 18), (18, 27)]):
        close(line[0, start:stop], run(params, t[:, start:stop], plain(stop - start))[0])
        assert segments[0, start] == number


def test_tree_of_query_and_choices_equals_separate_sequences(model):
    """One line holds [query | choice a | choice b]; each choice sees the query and itself."""
    config, params, run = model
    query, a, b = tokens(1, 10, 1), tokens(1, 4, 2), tokens(1, 6, 3)
    line = np.concatenate([query, a, b], 1)
    enter = np.repeat([0, 1, 2], [10, 4, 6])[None].astype(np.int32)
    leave = np.repeat([3, 2, 3], [10, 4, 6])[None].astype(np.int32)
    position = np.concatenate([np.arange(10), 10 + np.arange(4), 10 + np.arange(6)])[None].astype(
        np.int32
    )
    tree = run(params, line, Layout(position, enter, leave))
    close(tree[0, 10:14], run(params, np.concatenate([query, a], 1), plain(14))[0, 10:])
    close(tree[0, 14:], run(params, np.concatenate([query, b], 1), plain(16))[0, 10:])


def test_shared_prefix_of_batch_one_equals_whole_sequences(model):
    config, params, run = model
    t = tokens(3, 20)
    t[:, :12] = t[:1, :12]
    whole = plain(20, 3)
    prefix = Layout(
        whole.position[:1, :12], whole.enter[:1, :12], whole.enter[:1, :12] + EVERYTHING
    )
    _, shared = forward(params, t[:1, :12], prefix, config=config, keep=True)
    rest = jax.tree.map(lambda x: x[:, 12:], whole)
    close(run(params, t[:, 12:], rest, shared), run(params, t, whole)[:, 12:])


def test_cached_equals_uncached_with_one_trace(model):
    config, params, run = model
    t, whole = tokens(2, 24), plain(24, 2)
    traces = []

    @jax.jit
    def start():
        return KVCache(buffer=empty(config, 2, 32, jnp.float32), length=jnp.int32(0))

    @jax.jit
    def step(p, part, layout, cache):
        traces.append(1)
        hidden, new = forward(p, part, layout, config=config, cache=cache, keep=True)
        return hidden, cache.append(new)

    cache, pieces = start(), []
    for at in range(0, 24, 4):
        hidden, cache = step(
            params,
            t[:, at : at + 4],
            jax.tree.map(lambda x, at=at: x[:, at : at + 4], whole),
            cache,
        )
        pieces.append(hidden)
    close(jnp.concatenate(pieces, 1), run(params, t, whole))
    assert len(traces) == 1


def test_candidate_columns_are_columns_of_all_logits(model):
    config, params, run = model
    hidden = run(params, tokens(1, 8), plain(8))
    close(
        logits(params, hidden, config, jnp.array([5, 77])),
        logits(params, hidden, config)[..., [5, 77]],
    )


def test_remat_and_layers_without_a_loop_change_nothing(model):
    config, params, run = model
    t = tokens(1, 16)

    def loss(p, **options):
        return forward(p, t, plain(16), config=config, **options)[0].mean()

    def each(p):
        return loss(stack_layers(p, (1,) * config.num_layers))

    reference = jax.jit(jax.grad(loss))(params)
    for other in (functools.partial(loss, remat="full"), each):
        jax.tree.map(lambda a, b: close(a, b, 1e-6), reference, jax.jit(jax.grad(other))(params))


def test_bfloat16_stays_near_fp32(model):
    config, params, run = model
    t = tokens(1, 24)
    low, _ = forward(params, t, plain(24), config=config, dtype=jnp.bfloat16)
    high = np.asarray(run(params, t, plain(24)))
    assert low.dtype == jnp.bfloat16
    assert np.abs(np.asarray(low, np.float32) - high).max() / np.abs(high).max() < 0.06
