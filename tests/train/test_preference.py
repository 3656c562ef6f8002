"""DPO: three steps equal an independent torch implementation; pairs are read, packed and refused as
documented.
"""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from amuro_jax import checkpoint
from amuro_jax.config import Loss, Recipe, ScoreRun, TrainConfig
from amuro_jax.data.types import Pair, TrainExample
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.evals.reference import with_reference
from amuro_jax.evals.run import Evaluator
from amuro_jax.logs import read_metrics
from amuro_jax.models.lora import Lora
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.opened import open_checkpoint
from amuro_jax.records import ModelRef
from amuro_jax.scoring.scorer import Scorer
from amuro_jax.train import run
from amuro_jax.train.batches import Batches
from amuro_jax.train.compute import Compute
from amuro_jax.train.fine_tune import fine_tune, objective_of
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.preference import Preference
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
    return with_reference(Scorer(MODEL), params, pairs())


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
def test_a_recipe_says_how_pairs_are_judged():
    recipe = Recipe(task="t", loss=Loss.DPO)
    assert objective_of(recipe) == Preference(0.1, 0.0, False)
    own = {"dpo_beta": 2.0, "dpo_label_smoothing": 0.2, "dpo_length_normalised": True}
    made = objective_of(dataclasses.replace(recipe, **own))
    assert made == Preference(beta=2.0, label_smoothing=0.2, length_normalised=True)


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


@pytest.mark.slow  # two trainings of eighteen steps: fifteen processor seconds
def test_preferences_are_learned_in_micro_batches_too(params, ready):
    recipe = dataclasses.replace(RECIPE, epochs=6, learning_rate=1e-2)
    given = {"objective": FORMS[0], "trainable": Lora(4, 8.0)}
    whole = fine_tune(params, MODEL, ready, recipe, RUN, **given)
    run = dataclasses.replace(RUN, micro_batch_size=2)
    parts = fine_tune(params, MODEL, ready, recipe, run, **given)
    assert whole.loss < np.log(2) - 0.1 and parts.loss == pytest.approx(whole.loss, abs=1e-3)


def test_the_reference_is_the_loss_of_each_answer_alone(params, ready):
    from amuro_jax.train.batches import pad_batch

    sums = jax.jit(make_step(MODEL, Optimizer())._sums)
    for pair in ready[:3]:
        for example, logprob in zip((pair.chosen, pair.rejected), pair.reference, strict=True):
            loss, _ = sums(params, pad_batch([example], 1, 8).arrays())
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
    with pytest.raises(ConfigError, match="pairs of answers are not packed"):
        run = dataclasses.replace(RUN, packing=True)
        fine_tune(params, MODEL, ready, RECIPE, run, objective=FORMS[0])
    with pytest.raises(ConfigError, match="label_smoothing"):
        Preference(label_smoothing=0.5)


# From here on through the verb: texts in a file, the command's own path to the parameters.

YAML = """
name: answers
kind: preference
folder: answers
fields: {prompt: question}
chosen: better
rejected: worse
templates: {default: "{prompt} :"}
"""


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    """The tiny model as a checkpoint, with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = tmp_path_factory.mktemp("model")
    # 1 is torch's padding, which it gives no gradient
    words = {"<unk>": 0, "<pad>": 1, "<|endoftext|>": 2, ":": 3}
    words |= {f"w{i}": i for i in range(4, 64)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (made / "t").mkdir()
    tokenizer.save(str(made / "t" / "tokenizer.json"))
    (made / "t" / "config.json").write_text('{"eos_token_id": 2}')
    checkpoint.save_model(made / "m", params, MODEL, made / "t", {"form": "test"})
    return made / "m"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 rows of words, and the task file."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(5)

    def words(low, high):
        return " ".join(f"w{i}" for i in rng.integers(4, 64, rng.integers(low, high)))

    rows = [
        {"question": words(4, 12), "better": words(1, 4), "worse": words(4, 7)} for _ in range(24)
    ]
    write_rows(root, rows)
    return root


def write_rows(root, rows):
    (root / "answers.yaml").write_text(YAML)
    (root / "answers").mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "answers/train.jsonl").write_text(text)


def config_of(folder, data, workdir, **recipe):
    given = {"batch_size": 8, "epochs": 1, "learning_rate": 1e-2, "rows": None, "loss": "dpo"}
    made = Recipe(task=str(data / "answers.yaml"), dtype="float32", **(given | recipe))
    return TrainConfig(str(folder), str(workdir), str(data), made, RUN)


def train(config):
    return run.run(config, Evaluator(ScoreRun(mesh=config.run.mesh)).pair_logprobs)


def own_pairs(data):
    """The file's rows as tokens, without this package: a prompt, a colon, an answer, eos."""
    made = []
    for row, line in enumerate((data / "answers/train.jsonl").read_text().splitlines()):
        values, both = json.loads(line), []
        prompt = [int(word[1:]) for word in values["question"].split()] + [3]
        for name in ("better", "worse"):
            answer = [int(word[1:]) for word in values[name].split()] + [2]
            tokens = np.array(prompt + answer, np.int32)
            both.append(TrainExample(tokens, np.arange(len(tokens)) >= len(prompt), row))
        made.append(Pair(*both))
    return made


@pytest.mark.torch
def test_three_steps_of_the_verb_equal_torch(params, folder, data, tmp_path):
    torch = pytest.importorskip("torch")
    form = Preference(beta=2.0, label_smoothing=0.2, length_normalised=True)
    fields = {f"dpo_{name}": value for name, value in dataclasses.asdict(form).items()}
    out = train(config_of(folder, data, tmp_path, **fields))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    model, reference = torch_olmo.model_of(params), torch_olmo.model_of(params)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    order = np.random.default_rng(42).permutation(24)  # of the subsample, then of the epoch
    order = order[np.random.default_rng([42, 0]).permutation(24)]
    all_pairs = own_pairs(data)
    for number, row in enumerate(rows):
        for group in optimizer.param_groups:
            group["lr"] = row["learning_rate"]
        chosen = [all_pairs[i] for i in order[8 * number : 8 * number + 8]]
        losses = [torch_loss(torch, model, reference, pair, form) for pair in chosen]
        loss = sum(losses) / len(losses)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert row["loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert [row["learning_rate"] for row in rows] == pytest.approx([0, 1e-2, 5e-3])
    theirs = flatten(torch_olmo.params_of(model))
    for name, leaf in flatten(checkpoint.load_params(out)).items():
        np.testing.assert_allclose(leaf, theirs[name], atol=1e-4, rtol=0, err_msg=name)


def test_the_reference_is_scored_once_and_stored(folder, data, tmp_path, monkeypatch):
    config = config_of(folder, data, tmp_path / "a", epochs=2)
    calls, evaluator = [], Evaluator(ScoreRun(mesh=config.run.mesh))

    def scored(*arguments):
        calls.append(arguments[0].identity)
        return evaluator.pair_logprobs(*arguments)

    out = run.run(config, scored)
    (stored,) = (tmp_path / "a/references").iterdir()
    values = json.loads(stored.read_text())
    assert len(values["logprobs"]) == 24 and values["model"] == checkpoint.model_hash(folder)
    checkpoint.remove(out)
    run.run(config, scored)
    assert len(calls) == 1, "a run that goes on reads them"
    values["logprobs"][3][0] += 1.0  # not what was stored
    stored.write_text(json.dumps(values))
    checkpoint.remove(out)
    run.run(config, scored)
    assert len(calls) == 2 and json.loads(stored.read_text())["logprobs"] != values["logprobs"]
    run.run(dataclasses.replace(config, workdir=str(tmp_path / "b")), scored)
    assert len(calls) == 3


def test_the_key_tells_losses_apart(folder, data, tmp_path):
    keys = {
        run.TrainJob(
            open_checkpoint(folder),
            config_of(folder, data, tmp_path, **fields).recipe,
            ModelRef("", "x"),
            "",
            "",
            str(data),
        ).key()
        for fields in (
            {"loss": "sft"},
            {"loss": None},
            {},
            {"dpo_beta": 0.2},
            {"dpo_label_smoothing": 0.1},
            {"dpo_length_normalised": True},
        )
    }
    assert len(keys) == 5, "sft is what a recipe without a loss does"


def test_sft_on_pairs_learns_the_chosen_answers(folder, data, tmp_path):
    train(config_of(folder, data, tmp_path, loss=None))
    (first, *_) = read_metrics(tmp_path / "metrics.jsonl")
    assert first["loss"] == pytest.approx(np.log(64), abs=0.5) and "margin" not in first


@pytest.mark.parametrize(
    "change,message",
    [
        ({"better": "w5 w6", "worse": " w5 w6 "}, "1 of 24 pairs have two equal answers: rows 7"),
        ({"worse": "  "}, "1 of 24 pairs have an empty answer: rows 7"),
        ({"worse": 3}, "must both be texts.*train.jsonl:8"),
    ],
)
def test_bad_pairs_are_named_and_nothing_is_written(folder, data, tmp_path, change, message):
    lines = (data / "answers/train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[7] |= change
    write_rows(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        train(config_of(folder, tmp_path, tmp_path / "w"))
    assert re.search(message, str(caught.value), re.DOTALL), caught.value
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "recipe,run_fields,message",
    [
        ({"loss": None, "dpo_beta": 0.2}, {}, "(?s)dpo_beta has no effect.*set loss=dpo"),
        ({"dpo_beta": 0.0}, {}, "dpo_beta must be positive, got 0.0"),
        ({"dpo_label_smoothing": 0.5}, {}, r"dpo_label_smoothing must be in \[0, 0.5\), got 0.5"),
        ({}, {"packing": True}, "pairs of answers are not packed"),
    ],
)
def test_bad_settings_are_refused(folder, data, tmp_path, recipe, run_fields, message):
    config = config_of(folder, data, tmp_path / "w", **recipe)
    config = dataclasses.replace(config, run=dataclasses.replace(RUN, **run_fields))
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert not (tmp_path / "w").exists()


def test_a_set_without_pairs_is_refused(folder, tmp_path):
    from tests.data.worlds import nli_rows

    recipe = Recipe(task="lab_nli", loss="dpo")
    (tmp_path / "lab_nli").mkdir()
    (tmp_path / "lab_nli/train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in nli_rows(4))
    )
    config = TrainConfig(str(folder), str(tmp_path / "w"), str(tmp_path), recipe, RUN)
    with pytest.raises(DataError, match="(?s)kind classification, dpo needs pairs.*loss=sft"):
        train(config)
    assert not (tmp_path / "w").exists()
