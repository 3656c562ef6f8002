"""Adapters: nothing changes at the start, only they are trained, merged exactly, resumed, refused
where they do not fit.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.config import validate_recipe
from amuro_jax.errors import ConfigError
from amuro_jax.models.forward import forward, logits
from amuro_jax.models.layout import plain
from amuro_jax.models.lora import Lora, merged
from amuro_jax.models.parameters import abstract_params, flatten, init_params, logical_axes
from amuro_jax.train.batches import pad_batch
from amuro_jax.train.fine_tune import fine_tune, trainable_of
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step
from tests.train.tiny import MODEL, RECIPE, RUN, examples

LORA = Lora(rank=4, alpha=8.0)
TOKENS = np.random.default_rng(0).integers(3, 64, (2, 20)).astype(np.int32)


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, 0)


def drawn(lora, config=MODEL, seed=1):
    """Adapters of which none is zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.1 * rng.standard_normal(leaf.shape)).astype(np.float32),
        lora.abstract(config),
    )


def scores(params, config=MODEL, tokens=TOKENS):
    hidden, _ = forward(params, tokens, plain(*tokens.shape[::-1]), config=config)
    return np.asarray(logits(params, hidden, config))


def test_a_new_adapter_changes_nothing_and_a_drawn_one_does(params):
    fresh, frozen = LORA.split(params, MODEL, 0)
    np.testing.assert_array_equal(scores(LORA.join(fresh, frozen)), scores(params))
    assert np.abs(scores(LORA.join(drawn(LORA), frozen)) - scores(params)).max() > 0.1
    other = flatten(LORA.split(params, MODEL, 1)[0])
    assert any(
        (np.asarray(leaf) != np.asarray(other[n])).any() for n, leaf in flatten(fresh).items()
    )


@pytest.mark.parametrize("stabilised", [False, True])
def test_merged_gives_the_numbers_of_apart(params, stabilised):
    lora = dataclasses.replace(LORA, rank_stabilised=stabilised)
    trained = drawn(lora)
    whole = merged(lora.join(trained, params))
    assert set(flatten(whole)) == set(flatten(params))
    np.testing.assert_allclose(scores(whole), scores(lora.join(trained, params)), atol=2e-5, rtol=0)
    kernel = np.asarray(params["layers"]["attention"]["out"]["kernel"], np.float64)
    adapter = trained["layers"]["attention"]["out"]
    scale = 8 / 2 if stabilised else 8 / 4
    exact = kernel + scale * np.einsum(
        "lhkr,lrd->lhkd", adapter["lora_a"].astype(float), adapter["lora_b"].astype(float)
    )
    np.testing.assert_allclose(whole["layers"]["attention"]["out"]["kernel"], exact, atol=1e-6)


def test_only_adapters_are_trained_and_the_loss_falls(tmp_path, params):
    recipe = dataclasses.replace(RECIPE, epochs=8, learning_rate=2e-2)
    done = fine_tune(params, MODEL, examples(64), recipe, RUN, workdir=tmp_path, trainable=LORA)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    np.testing.assert_array_equal(done.params["embed"]["embedding"], params["embed"]["embedding"])
    assert set(flatten(done.trained)) == set(flatten(LORA.abstract(MODEL)))
    state = flatten(make_step(MODEL, Optimizer(), trainable=LORA).abstract_state().params)
    assert sum(np.prod(leaf.shape) for leaf in state.values()) < MODEL.num_parameters / 2


def test_gradients_are_those_of_the_product(params):
    """One step on the adapter = the chain rule through W + scale · A B on full parameters."""
    batch = pad_batch(examples(8), 8, 4).arrays()
    step = make_step(MODEL, Optimizer(), trainable=LORA)
    trained = drawn(LORA)

    def merged_loss(adapter):
        return step._sums(merged(LORA.join(adapter, params)), batch)[0]

    def own_loss(adapter):
        return step._sums(LORA.join(adapter, params), batch)[0]

    own = flatten(jax.jit(jax.grad(own_loss))(trained))
    for name, leaf in flatten(jax.jit(jax.grad(merged_loss))(trained)).items():
        np.testing.assert_allclose(own[name], leaf, atol=1e-4, err_msg=name)


def test_a_resumed_adapter_run_is_the_same_run(tmp_path, params):
    run = dataclasses.replace(RUN, save_every=3)
    whole = fine_tune(params, MODEL, examples(), RECIPE, run, workdir=tmp_path, trainable=LORA)
    again = fine_tune(params, MODEL, examples(), RECIPE, run, workdir=tmp_path, trainable=LORA)
    for name, leaf in flatten(whole.trained).items():
        np.testing.assert_array_equal(leaf, flatten(again.trained)[name])


def test_on_a_mesh(params):
    mesh = sharding.make_mesh("fsdp:4,tensor:2")
    placed = jax.device_put(
        params, sharding.shardings(logical_axes(MODEL), abstract_params(MODEL), mesh)
    )
    alone = fine_tune(params, MODEL, examples(), RECIPE, trainable=LORA)
    spread = fine_tune(placed, MODEL, examples(), RECIPE, mesh=mesh, trainable=LORA)
    assert spread.loss == pytest.approx(alone.loss, abs=1e-4)


def test_what_cannot_be_meant_is_refused(params):
    with pytest.raises(ConfigError, match="rank of an adapter must be positive, got 0"):
        Lora(0, 1.0)
    with pytest.raises(ConfigError, match="(?s)no projection 'q_proj'.*query, key, value, out"):
        Lora(2, 1.0, ("q_proj",)).abstract(MODEL)
    with pytest.raises(ConfigError, match="named twice: up, up"):
        Lora(2, 1.0, ("up", "up")).abstract(MODEL)
    with pytest.raises(ConfigError, match="rank 33 for a model of width 32"):
        Lora(MODEL.hidden_size + 1, 8.0).abstract(MODEL)


def test_a_recipe_with_a_rank_trains_an_adapter(params):
    recipe = dataclasses.replace(
        RECIPE, lora_rank=4, lora_alpha=8.0, lora_targets=("query", "up"), lora_rank_stabilised=True
    )
    lora = Lora(4, 8.0, ("query", "up"), True)
    assert trainable_of(recipe) == lora
    assert trainable_of(dataclasses.replace(RECIPE, lora_rank=3)) == Lora(3, 6.0)
    done = fine_tune(params, MODEL, examples(), recipe)
    assert set(flatten(done.trained)) == set(flatten(lora.abstract(MODEL)))
    with pytest.raises(ConfigError, match="lora_alpha has no effect"):
        validate_recipe(dataclasses.replace(RECIPE, lora_alpha=8.0))
    with pytest.raises(ConfigError, match="lora_rank must be positive, got 0"):
        validate_recipe(dataclasses.replace(RECIPE, lora_rank=0))
