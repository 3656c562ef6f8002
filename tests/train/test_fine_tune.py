"""Runs: learn, resume exactly, survive kill -9, refuse what cannot be trained on."""

import dataclasses
import json
import os

import numpy as np
import pytest

from amuro_jax.data.types import TrainExample
from amuro_jax.errors import DataError
from amuro_jax.logs import read_metrics
from amuro_jax.models.parameters import init_params
from amuro_jax.train.fine_tune import fine_tune
from tests.train.tiny import MODEL, RECIPE, RUN, examples


def test_the_loss_falls_and_metrics_are_written(tmp_path):
    done = fine_tune(
        init_params(MODEL, 0),
        MODEL,
        examples(64),
        dataclasses.replace(RECIPE, epochs=12),
        RUN,
        workdir=tmp_path,
    )
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, done.steps + 1)) and done.steps == 96
    assert (
        rows[-1]["loss"] < rows[0]["loss"] - 1
        and {"learning_rate", "grad_norm", "tokens_per_second", "accuracy"} <= rows[0].keys()
    )
    assert any(name.startswith("events") for name in os.listdir(tmp_path / "tensorboard"))


def test_paper_loss_weighs_examples_and_strict_weighs_tokens(tmp_path):
    """Two rows, one with three predicted tokens and one with one: the first step's losses are the
    two means.
    """
    long = TrainExample(np.array([5, 6, 7, 8], np.int32), np.array([0, 1, 1, 1], bool), 0)
    short = TrainExample(np.array([9, 10], np.int32), np.array([0, 1], bool), 1)
    params, recipe = init_params(MODEL, 0), dataclasses.replace(RECIPE, epochs=1, batch_size=2)
    alone = [
        fine_tune(params, MODEL, [row], recipe, RUN, workdir=tmp_path / str(row.row)).loss
        for row in (long, short)
    ]
    strict = fine_tune(params, MODEL, [long, short], recipe).loss
    paper = fine_tune(params, MODEL, [long, short], recipe, weigh_examples=True).loss
    assert strict == pytest.approx((3 * alone[0] + alone[1]) / 4, abs=1e-5)
    assert (
        paper == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5) and abs(strict - paper) > 1e-3
    )


def test_nothing_to_learn_is_refused():
    with pytest.raises(DataError, match="no training examples"):
        fine_tune(init_params(MODEL, 0), MODEL, [], RECIPE)
    silent = [
        dataclasses.replace(row, loss_mask=np.zeros(len(row.tokens), bool)) for row in examples(4)
    ]
    with pytest.raises(DataError, match="no example has a token to learn"):
        fine_tune(init_params(MODEL, 0), MODEL, silent, RECIPE)
    long = TrainExample(np.ones(65, np.int32), np.ones(65, bool), 7)
    with pytest.raises(DataError, match="(?s)65 tokens.*context is 64.*row 7"):
        fine_tune(init_params(MODEL, 0), MODEL, [long], RECIPE)


def test_metrics_of_a_cut_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1}]


@pytest.mark.parametrize("rounded_down,first", [(False, 0.0), (True, 3e-3)])
def test_a_short_run_of_the_paper_begins_at_the_full_rate(tmp_path, rounded_down, first):
    fine_tune(
        init_params(MODEL, 0),
        MODEL,
        examples(),
        RECIPE,
        RUN,
        workdir=tmp_path,
        warmup_rounded_down=rounded_down,
    )
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["learning_rate"] == first


def test_packing_changes_nothing_but_round_off(tmp_path):
    """The same steps on the same examples, in fewer rows."""
    params = init_params(MODEL, 0)
    plain = fine_tune(params, MODEL, examples(16), RECIPE, RUN, workdir=tmp_path / "plain")
    packing = dataclasses.replace(RUN, packing=True)
    packed = fine_tune(params, MODEL, examples(16), RECIPE, packing, workdir=tmp_path / "packed")
    losses, padding = (
        [[row[name] for row in read_metrics(tmp_path / kind / "metrics.jsonl")] for kind in KINDS]
        for name in ("loss", "padding")
    )
    np.testing.assert_allclose(*losses, atol=1e-4)
    assert np.mean(padding[1]) < np.mean(padding[0]) and packed.tokens == plain.tokens


KINDS = ("plain", "packed")
