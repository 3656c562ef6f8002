"""A made-up results store: scores drawn from curves that are written here.

Test data; no model has seen any of it.
"""

import dataclasses

import numpy as np

from amuro_jax.config import EvalSet, FineTune, ScoreConfig, StudyConfig, TrainConfig, to_dict
from amuro_jax.convert.revisions import Revision
from amuro_jax.data.registry import get_task
from amuro_jax.evals import metrics
from amuro_jax.files import content_key
from amuro_jax.results import store
from amuro_jax.study import grid, plan

STEPS = (16, 40, 100, 250, 630, 1600)


def config(workdir, rows=80) -> StudyConfig:
    """Two fine-tuning sets, three formats."""
    return StudyConfig(
        name="made up",
        workdir=str(workdir),
        suite="nowhere",
        formats="default,io",
        shots="4",
        fine_tunes=[FineTune("lab_nli"), FineTune("lab_summary")],
        evals=[
            EvalSet("lab_nli", "in_domain", "lab_nli"),
            EvalSet("lab_summary", "in_domain", "lab_summary"),
            EvalSet("lab_nli_ood", "out_of_domain", "lab_nli"),
            EvalSet("lab_attributes", "multiple_choice"),
        ],
        train=TrainConfig(rows=100),
        score=ScoreConfig(rows=rows, bootstrap=300),
    )


def revisions(steps=STEPS):
    """Checkpoints of a series that does not exist."""
    return [Revision(f"nowhere/step{step}", f"step{step}", step, step * 2048) for step in steps]


def level(task: str, tuned_on: str, progress: float) -> float:
    """The true score at `progress` in [0, 1] of pre-training."""
    if task == "lab_attributes":
        return 0.25 + 0.6 * progress - (0.05 if tuned_on else 0)
    if task == "lab_summary":
        return (
            0.1
            + 0.1 * progress
            + (0.5 * progress if tuned_on == "lab_summary" else -0.08 * bool(tuned_on))
        )
    own = tuned_on == "lab_nli"
    return 0.34 + (0.5 * progress if own else 0.0) * (0.6 if task.endswith("_ood") else 1)


def make_rows(spec: dict, value: float, draws) -> list[dict]:
    """Rows of one cell; `draws` are shared by all models of a set, so that their errors are
    correlated as real ones are.
    """
    kind = get_task(spec["task"]).kind
    make = _text_row if kind == "generation" else _choice_row
    return [_common(spec, row) | make(row, value, draws[row], kind) for row in range(len(draws))]


def _common(spec, row):
    named = {name: spec[name] for name in ("task", "format", "shots")}
    return named | {
        "row": row,
        "doc_id": str(row),
        "group": "",
        "prompt_sha256": f"{spec['task']}{row}",
        "shot_rows": ["train:1"],
        "dropped_shots": 0,
        "cut_tokens": 0,
        "context_tokens": 50,
    }


def _text_row(row, value, draw, _):
    score = float(np.clip(value + 0.2 * (draw - 0.5), 0, 1))
    return {
        "gold": None,
        "predicted": None,
        "score": score,
        "ended": "eos",
        "prediction": f"text {row}",
        "reference": f"a b {row}",
    }


def _choice_row(row, value, draw, kind):
    choices = 3 if kind == "classification" else 4
    right, gold = bool(draw < value), row % choices
    predicted = gold if right else (gold + 1 + row % (choices - 1)) % choices
    return {
        "gold": gold,
        "predicted": predicted,
        "correct": right,
        "score": float(right),
        "reference": f"label{gold}",
        "prediction": f"label{predicted}",
        "choice_logprobs": [-1.0 if place == predicted else -2.0 for place in range(choices)],
        "choice_tokens": [1] * choices,
        "choice_chars": [5] * choices,
        "label_mass": 0.9,
        "ended": None,
        "choice_logprobs_unconditional": [-1.0] * choices if kind == "multiple_choice" else None,
    }


def make_store(
    workdir,
    leave_out=(),
    rows=80,
    steps=STEPS,
    truth=level,
    noise=0.1,
    same_weights=None,
    **changes,
) -> StudyConfig:
    """Writes a study folder.

    `leave_out` holds identities (`plan.identity`) of cells that are not finished. Scores follow
    `truth(task, tuned_on, progress)`; without `noise` they are exactly known: row i of N is right
    where (i + 0.5) / N < truth. `same_weights` names checkpoints that serve the same weights as
    another one; `changes` are fields of the study's configuration.
    """
    given = dataclasses.replace(config(workdir, rows), **changes)
    asked = plan.make_plan(given, revisions(steps))
    rng = np.random.default_rng(7)
    shared = {
        task: rng.random(rows) if noise else (np.arange(rows) + 0.5) / rows
        for task in dict.fromkeys(cell["task"] for cell in asked.cells)
    }
    for place, cell in enumerate(asked.cells):
        cell["key"] = content_key(["made up", place])
        if plan.identity(cell) not in leave_out:
            draws = shared[cell["task"]] + (rng.normal(0, noise, rows) if noise else 0)
            name = (same_weights or {}).get(cell["checkpoint"], cell["checkpoint"])
            _write_cell(workdir, given, cell, draws, steps, truth, f"weights of {name}")
    for fine_tune in given.fine_tunes:
        for step in steps:
            _write_training(workdir, given, fine_tune, step)
    asked.write(workdir)
    return given


def _write_training(workdir, given, fine_tune, step):
    model = {"checkpoint": f"step{step}", "step": step, "tuned_on": fine_tune.task}
    record = {
        "key": content_key(["made up", fine_tune.task, step]),
        "kind": "train",
        "model": model,
        "recipe": to_dict(grid.recipe_of(given, fine_tune)),
        "seconds": 2.0,
    }
    store.write_cell(workdir, record)


def _write_cell(workdir, given, cell, draws, steps, truth, weights):
    progress = (
        np.log(cell["step"] / steps[0]) / np.log(steps[-1] / steps[0]) if len(steps) > 1 else 1.0
    )
    value = truth(cell["task"], cell["tuned_on"], progress) - 0.05 * (cell["format"] == "io")
    rows = make_rows(cell, value, draws)
    specification = {name: cell[name] for name in ("task", "role", "format", "shots")}
    provenance = {
        "checkpoint_hash": weights,
        "tokenizer": "t" * 64,
        "code": "0",
        "jax": "none",
        "devices": "none",
        "data": {"test": "d" * 64},
    }
    record = {
        "key": cell["key"],
        "kind": "score",
        "method": "token_prob",
        "seconds": 1.0,
        "model": {name: cell[name] for name in ("checkpoint", "step", "tokens", "tuned_on")}
        | {"suite": "nowhere"},
        "specification": specification
        | {"split": "test", "primary": get_task(cell["task"]).primary, "model": cell["checkpoint"]},
        "protocol": {"name": "strict", "switches": {"no_stop": False}},
        "metrics": metrics.summarise(rows, bootstrap=300),
        "provenance": provenance | {"score": to_dict(given)["score"]},
    }
    store.write_cell(workdir, record, rows)
