"""A series of two randomly initialised checkpoints with real (synthetic-world) data sets, for tests
that run the engine.
"""

import dataclasses
import itertools
import json
import types

import pytest

from amuro_jax import files
from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    LabConfig,
    LabModel,
    Recipe,
    Role,
    Scoring,
    StudyConfig,
)
from amuro_jax.lab import pretrain, publish, sets, tokenizer
from amuro_jax.lab.corpus import make_corpus
from amuro_jax.lab.world import make_world
from amuro_jax.models.parameters import init_params


@pytest.fixture(scope="session")
def series(tmp_path_factory):
    """Folder with data/, tokenizer/ and checkpoints/ of two models that have learned nothing."""
    out, world = tmp_path_factory.mktemp("series"), make_world(0, 8)
    for name, splits in sets.make_sets(world, 40, 12).items():
        for split, rows in splits.items():
            files.write_text(
                out / "data" / name / f"{split}.jsonl",
                "".join(json.dumps(row) + "\n" for row in rows),
            )
    trained = tokenizer.train_tokenizer(itertools.islice(make_corpus(world, 600), 600), 400)
    tokenizer.write_tokenizer(trained, out / "tokenizer", 512)
    small = LabConfig(
        model=LabModel(hidden_size=32, num_layers=1, num_heads=2, mlp_size=48, max_length=512)
    )
    config = pretrain.model_config(small, trained.get_vocab_size())
    for step in (1, 10):
        publish.publish(
            out, f"step{step}-tokens{step}K", init_params(config, step), config, {"step": step}
        )
    return types.SimpleNamespace(checkpoints=out / "checkpoints", data=out / "data")


@pytest.fixture
def tiny_study(series, tmp_path) -> StudyConfig:
    """Two checkpoints, one fine-tuning set, one multiple-choice set: 2 trainings and 12 scores."""
    return study_of(series, tmp_path / "study")


def study_of(series, workdir, **changes) -> StudyConfig:
    """The tiny study in a folder of its own."""
    made = StudyConfig(
        name="tiny",
        workdir=str(workdir),
        suite=str(series.checkpoints),
        data_root=str(series.data),
        formats=("default", "io"),
        shots=(1,),
        fine_tunes=(FineTune("lab_nli"),),
        evals=(
            EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
        ),
        recipe=Recipe(
            rows=16, epochs=2, batch_size=4, learning_rate=1e-2, dtype=Dtype.FLOAT32, max_length=256
        ),
        scoring=Scoring(rows=6, max_new_tokens=4, bootstrap=50),
    )
    return dataclasses.replace(made, **changes)
