"""One step: against torch's AdamW on the same model, against itself in micro-batches and on every
mesh, once traced per shape.
"""

import dataclasses
import re

import jax
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.errors import ConfigError
from amuro_jax.models.parameters import (
    abstract_params,
    flatten,
    init_params,
    logical_axes,
)
from amuro_jax.train.batches import pack_batch, pad_batch
from amuro_jax.train.compute import WITHOUT_LOOP
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import Step, make_step
from tests.train import torch_olmo
from tests.train.tiny import MODEL, examples

ADAM = Optimizer(clip_norm=1.0)


def run(step, params, batches, rate=1e-2):
    state, losses = step.init(params), []
    for batch in batches:
        state, metrics = step(state, batch.arrays(), rate)
        losses.append(float(metrics["loss"]))
    return state, losses


def close(left, right, tolerance):
    for name, leaf in flatten(left).items():
        np.testing.assert_allclose(
            np.asarray(leaf), np.asarray(flatten(right)[name]), atol=tolerance, rtol=0, err_msg=name
        )


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, 0)


@pytest.fixture(scope="module")
def batches():
    return [pad_batch(examples(8, seed), 8, 4) for seed in range(3)]


def test_three_steps_equal_torch(params, batches):
    """transformers' OLMo, torch's AdamW and its gradient clipping, the same batches: parameters
    agree to 1e-5.
    """
    torch = pytest.importorskip("torch")
    model = torch_olmo.model_of(params)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
    )
    losses = []
    for batch in batches:
        attention = torch.tensor(batch.enter == 0).long()
        scores = model(torch.tensor(batch.tokens).long(), attention_mask=attention).logits
        at = torch.take_along_dim(scores, torch.tensor(batch.source).long()[:, :, None], 1)
        each = torch.nn.functional.cross_entropy(
            at.transpose(1, 2), torch.tensor(batch.target).long(), reduction="none"
        )
        weight = torch.tensor(batch.weight)
        loss = (each * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    state, ours = run(make_step(MODEL, ADAM), params, batches)
    np.testing.assert_allclose(ours, losses, atol=1e-5)
    close(state.params, torch_olmo.params_of(model), 1e-4)


@pytest.mark.parametrize("micro", [2, 4, 8])
def test_accumulated_equals_whole_batch(params, batches, micro):
    """Micro-batches have different numbers of predicted tokens: a mean of means would differ."""
    whole, losses = run(make_step(MODEL, ADAM), params, batches)
    parts, same = run(make_step(MODEL, ADAM, micro_batches=micro), params, batches)
    np.testing.assert_allclose(losses, same, atol=1e-5)
    close(whole.params, parts.params, 1e-4)


@pytest.mark.parametrize("text", ["data:8", "data:4,tensor:2", "fsdp:8", "data:2,fsdp:2,tensor:2"])
def test_every_mesh_gives_the_same_parameters(params, batches, text):
    alone, losses = run(make_step(MODEL, ADAM), params, batches)
    mesh = sharding.make_mesh(text)
    placed = jax.device_put(
        params, sharding.shardings(logical_axes(MODEL), abstract_params(MODEL), mesh)
    )
    state, same = run(make_step(MODEL, ADAM, mesh=mesh), placed, batches)
    np.testing.assert_allclose(losses, same, atol=1e-5)
    close(alone.params, state.params, 1e-4)
    assert (
        "tensor" not in text
        or not state.params["layers"]["mlp"]["up"]["kernel"].sharding.is_fully_replicated
    )


def test_one_trace_per_shape_whatever_the_learning_rate(params, batches):
    step = Step(MODEL, ADAM, "float32", "none", 1, None)
    for rate in (1e-3, 2e-3):
        run(step, params, batches, rate)
    shapes = {batch.tokens.shape for batch in batches}
    assert step.traces == len(shapes)


def test_steps_are_shared_by_recipes_of_one_shape():
    assert make_step(MODEL, Optimizer(clip_norm=1.0)) is make_step(MODEL, Optimizer(clip_norm=1.0))


def test_initial_parameters_survive_donation(params, batches):
    before = np.asarray(params["embed"]["embedding"]).copy()
    run(make_step(MODEL, ADAM), params, batches)
    np.testing.assert_array_equal(before, params["embed"]["embedding"])


def test_long_completions_are_chunked_to_the_same_numbers(params):
    from amuro_jax.data.types import TrainExample

    tokens = np.random.default_rng(0).integers(3, 64, 60).astype(np.int32)
    row = TrainExample(tokens, np.ones(60, bool), 0)
    small, large = (
        run(make_step(MODEL, ADAM), params, [pad_batch([row], 1, size)]) for size in (64, 512)
    )
    np.testing.assert_allclose(small[1], large[1], rtol=1e-6)
    close(small[0].params, large[0].params, 1e-4)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_nothing(params, batches, remat):
    plain, again = (
        run(make_step(MODEL, ADAM, remat=name), params, batches) for name in ("none", remat)
    )
    close(plain[0].params, again[0].params, 1e-4)


def test_remat_policies_keep_less(params, batches):
    """Residuals that the backward pass takes from the forward one: none > dots > full."""
    arrays, kept = batches[0].arrays(), {}
    for remat in ("none", "dots", "full"):
        step = make_step(MODEL, ADAM, remat=remat)
        _, backward = jax.eval_shape(
            lambda tree, step=step: jax.vjp(lambda p: step._sums(p, arrays)[0], tree), params
        )
        kept[remat] = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(backward))
    assert kept["none"] > kept["dots"] > kept["full"]


@pytest.mark.parametrize(
    "remat,layers,loops",
    [("none", WITHOUT_LOOP, False), ("none", WITHOUT_LOOP + 1, True), ("full", 2, True)],
)
def test_few_layers_have_no_loop_on_a_cpu(batches, remat, layers, loops):
    """What is computed again needs one: without it XLA would keep what it computed before."""
    step = make_step(dataclasses.replace(MODEL, num_layers=layers), ADAM, remat=remat)
    lowered = step.jitted.lower(step.abstract_state(), {}, batches[0].arrays(), np.float32(0))
    assert ("stablehlo.while" in lowered.as_text()) == loops


def test_a_step_without_a_loop_equals_one_with_it(params, batches):
    looped = Step(MODEL, ADAM)
    assert not looped.compute.loop
    looped.compute = dataclasses.replace(looped.compute, loop=True)
    (one, losses), (other, expected) = (
        run(step, params, batches, 1e-3) for step in (make_step(MODEL, ADAM), looped)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    close(one.params, other.params, 1e-5)


def test_the_last_layer_works_on_predicting_positions(params, batches):
    """MLP products of all tokens: of one layer of two, where the loop has one program for both."""
    arrays = batches[0].arrays()
    rows, length = arrays["tokens"].shape
    assert arrays["source"].shape[1] < length
    step = make_step(MODEL, ADAM)
    text = jax.jit(step._sums).lower(params, arrays).as_text()
    wide = re.findall(rf"dot_general.*-> tensor<(\d+)x{MODEL.mlp_size}xf32>", text)
    few = str(rows * arrays["source"].shape[1])
    assert sorted(wide) == sorted(2 * [few] + 2 * [str(rows * length)])  # gate and up


def test_as_many_predicting_positions_as_tokens(params):
    """They are still gathered, in a loop or without one."""
    rows = examples(8, 0)
    batch = pad_batch(rows, 8, 4).arrays()
    length = batch["tokens"].shape[1]
    fill = {name: ((0, 0), (0, length - batch[name].shape[1])) for name in ("source", "target")}
    wide = {name: np.pad(batch[name], width) for name, width in fill.items()}
    wide["weight"] = np.pad(batch["weight"], fill["source"])
    step, looped = make_step(MODEL, ADAM), Step(MODEL, ADAM)
    looped.compute = dataclasses.replace(looped.compute, loop=True)
    expected = step._sums(params, batch)[0]
    for one in (step, looped):
        np.testing.assert_allclose(one._sums(params, batch | wide)[0], expected, rtol=1e-6)


def test_offload_is_refused_on_a_cpu():
    with pytest.raises(ConfigError, match="no host memory beside its own"):
        make_step(MODEL, ADAM, remat="offload")


def test_the_first_moment_may_be_kept_in_bfloat16(params, batches):
    whole, half = (
        run(make_step(MODEL, Optimizer(clip_norm=1.0, moment_dtype=dtype)), params, batches, 1e-3)
        for dtype in (None, "bfloat16")
    )
    moments = half[0].opt_state[1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(moments.mu)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(moments.nu)} == {"float32"}
    np.testing.assert_allclose(half[1], whole[1], atol=2e-3)


def test_weight_decay_spares_scales_and_biases():
    from tests.models.test_layout import NEOX

    params = init_params(NEOX, 0)
    transform = Optimizer(weight_decay=0.1).transform()
    zero = jax.tree.map(np.zeros_like, params)
    updates = flatten(transform.update(zero, transform.init(params), params)[0])
    moved = {name for name, leaf in updates.items() if np.abs(leaf).max() > 0}
    assert moved == {name for name in updates if name.endswith(("kernel", "embedding"))}


@pytest.mark.parametrize("weigh_examples", [False, True])
def test_packed_equals_padded_in_loss_and_gradient(params, weigh_examples):
    rows = examples(8, 3)
    padded = pad_batch(rows, 8, 4, weigh_examples)
    packed = pack_batch(rows, 1, weigh_examples)
    assert len(packed.tokens) < 8
    step = make_step(MODEL, ADAM)

    def gradient(batch):
        def loss(tree):
            total, (weight, _) = step._sums(tree, batch.arrays())
            return total / weight

        return jax.jit(jax.value_and_grad(loss))(params)

    (one, gradient_one), (other, gradient_other) = gradient(padded), gradient(packed)
    assert float(one) == pytest.approx(float(other), abs=1e-6)
    close(gradient_one, gradient_other, 1e-6)


def test_each_packed_example_has_the_loss_it_has_alone(params):
    rows, step = examples(6, 4), make_step(MODEL, ADAM)
    packed, sums = pack_batch(rows, 1).arrays(), jax.jit(step._sums)
    for row in rows:
        alone, (count, _) = sums(params, pad_batch([row], 1, 4).arrays())
        # the row's targets, found by its place among the packed ones
        at = np.zeros_like(packed["weight"])
        for line, place in zip(*np.nonzero(packed["weight"]), strict=True):
            number = packed["enter"][line, packed["source"][line, place]]
            own = packed["tokens"][line][packed["enter"][line] == number]
            at[line, place] = np.array_equal(own, row.tokens)
        assert at.sum() == float(count)
        together, _ = sums(params, packed | {"weight": at})
        assert float(together) == pytest.approx(float(alone), abs=1e-5)
