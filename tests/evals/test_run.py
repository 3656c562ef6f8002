"""Scoring a checkpoint on a set: what an error says about where it came from."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from amuro_jax import watchdog
from amuro_jax.analyses.registry import tables_of
from amuro_jax.config import Method, ScoreConfig, ScoreRun, Scoring, from_dict
from amuro_jax.errors import AmuroError
from amuro_jax.evals.run import Evaluator, ScoreJob, run
from amuro_jax.opened import open_checkpoint
from amuro_jax.peers import TRY_AGAIN
from amuro_jax.records import ModelRef
from amuro_jax.results import loading
from amuro_jax.results.store import Store
from amuro_jax.scoring.requests import NonFiniteError
from tests.study.conftest import series  # noqa: F401


@pytest.mark.parametrize("method", [Method.TOKEN_PROB, Method.FREE])
def test_a_broken_model_is_named_with_its_set_and_row(series, method):  # noqa: F811
    name = "step10-tokens10K"
    opened = open_checkpoint(str(series.checkpoints / name))
    broken = jax.tree.map(lambda leaf: leaf * np.nan, opened.load_params(None))
    model = ModelRef(suite="series", checkpoint=name, step=10, tokens=10_000)
    job = ScoreJob(
        opened,
        opened.identity,
        model,
        "lab_nli",
        "default",
        1,
        Scoring(rows=3, method=method, bootstrap=10),
        str(series.data),
    )
    with pytest.raises(NonFiniteError, match="is not finite") as raised:
        Evaluator().score(job, broken)
    assert raised.value.where.startswith(f"{name} base: lab_nli (default, 1 shots), row ")


HANGS = """
import sys, time
from amuro_jax.cli.main import run
from amuro_jax.scoring import likelihoods

collect, batches = likelihoods._LineRunner._collect, []

def hangs(*batch):
    batches.append(batch)
    if len(batches) > 1:
        time.sleep(600)
    return collect(*batch)

likelihoods._LineRunner._collect = hangs
run(sys.argv)
"""


def test_scoring_that_hangs_is_ended_with_its_stacks(series, tmp_path, root):  # noqa: F811
    flags = {
        "checkpoint": series.checkpoints / "step10-tokens10K",
        "data_root": series.data,
        "workdir": tmp_path,
        "tasks": "lab_nli",
        "shots": "1",
        "scoring.rows": 40,
        "run.batch_tokens": 64,
        "run.batch_seconds": 3,
    }
    command = [sys.executable, "-c", HANGS, "score"]
    command += [f"--config.{name}={value}" for name, value in flags.items()]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == TRY_AGAIN, done.stderr
    assert "no batch of scores was finished for 3 s" in done.stderr
    assert "in hangs" in done.stderr


@pytest.mark.parametrize("method", [Method.TOKEN_PROB, Method.FREE])
def test_the_watchdog_hears_of_batches(series, tmp_path, monkeypatch, method):  # noqa: F811
    heard = []
    monkeypatch.setattr(watchdog, "progress", lambda: heard.append(watchdog._newest))
    scoring = Scoring(rows=3, bootstrap=10, method=method)
    config = dataclasses.replace(score_of(series, tmp_path), scoring=scoring)
    run(dataclasses.replace(config, run=ScoreRun(batch_seconds=900.0)))
    assert heard and heard[0].limit >= 900 and watchdog._newest is None


def score_of(series, workdir, **changes):  # noqa: F811
    checkpoint = str(series.checkpoints / "step10-tokens10K")
    made = ScoreConfig(
        checkpoint=checkpoint, data_root=str(series.data), tasks=("lab_nli",), shots=(1,)
    )
    scoring = Scoring(rows=3, bootstrap=10)
    return dataclasses.replace(made, workdir=str(workdir), scoring=scoring, **changes)


def test_an_unwritable_folder_costs_no_scores(series, tmp_path, monkeypatch):  # noqa: F811
    def computed(*_):
        raise AssertionError("it was scored before it was written")

    monkeypatch.setattr(Evaluator, "score", computed)
    (tmp_path / "file").touch()
    with pytest.raises(AmuroError, match="cannot write"):
        run(score_of(series, tmp_path / "file" / "scores"))


def test_each_quirk_is_scored_by_itself_unless_it_changes_nothing(series, tmp_path):  # noqa: F811
    protocols = ("strict", "strict+sub_token_candidates", "strict+rte_neutral")
    config, said = score_of(series, tmp_path, protocols=protocols), []
    records = run(config, said.append)
    (resolved,) = (tmp_path / "configs").iterdir()
    assert from_dict(ScoreConfig, json.loads(resolved.read_text())) == config
    assert [record.protocol for record in records] == ["strict", "strict+sub_token_candidates"]
    assert len({record.key for record in records}) == 2
    assert said[-1].endswith("nothing changes under strict+rte_neutral: not scored")
    assert "under strict+sub_token_candidates: accuracy" in said[1]
    store = Store.open(tmp_path)
    assert set(store.frame()["protocol"]) == {"strict", "strict+sub_token_candidates"}
    tables = tables_of(loading.load(tmp_path, 50))
    assert len(tables["quirk_effects"]) == 1 and len(tables["cells"]) == 1
    assert len(tables["change_points"]) == 1  # curves are of the one protocol
