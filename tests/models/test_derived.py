"""Averages against numpy, and noise against what it is said to be."""

import jax
import numpy as np
import pytest

from amuro_jax.models import derived
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import flatten, init_params

CONFIG = ModelConfig(
    family="olmo2",
    vocab_size=64,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=2,
    head_dim=8,
    mlp_size=32,
    max_length=32,
    eos_ids=(0,),
    pad_id=1,
)


@pytest.fixture(scope="module")
def trees():
    return [init_params(CONFIG, seed) for seed in range(3)]


def test_the_average_is_that_of_numpy(trees):
    flats = [{name: np.array(leaf) for name, leaf in flatten(tree).items()} for tree in trees]
    made = flatten(derived.average(iter(trees), 3))
    for name, leaf in made.items():
        expected = np.mean([flat[name].astype(np.float64) for flat in flats], axis=0)
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-7)
        assert leaf.dtype == np.float32


def test_the_average_is_made_in_fp32_whatever_is_stored(trees):
    """In bfloat16 the sum of a thousand and one would lose the one."""
    small = {"a": jax.numpy.ones(3, "bfloat16")}
    large = {"a": jax.numpy.full(3, 1024, "bfloat16")}
    made = derived.average(iter([large, small, small]), 3)["a"]
    np.testing.assert_allclose(made, 1026 / 3, rtol=1e-6)


def test_noise_is_as_large_as_it_is_said_to_be_layer_by_layer(trees):
    flat, sigma = flatten(trees[0]), 0.1
    flat["layers/mlp/up/kernel"] = flat["layers/mlp/up/kernel"].at[1].multiply(100.0)
    noisy = flatten(derived.with_noise(derived.unflatten(flat), sigma, 0))
    for name, leaf in noisy.items():
        change, before = np.array(leaf - flat[name]), np.array(flat[name])
        layers = (
            zip(change, before, strict=True) if name.startswith("layers/") else [(change, before)]
        )
        for moved, was in layers:
            if was.ndim < 2:
                assert not moved.any(), name  # a norm
                continue
            ratio = moved.std() / (sigma * np.sqrt(np.mean(was**2)))
            assert abs(ratio - 1) < 0.15 and abs(moved.mean()) < 0.3 * moved.std(), name


def test_a_draw_is_a_function_of_its_seed_and_of_the_name(trees):
    once, again, other = (flatten(derived.with_noise(trees[0], 0.1, seed)) for seed in (1, 1, 2))
    for name in once:
        np.testing.assert_array_equal(once[name], again[name])
    assert not np.array_equal(once["layers/mlp/up/kernel"], other["layers/mlp/up/kernel"])
    base = flatten(trees[0])
    gate, up = (
        (once[name] - base[name]) / np.std(base[name])
        for name in ("layers/mlp/gate/kernel", "layers/mlp/up/kernel")
    )
    assert abs(np.corrcoef(gate.ravel(), up.ravel())[0, 1]) < 0.2


def test_the_scale_of_the_matrices_is_the_unit_of_the_noise(trees):
    """Vectors count for nothing, each layer's matrix by itself."""
    params = {
        "embed": {"embedding": np.full((4, 3), -2.0, np.float32)},
        "layers": {"mlp": {"up": {"kernel": np.float32([np.full((3, 5), 1), np.full((3, 5), 4)])}}},
        "final_norm": {"scale": np.full(3, 1e-3, np.float32)},
    }
    assert derived.matrix_scale(params) == pytest.approx(((1 / 4 + 1 + 1 / 16) / 3) ** -0.5)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, trees[0])
    assert derived.matrix_scale(doubled) == pytest.approx(2 * derived.matrix_scale(trees[0]))
