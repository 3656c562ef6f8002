"""Configurations refuse invalid fields, and every file under configs/ loads."""

import importlib.util
import math
from pathlib import Path

import pytest

from amuro_jax.config import (
    EvalSet,
    FineTune,
    LabConfig,
    Method,
    Recipe,
    ScoreConfig,
    Scoring,
    StudyConfig,
    TrainConfig,
    TrainRun,
    checked,
    from_dict,
    override,
    to_dict,
    validate_score,
    validate_train,
)
from amuro_jax.errors import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").rglob("*.py"))


@pytest.mark.parametrize(
    "changes,where",
    [
        ({"checkpoint": ""}, "config.checkpoint"),
        ({"workdir": ""}, "config.workdir"),
        ({"recipe": Recipe()}, "config.recipe.task"),
        ({"recipe": Recipe(task="a", epochs=0)}, "config.recipe.epochs"),
        ({"recipe": Recipe(task="a", warmup_fraction=1.5)}, "config.recipe.warmup_fraction"),
        ({"recipe": Recipe(task="a", learning_rate=math.inf)}, "config.recipe.learning_rate"),
        ({"recipe": Recipe(task="a", adam_b2=1.0)}, "config.recipe.adam_b2"),
        ({"recipe": Recipe(task="a", weight_decay=math.nan)}, "config.recipe.weight_decay"),
        ({"recipe": Recipe(task="a", max_length=-1)}, "config.recipe.max_length"),
        ({"recipe": Recipe(task="a", clip_norm=0.0)}, "config.recipe.clip_norm"),
        ({"recipe": Recipe(task="a", seed=-1)}, "config.recipe.seed"),
        ({"recipe": Recipe(task="a", data_seed=2**32)}, "config.recipe.data_seed"),
        ({"run": TrainRun(micro_batch_size=3)}, "config.run.micro_batch_size"),
        ({"run": TrainRun(log_every=0)}, "config.run.log_every"),
        ({"run": TrainRun(profile="3:2")}, "config.run.profile"),
        ({"run": TrainRun(profile="all")}, "config.run.profile"),
        ({"run": TrainRun(keep_best="bleu")}, "config.run.keep_best"),
        ({"run": TrainRun(keep_best="held_out_loss")}, "config.run.keep_best"),
    ],
    ids=str,
)
def test_bad_training_fields_are_named(changes, where):
    good = {"checkpoint": "a", "workdir": "c", "recipe": Recipe(task="a")}
    validate_train(TrainConfig(**good))
    with pytest.raises(ConfigError) as caught:
        validate_train(TrainConfig(**{**good, **changes}))
    assert caught.value.where == where


@pytest.mark.parametrize(
    "changes,where",
    [
        ({"tasks": ()}, "config.tasks"),
        ({"shots": (-1,)}, "config.shots"),
        ({"scoring": Scoring(rows=0)}, "config.scoring.rows"),
    ],
    ids=str,
)
def test_bad_scoring_fields_are_named(changes, where):
    good = {"checkpoint": "a", "workdir": "c", "tasks": ("b",)}
    validate_score(ScoreConfig(**good))
    with pytest.raises(ConfigError) as caught:
        validate_score(ScoreConfig(**{**good, **changes}))
    assert caught.value.where == where


def test_dictionaries_round_trip_and_unknown_fields_show_the_known_ones():
    config = StudyConfig(
        fine_tunes=(FineTune("x", epochs=2),), evals=(EvalSet("x", shots=(1,)),), shots=(0, 4)
    )
    assert from_dict(StudyConfig, to_dict(config)) == config == checked(config)
    with pytest.raises(ConfigError, match="(?s)unknown field 'epoch'.*did you mean 'epochs'"):
        from_dict(StudyConfig, {"recipe": {"epoch": 3}})


@pytest.mark.parametrize(
    "config,where",
    [
        (StudyConfig(formats="default,io"), "config.formats"),
        (StudyConfig(recipe=Recipe(epochs="3")), "config.recipe.epochs"),
        (StudyConfig(recipe=Recipe(epochs=True)), "config.recipe.epochs"),
        (StudyConfig(scoring=Scoring(method="guess")), "config.scoring.method"),
        (StudyConfig(evals=(EvalSet("a", "indomain"),)), "config.evals[0].role"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_of_another_type_are_refused_by_field(config, where):
    with pytest.raises(ConfigError) as caught:
        checked(config)
    assert caught.value.where == where


def test_overrides_are_typed():
    config = StudyConfig(fine_tunes=(FineTune("a"), FineTune("b")))
    assert override(config, "recipe.learning_rate", "1e-5").recipe.learning_rate == 1e-5
    assert override(config, "shots", "0,4").shots == (0, 4)
    assert override(config, "formats", "io, default").formats == ("io", "default")
    assert override(config, "recipe.rows", "none").recipe.rows is None
    assert override(config, "scoring.method", "free").scoring.method is Method.FREE
    assert override(config, "keep_models", "true").keep_models is True
    assert override(config, "fine_tunes", "b").fine_tunes == (FineTune("b"),)
    assert override(config, "fine_tunes", "").fine_tunes == ()


@pytest.mark.parametrize(
    "path,text,says",
    [
        ("recipe.learnin_rate", "1", "did you mean 'learning_rate'"),
        ("recipe.epochs", "many", "expected int, got 'many'"),
        ("scoring.method", "tokenprob", "did you mean 'token_prob'"),
        ("recipe", "1", "is a block of fields"),
        ("name.first", "1", "has no fields"),
        ("fine_tunes", "z", "no entry of the file"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(path, text, says):
    with pytest.raises(ConfigError, match=says):
        override(StudyConfig(), path, text)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_config_file_loads_and_documents_its_command(path):
    spec = importlib.util.spec_from_file_location("config_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if path.name.startswith("_") or not hasattr(module, "get_config"):
        return
    assert isinstance(module.get_config(), TrainConfig | ScoreConfig | StudyConfig | LabConfig)
    assert "amuro " in module.__doc__, "the docstring is the command that runs it"
