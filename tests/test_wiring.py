"""Each field of a run's configuration reaches what it is for (docs/wiring.md).

The consumers are recorded where a field is handed over: a field that is dropped, swapped or
replaced by a constant on the way fails here.
"""

import dataclasses

import numpy as np
import pytest

from amuro_jax import compiles
from amuro_jax.config import (
    AttentionName,
    Dtype,
    Loss,
    Method,
    ProtocolName,
    Recipe,
    Remat,
    ScoreRun,
    Scoring,
    TrainRun,
)
from amuro_jax.data import protocols
from amuro_jax.evals import run as score_run
from amuro_jax.models.parameters import init_params
from amuro_jax.opened import open_checkpoint
from amuro_jax.records import ModelRef
from amuro_jax.study import executor, grid, plan
from amuro_jax.study.scores import Model
from amuro_jax.train import fine_tune as fine_tuning
from amuro_jax.train import run as train_run
from amuro_jax.train.meters import Logging
from tests.study.conftest import series, study_of  # noqa: F401
from tests.train.tiny import MODEL, examples

RECIPE = Recipe(
    task="lab_nli",
    format="io",
    protocol=ProtocolName.PAPER,
    quirks=("-no_fitting",),
    rows=11,
    data_seed=7,
    epochs=2,
    batch_size=4,
    learning_rate=3e-3,
    warmup_fraction=0.25,
    weight_decay=0.125,
    adam_b1=0.5,
    adam_b2=0.75,
    adam_eps=1e-5,
    clip_norm=0.375,
    max_length=200,
    seed=9,
    dtype=Dtype.FLOAT32,
)
RUN = TrainRun(
    mesh="fsdp:8",
    micro_batch_size=2,
    remat=Remat.FULL,
    save_every=3,
    keep_states=4,
    keep_best="accuracy",
    step_seconds=900.0,
    log_every=5,
    wandb="words",
    profile="2:3",
)
SCORING = Scoring(
    protocol=ProtocolName.PAPER,
    quirks=("-sub_token_candidates",),
    method=Method.CONSTRAINED,
    rows=5,
    shot_seed=3,
    max_new_tokens=7,
    bootstrap=41,
    bootstrap_seed=8,
    dtype=Dtype.BFLOAT16,
)


class Recorded(Exception):
    """Ends a call once its arguments are known."""


def record(monkeypatch, module, name, result=Recorded):
    """Replaces a function by one that keeps its arguments."""
    calls = []

    def fake(*arguments, **named):
        calls.append((arguments, named))
        if result is Recorded:
            raise Recorded
        return result

    monkeypatch.setattr(module, name, fake)
    return calls


@pytest.fixture
def opened(series):  # noqa: F811
    return open_checkpoint(series.checkpoints / "step10-tokens10K")


@pytest.fixture
def train_job(opened, series, tmp_path):  # noqa: F811
    model = ModelRef("s", "step10", tuned_on="lab_nli")
    folders = (str(tmp_path / "work"), str(tmp_path / "out"))
    return train_run.TrainJob(opened, RECIPE, model, *folders, str(series.data), RUN)


def test_what_is_encoded(train_job, monkeypatch, series):  # noqa: F811
    calls = record(monkeypatch, train_run.encoding, "encode_training_set")
    with pytest.raises(Recorded):
        train_run.TrainingData().of(train_job)
    ((task,), named), protocol = calls[0], protocols.resolve("paper", ("-no_fitting",))
    assert task.name == "lab_nli" and named.pop("tokenizer") is train_job.checkpoint.tokenizer
    assert named == {
        "format": "io",
        "protocol": protocol,
        "max_length": 200,
        "rows": 11,
        "seed": 7,
        "data_root": str(series.data),
        "chat_template": False,
        "pairs": False,
    }
    own = dataclasses.replace(RECIPE, chat_template=True, loss=Loss.DPO)
    with pytest.raises(Recorded):
        train_run.TrainingData().of(dataclasses.replace(train_job, recipe=own))
    assert (calls[1][1]["chat_template"], calls[1][1]["pairs"]) == (True, True)


@pytest.mark.parametrize("protocol,on", [(ProtocolName.PAPER, True), (ProtocolName.STRICT, False)])
def test_what_a_training_run_hands_over(train_job, monkeypatch, protocol, on):
    job = dataclasses.replace(
        train_job, recipe=dataclasses.replace(RECIPE, protocol=protocol, quirks=())
    )
    calls = record(monkeypatch, train_run, "fine_tune")
    with pytest.raises(Recorded):
        train_run.train(job, description="words")
    (params, config, rows, recipe, run), named = calls[0]
    assert config == job.checkpoint.config and recipe == job.recipe and run == RUN and rows
    assert params["embed"]["embedding"].sharding.mesh.shape["fsdp"] == 8
    assert named["weigh_examples"] is on and named["warmup_rounded_down"] is on
    assert named["mesh"].shape["fsdp"] == 8 and named["workdir"] == job.workdir
    assert named["description"] == "words"


def test_what_a_group_of_trainings_hands_over(train_job, monkeypatch):
    jobs = [
        dataclasses.replace(
            train_job,
            recipe=dataclasses.replace(RECIPE, learning_rate=rate, held_out_rows=2, rows=10),
        )
        for rate in (1e-3, 1e-4)
    ]
    calls = record(monkeypatch, train_run, "fine_tune_stacked")
    params = [train_job.checkpoint.load_params() for _ in jobs]
    with pytest.raises(Recorded):
        train_run.train_stacked(jobs, params, train_run.TrainingData(), "words")
    (members, config, rows, recipe, run), named = calls[0]
    assert named["learning_rates"] == {jobs[0].key(): 1e-3, jobs[1].key(): 1e-4}
    assert set(members) == set(named["learning_rates"]) and len(rows) == 8
    assert (config, recipe, run) == (train_job.checkpoint.config, jobs[0].recipe, RUN)
    assert named["description"] == "words" and named["weigh_examples"] is True


def test_what_a_fine_tuning_does_with_its_recipe(monkeypatch, tmp_path):
    calls = record(monkeypatch, fine_tuning, "run_training")
    with pytest.raises(Recorded):
        fine_tuning.fine_tune(
            init_params(MODEL, 0),
            MODEL,
            examples(16),
            RECIPE,
            RUN,
            workdir=tmp_path,
            weigh_examples=True,
        )
    (step, batches, rate, _), named = calls[0]
    optimizer = step.optimizer
    assert (optimizer.b1, optimizer.b2, optimizer.eps) == (0.5, 0.75, 1e-5)
    assert (optimizer.weight_decay, optimizer.clip_norm) == (0.125, 0.375)
    assert step.micro_batches == 2
    assert batches.batch_size == 4 and batches.total == 8 and batches.seed == 9
    assert batches.rows(0) != batches.rows(4), "each epoch has an order of its own"
    assert sorted(sum((batches.rows(n) for n in range(4)), [])) == list(range(16))
    # 8 steps, a quarter of them warm-up to the peak, then linear decay
    rates = [rate(number) for number in range(8)]
    assert rates[0] < rates[2] == pytest.approx(3e-3) and rates[7] < rates[4] < rates[2]
    arrays = batches.load(0).arrays
    weights = np.asarray(arrays["weight"])
    assert weights.sum() == pytest.approx(4), "each example weighs one"
    saving = named["save"]
    assert (saving.every, saving.keep, saving.step_seconds) == (3, 4, 900.0)
    assert (saving.best, saving.value, saving.at) == ("accuracy", None, {8})
    assert named["log"] == Logging(5, "words", "2:3") and named["seed"] == 9
    assert named["workdir"] == tmp_path


def test_dtype_and_remat_are_in_the_compiled_step():
    texts = {}
    for dtype in Dtype:
        for remat in set(Remat) - {Remat.OFFLOAD, Remat.AUTO}:  # no CPU; not a policy
            recipe = dataclasses.replace(RECIPE, dtype=dtype)
            run = TrainRun(remat=remat)
            step = fine_tuning.step_of(recipe, run, MODEL)
            texts[dtype, remat] = step
    assert len({id(step) for step in texts.values()}) == len(texts)
    half = dataclasses.replace(RECIPE, moment_dtype=Dtype.BFLOAT16)
    assert fine_tuning.step_of(half, TrainRun(), MODEL).optimizer.moment_dtype == "bfloat16"


def score_job(opened, series):  # noqa: F811
    return score_run.ScoreJob(
        opened,
        "identity",
        ModelRef("s", "step10"),
        "lab_nli",
        "io",
        3,
        SCORING,
        str(series.data),
    )


def test_what_is_asked_of_a_set(opened, series, monkeypatch):  # noqa: F811
    queries = record(monkeypatch, score_run.queries, "build_queries", result=["query"])
    prepared = record(monkeypatch, score_run, "prepare", result="prepared")
    assert score_run.Evaluator().prepared(score_job(opened, series)) == "prepared"
    ((task,), named) = queries[0]
    assert task.name == "lab_nli" and named.pop("tokenizer") is opened.tokenizer
    assert named == {
        "format": "io",
        "shots": 3,
        "protocol": protocols.resolve("paper", ("-sub_token_candidates",)),
        "data_root": str(series.data),
        "max_length": opened.config.max_length,
        "max_new_tokens": 7,
        "rows": 5,
        "shot_seed": 3,
    }
    (arguments, named) = prepared[0]
    assert arguments[0] == ["query"] and named["method"] == Method.CONSTRAINED
    assert named["max_new_tokens"] == 7 and named["candidates"] == "labels"


def test_how_a_scorer_is_made(opened, monkeypatch):
    made = record(monkeypatch, score_run, "Scorer", result="scorer")
    run = ScoreRun(mesh="data:8", batch_tokens=77, attention=AttentionName.XLA)
    evaluator = score_run.Evaluator(run)
    assert evaluator.scorer(opened, SCORING) == "scorer"
    (config, mesh, dtype), named = made[0]
    assert config.max_length > opened.config.max_length, "paper lets prompts overflow"
    assert mesh.shape["data"] == 8 and dtype == Dtype.BFLOAT16
    assert named == {"batch_tokens": 77, "attention": "xla"}
    strict = dataclasses.replace(SCORING, protocol=ProtocolName.STRICT)
    evaluator.scorer(opened, strict)
    assert made[1][0][0] == opened.config


def test_what_a_score_hands_over(opened, series, monkeypatch):  # noqa: F811
    monkeypatch.setattr(score_run, "Scorer", lambda *_, **__: "scorer")
    monkeypatch.setattr(score_run, "prepare", lambda *_, **__: "prepared")
    calls = record(monkeypatch, score_run, "evaluate")
    with pytest.raises(Recorded):
        score_run.Evaluator().score(score_job(opened, series), {"params": 1})
    arguments, named = calls[0]
    assert arguments == ("scorer", {"params": 1}, opened.tokenizer, "prepared")
    assert named["bootstrap"] == 41 and named["seed"] == 8 and named["statistic"] == "midpoint"


def test_every_field_is_looked_at():
    """A new field of these blocks needs a line in a test above."""
    looked_at = {
        Recipe: RECIPE,
        Scoring: SCORING,
        TrainRun: RUN,
        ScoreRun: ScoreRun("data:8", 77, AttentionName.XLA, 9.0),
    }
    for kind, value in looked_at.items():
        for field in dataclasses.fields(kind):
            if field.default is None and getattr(value, field.name) is None:
                continue
            if (kind, field.name) == (TrainRun, "packing"):
                continue  # tests/train/test_batches.py
            if (kind, field.name) == (TrainRun, "stack"):
                continue  # tests/study/test_groups.py
            assert getattr(value, field.name) != field.default or field.name == "mesh", field.name


def test_a_study_hands_its_blocks_to_its_jobs(series, tmp_path):  # noqa: F811
    config = study_of(
        series, tmp_path / "study", scoring=SCORING, train_run=RUN, mixed_protocols=True
    )
    revisions = executor_revisions(config)
    made = executor.LocalExecutor(config, revisions, compiles.Watch(), None, None, print)
    job = next(one for one in made.jobs if one.kind == plan.JobKind.TRAIN)
    opened = open_checkpoint(job.checkpoint)
    training = made.trainings.job_of(opened, job)
    assert training.recipe == grid.recipe_of(config, config.fine_tunes[0])
    assert training.run == RUN and training.data_root == config.data_root
    assert training.workdir.startswith(config.workdir) and training.key() in training.out
    cell = made.jobs[-1].cells[-1]
    score = made.scores.job_of(Model(opened, "identity", None), cell)
    assert score.scoring == SCORING and score.data_root == config.data_root
    named = (score.task, score.format, score.shots, score.identity, score.model)
    assert named == (cell.task, cell.format, cell.shots, "identity", cell.model)


def executor_revisions(config):
    from amuro_jax.convert.revisions import list_revisions

    return list_revisions(config.suite, config.select)
