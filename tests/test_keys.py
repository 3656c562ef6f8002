"""Keys change with what moves a number and with nothing else."""

import dataclasses
import os
import shutil

import pytest

from amuro_jax import keys
from amuro_jax.config import Dtype, Method, ProtocolName, Recipe, Scoring
from tests.study.conftest import series  # noqa: F401

SCORING = Scoring(rows=6, max_new_tokens=4, bootstrap=50)
RECIPE = Recipe(task="lab_nli", rows=16, epochs=2, batch_size=4, learning_rate=1e-2)


@pytest.fixture
def score_key(series):  # noqa: F811
    def key(scoring=SCORING, model="m", task="lab_nli", format="default", shots=1, tokenizer="t"):
        return keys.score_key(model, task, format, shots, scoring, tokenizer, str(series.data))

    return key


OTHER_SCORING = {
    "rows": 5,
    "protocol": ProtocolName.PAPER,
    "quirks": ("+no_stop",),
    "method": Method.FREE,
    "shot_seed": 1,
    "max_new_tokens": 5,
    "bootstrap": 51,
    "bootstrap_seed": 1,
    "dtype": Dtype.BFLOAT16,
}
OTHER_RECIPE = {
    "task": "lab_paraphrase",
    "format": "io",
    "protocol": ProtocolName.PAPER,
    "quirks": ("+no_fitting",),
    "rows": 15,
    "data_seed": 1,
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 1e-4,
    "warmup_fraction": 0.1,
    "weight_decay": 0.1,
    "adam_b1": 0.8,
    "adam_b2": 0.9,
    "adam_eps": 1e-6,
    "clip_norm": None,
    "max_length": 64,
    "seed": 1,
    "dtype": Dtype.FLOAT32,
}


def test_every_field_of_a_scoring_moves_the_key(score_key):
    made = {
        name: score_key(dataclasses.replace(SCORING, **{name: value}))
        for name, value in OTHER_SCORING.items()
    }
    assert made.keys() == {field.name for field in dataclasses.fields(Scoring)}
    assert len({score_key(), *made.values()}) == 1 + len(made)


def test_model_set_format_shots_and_tokenizer_move_the_key(score_key):
    others = [
        score_key(model="other"),
        score_key(task="lab_paraphrase"),
        score_key(format="io"),
        score_key(shots=2),
        score_key(tokenizer="other"),
    ]
    assert len({score_key(), *others}) == 6


def test_a_quirk_that_the_protocol_has_already_moves_nothing(score_key):
    paper = dataclasses.replace(SCORING, protocol=ProtocolName.PAPER)
    assert score_key(paper) == score_key(dataclasses.replace(paper, quirks=("+no_stop",)))


def test_every_field_of_a_recipe_moves_the_key(series):  # noqa: F811
    base = keys.train_key("m", RECIPE, "t", str(series.data))
    made = {}
    for name, value in OTHER_RECIPE.items():
        changed = dataclasses.replace(RECIPE, **{name: value})
        made[name] = keys.train_key("m", changed, "t", str(series.data))
    optional = {
        field.name for field in dataclasses.fields(Recipe) if field.default is None
    }  # unset, they are no part of the key
    assert made.keys() == {field.name for field in dataclasses.fields(Recipe)} - optional
    assert len({base, *made.values()}) == 1 + len(made)
    others = {
        keys.train_key("n", RECIPE, "t", str(series.data)),
        keys.train_key("m", RECIPE, "u", str(series.data)),
    }
    assert len({base, *others}) == 3


def test_keys_follow_the_data_and_not_its_place(series, tmp_path):  # noqa: F811
    shutil.copytree(series.data, tmp_path / "data")

    def key(root):
        return keys.score_key("m", "lab_nli", "default", 1, SCORING, "t", str(root))

    before = key(tmp_path / "data")
    assert before == key(series.data)  # the same bytes elsewhere
    path = tmp_path / "data/lab_nli/test.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    os.utime(path, (1, 1))
    assert key(tmp_path / "data") != before


def test_keys_follow_what_a_task_file_says(series, tmp_path, monkeypatch):  # noqa: F811
    from amuro_jax.data import registry

    text = (
        "name: mine\nkind: classification\nfolder: lab_nli\n"
        "fields: {p: premise, h: hypothesis}\ngold: label\n"
        "labels: [entailment, neutral, contradiction]\ntest: test\ntemplates: {default: '%s'}\n"
    )
    made, root = [], str(series.data)
    for name, template in (
        ("mine", "{p} {h} Answer:"),
        ("mine", "{p} so {h} Answer:"),
        ("moved", "{p} so {h} Answer:"),
    ):
        monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
        registry.TASKS.pop("mine", None)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text % template)
        recipe = dataclasses.replace(RECIPE, task=str(path))
        made.append(
            (
                keys.score_key("m", str(path), "default", 1, SCORING, "t", root),
                keys.train_key("m", recipe, "t", root),
            )
        )
    assert made[0][0] != made[1][0] and made[0][1] != made[1][1]
    assert made[1] == made[2], "a file's name and place are no part of the key"
