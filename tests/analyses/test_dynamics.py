"""Examples of a study: followed where there are rows, and said where they cannot be."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import dynamics
from amuro_jax.analyses.registry import tables_of
from amuro_jax.curves import examples
from amuro_jax.results import loading
from tests.analyses.hand import made
from tests.analyses.test_change_points import COUNT, curve_cells
from tests.study import synthetic


def with_rows(right, tuned=None):
    """Results of right and wrong answers [R, N] with margins that follow them."""
    cells, frames = [], {}
    for tuned_on, answers in {"": right, "lab_nli": tuned}.items():
        if answers is None:
            continue
        for one, column in zip(curve_cells(answers.mean(axis=0), tuned_on), answers.T, strict=True):
            sure = np.where(column, -1.0, -3.0)
            frames[one["key"]] = pd.DataFrame(
                {"row": range(len(column)), "doc_id": "d", "group": "", "gold": 0, "reference": "a"}
                | {"score": column.astype(float), "choice_chars": [[1, 1]] * len(column)}
                | {"choice_logprobs": [[value, -2.0] for value in sure]}
            )
            cells.append(one | {"chance": 0.25})
    scores = {key: frame.set_index("row")["score"] for key, frame in frames.items()}
    study = made(cells, scores)
    study.scores, study.rows = scores.get, lambda key, columns=(): frames.get(key)
    return study


def test_planted_examples_are_found_by_checkpoint():
    right = np.zeros((4, COUNT), bool)
    right[0], right[1, 4:], right[2, 2:9] = True, True, True
    study = with_rows(right, np.ones((4, COUNT), bool))
    tables = tables_of(study)
    rows = tables["examples"][tables["examples"]["model"] == "base"]
    assert rows["state"].tolist() == [
        examples.KNOWN,
        examples.LEARNED,
        examples.FORGOTTEN,
        examples.NEVER,
    ]
    assert rows["first_learned"].tolist() == ["s01", "s05", "s03", ""]
    assert rows["forgotten_at"].tolist() == ["", "", "s10", ""]
    (line,) = tables["example_dynamics"].query("model == 'base'").to_dict("records")
    assert [line[name] for name in ("known", "learned", "forgotten", "never")] == [1, 1, 1, 1]
    by = tables["examples_by_checkpoint"].query("model == 'base'").set_index("checkpoint")
    assert by.loc["s03", "first_learned"] == 1 and by.loc["s10", "forgotten"] == 1
    assert by["known"].iloc[-1] == 2
    assert list(dynamics.say_dynamics(study, tables))
    assert len(dynamics.show_examples(tables["examples"])) == 1
    assert dynamics.draw_dynamics(study, tables).panels[0].series[0].y[-1] == 0.5


def test_margins_that_say_what_fine_tuning_gets_right():
    right = np.zeros((10, COUNT), bool)
    right[:5] = True
    tables = tables_of(with_rows(right, right))
    assert (tables["margin_agreement"]["agreement"] == 1).all()
    tables = tables_of(with_rows(right, ~right))
    assert (tables["margin_agreement"]["agreement"] == 0).all()


@pytest.mark.parametrize(
    "count,note", [(1, "1 checkpoint, 4 are needed"), (6, "no rows are stored")]
)
def test_what_cannot_be_followed_says_why(count, note):
    study = made(curve_cells(np.linspace(0.3, 0.6, count)))
    tables = tables_of(study)
    (line,) = tables["example_dynamics"].to_dict("records")
    assert note in line["notes"] and line["examples"] == 0
    assert tables["examples"].empty and tables["examples_by_checkpoint"].empty
    assert not list(dynamics.say_dynamics(study, tables))
    assert dynamics.draw_dynamics(study, tables) is None


def test_a_stored_study_is_followed(tmp_path):
    synthetic.make_store(tmp_path, rows=40)
    tables = tables_of(loading.load(tmp_path, 100))
    lines = tables["example_dynamics"].set_index(["task", "tuned_on"])
    assert lines.loc[("lab_attributes", ""), "examples"] == 40
    assert "not right or wrong" in lines.loc[("lab_summary", ""), "notes"]
    agreement = tables["margin_agreement"]
    assert set(agreement["task"]) == {"lab_nli", "lab_nli_ood", "lab_attributes"}
    assert len(tables["signal_and_noise"].query("metric == 'gold_logprob'"))
