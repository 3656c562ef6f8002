"""DPO: three steps equal an independent torch implementation; pairs are read, packed and refused as
documented.
"""

import dataclasses

import jax
import numpy as np
import pytest

from amuro_jax.data.types import TrainExample
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.train.batches import Batches
from amuro_jax.train.compute import Compute
from amuro_jax.train.fine_tune import fine_tune
from amuro_jax.train.lora import Lora
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.preference import Pair, Preference, with_reference
from amuro_jax.train.step import make_step
from tests.train import torch_olmo
from tests.train.tiny import MODEL, RECIPE, RUN

FORMS = [
    Preference(beta=0.3),
    Preference(beta=2.0, length_normalised=True),
    Preference(beta=0.3, label_smoothing=0.2),
]


def pairs(count=24, seed=0):
    """A prompt, and two answers of different lengths: the chosen one repeats the first token."""
    rng, made = np.random.default_rng(seed), []
    for row in range(count):
        prompt = rng.integers(3, 64, rng.integers(4, 12))
        answers = [
            np.repeat(prompt[0], rng.integers(1, 4)),
            rng.integers(3, 64, rng.integers(4, 7)),
        ]
        both = [np.concatenate([prompt, answer]).astype(np.int32) for answer in answers]
        made.append(Pair(*(TrainExample(t, np.arange(len(t)) >= len(prompt), row) for t in both)))
    return made


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, 0)


@pytest.fixture(scope="module")
def ready(params):
    return with_reference(pairs(), params, MODEL)


def torch_logprob(torch, model, example):
    tokens = torch.tensor(example.tokens).long()
    logprobs = model(tokens[None]).logits[0].log_softmax(-1)
    return sum(logprobs[at - 1, tokens[at]] for at in np.flatnonzero(example.loss_mask))


def torch_loss(torch, model, reference, pair, form):
    """The loss as the papers write it, one sequence at a time."""
    gains = []
    for example in (pair.chosen, pair.rejected):
        with torch.no_grad():
            before = torch_logprob(torch, reference, example)
        gain = torch_logprob(torch, model, example) - before
        gains.append(gain / example.loss_mask.sum() if form.length_normalised else gain)
    margin = form.beta * (gains[0] - gains[1])
    right, wrong = (torch.nn.functional.logsigmoid(sign * margin) for sign in (1, -1))
    return -(1 - form.label_smoothing) * right - form.label_smoothing * wrong


@pytest.mark.torch
@pytest.mark.parametrize("form", FORMS, ids=["sigmoid", "normalised", "smoothed"])
def test_three_steps_equal_torch(params, ready, form):
    torch = pytest.importorskip("torch")
    model, reference = torch_olmo.model_of(params), torch_olmo.model_of(params)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    step = make_step(MODEL, Optimizer(clip_norm=1.0), objective=form)
    state, batches = step.init(params), Batches(ready, 8, 1, 0, 1, form.collator(ready))
    for number in range(3):
        state, metrics = step(state, batches.load(number).arrays, 1e-2)
        chosen = [ready[row] for row in batches.rows(number)]
        losses = [torch_loss(torch, model, reference, pair, form) for pair in chosen]
        loss = sum(losses) / len(losses)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert float(metrics["loss"]) == pytest.approx(loss.item(), abs=1e-4)
    theirs = flatten(torch_olmo.params_of(model))
    for name, leaf in flatten(state.params).items():
        np.testing.assert_allclose(leaf, theirs[name], atol=1e-4, rtol=0, err_msg=name)


def test_the_first_loss_is_that_of_no_preference(params, ready):
    step = make_step(MODEL, Optimizer(), objective=FORMS[0])
    batch = FORMS[0].collator(ready)(ready[:5], 8).arrays()
    _, metrics = step(step.init(params), batch, 0.0)
    assert float(metrics["loss"]) == pytest.approx(np.log(2), abs=1e-5)
    assert float(metrics["weight"]) == 5


@pytest.mark.parametrize("trainable", [None, Lora(4, 8.0)], ids=["all", "lora"])
def test_preferences_are_learned_in_micro_batches_too(params, ready, trainable):
    recipe = dataclasses.replace(RECIPE, epochs=6, learning_rate=1e-2)
    given = {"objective": FORMS[0]} | ({"trainable": trainable} if trainable else {})
    whole = fine_tune(params, MODEL, ready, recipe, RUN, **given)
    run = dataclasses.replace(RUN, micro_batch_size=2)
    parts = fine_tune(params, MODEL, ready, recipe, run, **given)
    assert whole.loss < np.log(2) - 0.1 and parts.loss == pytest.approx(whole.loss, abs=1e-3)


def test_the_reference_is_the_loss_of_each_answer_alone(params, ready):
    from amuro_jax.train.batches import pad_batch

    step = make_step(MODEL, Optimizer())
    for pair in ready[:3]:
        for example, logprob in zip((pair.chosen, pair.rejected), pair.reference, strict=True):
            loss, _ = step._sums(params, pad_batch([example], 1, 8).arrays())
            assert logprob == pytest.approx(-float(loss), abs=1e-4)


def test_long_answers_are_chunked_to_the_same_numbers(params):
    from amuro_jax.train import loss, preference

    some = pairs(4)
    few = jax.tree.map(np.asarray, preference.PairCollator(128)(some, 4).arrays())
    many = jax.tree.map(np.asarray, preference.PairCollator(256)(some, 4).arrays())
    one, other = (
        preference._answer_logprobs(params, batch, config=MODEL, compute=Compute())
        for batch in (few, many)
    )
    assert loss.CHUNK == 128
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_pairs_that_teach_nothing_are_refused(params, ready):
    pair = ready[3]
    same = dataclasses.replace(pair, rejected=pair.chosen)
    empty = dataclasses.replace(
        pair, rejected=dataclasses.replace(pair.rejected, loss_mask=pair.rejected.loss_mask & False)
    )
    for bad, message in (
        ([same], "(?s)answer are the same.*row 3"),
        ([empty], "(?s)an answer is empty.*row 3"),
        (pairs(2), "no log-probabilities of the reference"),
        ([], "no pairs"),
    ):
        with pytest.raises(DataError, match=message):
            fine_tune(params, MODEL, bad, RECIPE, objective=FORMS[0])
    with pytest.raises(ConfigError, match="pairs are not packed"):
        run = dataclasses.replace(RUN, packing=True)
        fine_tune(params, MODEL, ready, RECIPE, run, objective=FORMS[0])
    with pytest.raises(ConfigError, match="label_smoothing"):
        Preference(label_smoothing=0.5)
