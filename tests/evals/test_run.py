"""Scoring a checkpoint on a set: what an error says about where it came from."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.config import Method, ScoreConfig, Scoring, from_dict
from amuro_jax.errors import AmuroError
from amuro_jax.evals.run import Evaluator, ScoreJob, run
from amuro_jax.opened import open_checkpoint
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


def score_of(series, workdir, **changes):  # noqa: F811
    checkpoint = str(series.checkpoints / "step10-tokens10K")
    made = ScoreConfig(
        checkpoint=checkpoint, data_root=str(series.data), tasks=("lab_nli",), shots=(1,)
    )
    scoring = Scoring(rows=3, bootstrap=10)
    return dataclasses.replace(made, workdir=str(workdir), scoring=scoring, **changes)


def test_a_folder_that_cannot_be_written_costs_no_scores(series, tmp_path, monkeypatch):  # noqa: F811
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
