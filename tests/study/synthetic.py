"""A made-up results store: scores drawn from curves that are written here.

Test data; no model has seen any of it.
"""

import dataclasses

import numpy as np

from amuro_jax.config import EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig
from amuro_jax.convert.revisions import Revision
from amuro_jax.data.registry import get_task
from amuro_jax.evals import metrics
from amuro_jax.files import content_key
from amuro_jax.records import ModelRef, Provenance, ScoreRecord, TrainRecord
from amuro_jax.results.store import Store
from amuro_jax.study import grid, plan

STEPS = (16, 40, 100, 250, 630, 1600)


def config(workdir, rows=80) -> StudyConfig:
    """Two fine-tuning sets, three formats."""
    return StudyConfig(
        name="made up",
        workdir=str(workdir),
        suite="nowhere",
        formats=("default", "io"),
        shots=(4,),
        fine_tunes=(FineTune("lab_nli"), FineTune("lab_summary")),
        evals=(
            EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),
            EvalSet("lab_summary", Role.IN_DOMAIN, ("lab_summary",)),
            EvalSet("lab_nli_ood", Role.OUT_OF_DOMAIN, ("lab_nli",)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
        ),
        recipe=Recipe(rows=100),
        scoring=Scoring(rows=rows, bootstrap=300),
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


def make_rows(cell, value: float, draws) -> list[dict]:
    """Rows of one cell; `draws` are shared by all models of a set, so that their errors are
    correlated as real ones are.
    """
    kind = get_task(cell.task).kind
    make = _text_row if kind == "generation" else _choice_row
    return [_common(cell, row) | make(row, value, draws[row], kind) for row in range(len(draws))]


def _common(cell, row):
    named = {name: getattr(cell, name) for name in ("task", "format", "shots")}
    return named | {
        "row": row,
        "doc_id": str(row),
        "group": "",
        "prompt_sha256": f"{cell.task}{row}",
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

    `leave_out` holds identities (`Cell.identity`) of cells that are not finished. Scores follow
    `truth(task, tuned_on, progress)`; without `noise` they are exactly known: row i of N is right
    where (i + 0.5) / N < truth. `same_weights` names checkpoints that serve the same weights as
    another one; `changes` are fields of the study's configuration.
    """
    given = dataclasses.replace(config(workdir, rows), **changes)
    made = plan.make_plan(given, revisions(steps))
    made = made.with_keys(
        {cell.identity: content_key(["made up", place]) for place, cell in enumerate(made.cells)}
    )
    rng, store = np.random.default_rng(7), Store.open(workdir)
    shared = {
        task: rng.random(rows) if noise else (np.arange(rows) + 0.5) / rows
        for task in dict.fromkeys(cell.task for cell in made.cells)
    }
    for cell in made.cells:
        if cell.identity not in leave_out:
            draws = shared[cell.task] + (rng.normal(0, noise, rows) if noise else 0)
            name = (same_weights or {}).get(cell.model.checkpoint, cell.model.checkpoint)
            _write_cell(store, given, cell, draws, steps, truth, f"weights of {name}")
    for fine_tune in given.fine_tunes:
        for step in steps:
            _write_training(store, given, fine_tune, step)
    made.write(store.storage)
    return given


def _provenance(weights):
    return Provenance(
        model=weights,
        checkpoint={},
        tokenizer="t" * 64,
        data={"test": "d" * 64},
        code="0",
        jax="none",
        devices="none",
        created="2026-01-01T00:00:00+00:00",
    )


def _write_training(store, given, fine_tune, step):
    record = TrainRecord(
        key=content_key(["made up", fine_tune.task, step]),
        model=ModelRef("nowhere", f"step{step}", step, step * 2048, fine_tune.task),
        recipe=grid.recipe_of(given, fine_tune),
        protocol="strict",
        switches={},
        metrics={},
        provenance=_provenance("made up"),
        seconds=2.0,
    )
    store.commit(record)


def _write_cell(store, given, cell, draws, steps, truth, weights):
    step, model = cell.model.step, cell.model
    progress = np.log(step / steps[0]) / np.log(steps[-1] / steps[0]) if len(steps) > 1 else 1.0
    value = truth(cell.task, model.tuned_on, progress) - 0.05 * (cell.format == "io")
    rows = make_rows(cell, value, draws)
    record = ScoreRecord(
        key=cell.key,
        model=model,
        task=cell.task,
        format=cell.format,
        shots=cell.shots,
        split="test",
        primary=get_task(cell.task).primary or "",
        method="token_prob",
        protocol="strict",
        switches={"no_stop": False},
        scoring=given.scoring,
        metrics=metrics.metrics_record(rows, bootstrap=300),
        provenance=_provenance(weights),
        context=512,
        seconds=1.0,
    )
    store.commit(record, rows)
