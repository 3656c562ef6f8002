"""Configurations refuse what cannot be meant, and every file under configs/ loads."""

import importlib.util
from pathlib import Path

import pytest

from amuro_jax.config import (
    LabConfig,
    ScoreConfig,
    StudyConfig,
    TrainConfig,
    from_dict,
    split_names,
    to_dict,
    validate_score,
    validate_train,
)
from amuro_jax.errors import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").rglob("*.py"))


def train(**fields):
    return TrainConfig(**{"checkpoint": "a", "task": "b", "workdir": "c", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"checkpoint": ""},
        {"protocol": "loose"},
        {"dtype": "int8"},
        {"epochs": 0},
        {"batch_size": 8, "micro_batch_size": 3},
        {"warmup_fraction": 1.5},
        {"remat": "some"},
        {"max_length": -1},
    ],
    ids=str,
)
def test_bad_training_fields_are_named(fields):
    with pytest.raises(ConfigError, match=f"config.{list(fields)[-1]}"):
        validate_train(train(**fields))


def test_good_configs_pass():
    validate_train(train(batch_size=8, micro_batch_size=4))
    validate_score(ScoreConfig(checkpoint="a", tasks="b", workdir="c"))


@pytest.mark.parametrize(
    "fields", [{"method": "guess"}, {"attention": "fast"}, {"shots": "4,x"}, {"tasks": ""}], ids=str
)
def test_bad_scoring_fields_are_named(fields):
    with pytest.raises(ConfigError, match=f"config.{list(fields)[0]}"):
        validate_score(ScoreConfig(**{"checkpoint": "a", "tasks": "b", "workdir": "c", **fields}))


def test_dictionaries_round_trip_and_unknown_fields_show_the_known_ones():
    config = from_dict(
        StudyConfig, {"fine_tunes": [{"task": "x", "epochs": 2}], "train": {"learning_rate": 1}}
    )
    assert config.fine_tunes[0].epochs == 2 and config.train.learning_rate == 1.0
    assert from_dict(StudyConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="(?s)unknown field 'epoch'.*known fields: .*epochs"):
        from_dict(StudyConfig, {"train": {"epoch": 3}})
    with pytest.raises(ConfigError, match="expected int"):
        from_dict(TrainConfig, {"epochs": "3"})


def test_split_names():
    assert split_names(" a, b,,c ") == ("a", "b", "c") and split_names("") == ()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_config_file_loads_and_documents_its_command(path):
    spec = importlib.util.spec_from_file_location("config_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if path.name.startswith("_") or not hasattr(module, "get_config"):
        return
    assert isinstance(module.get_config(), TrainConfig | ScoreConfig | StudyConfig | LabConfig)
    assert "amuro " in module.__doc__, "the docstring is the command that runs it"
