"""Scoring a checkpoint on a set: what an error says about where it came from."""

import jax
import numpy as np
import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.config import Method, ScoreConfig, Scoring
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


def test_each_quirk_is_scored_by_itself_unless_it_changes_nothing(series, tmp_path):  # noqa: F811
    config = ScoreConfig(
        checkpoint=str(series.checkpoints / "step10-tokens10K"),
        workdir=str(tmp_path),
        data_root=str(series.data),
        tasks=("lab_nli",),
        shots=(1,),
        scoring=Scoring(rows=3, bootstrap=10),
        protocols=("strict", "strict+sub_token_candidates", "strict+rte_neutral"),
    )
    said = []
    records = run(config, said.append)
    assert [record.protocol for record in records] == ["strict", "strict+sub_token_candidates"]
    assert len({record.key for record in records}) == 2
    assert said[-1].endswith("nothing changes under strict+rte_neutral: not scored")
    assert "under strict+sub_token_candidates: accuracy" in said[1]
    store = Store.open(tmp_path)
    assert set(store.frame()["protocol"]) == {"strict", "strict+sub_token_candidates"}
    tables = tables_of(loading.load(tmp_path, 50))
    assert len(tables["quirk_effects"]) == 1 and len(tables["cells"]) == 1
    assert len(tables["change_points"]) == 1  # curves are of the one protocol
