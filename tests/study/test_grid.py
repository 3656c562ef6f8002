"""From a configuration to its cells."""

import dataclasses

import pytest

from amuro_jax.config import EvalSet, FineTune
from amuro_jax.errors import ConfigError
from amuro_jax.study import grid, plan
from tests.study import synthetic


def test_every_cell_of_a_small_study(tmp_path):
    config = synthetic.config(tmp_path)
    base = {(spec.task, spec.role, spec.format) for spec in grid.score_specs(config)}
    assert base == {
        ("lab_nli", "in_domain", "default"), ("lab_nli", "in_domain", "io"), ("lab_summary", "in_domain", "default"),
        ("lab_summary", "in_domain", "io"), ("lab_nli_ood", "out_of_domain", "default"), ("lab_attributes", "multiple_choice", "default"),
    }  # fmt: skip
    tuned = {(spec.task, spec.role, spec.format) for spec in grid.score_specs(config, "lab_summary")}
    assert tuned == {
        ("lab_summary", "in_domain", "default"), ("lab_summary", "in_domain", "io"), ("lab_nli", "cross_task", "default"),
        ("lab_attributes", "multiple_choice", "default"),
    }  # fmt: skip


def test_default_study_is_the_whole_grid():
    from configs.study.lab import get_config

    config = get_config()
    assert len(config.fine_tunes) == 4 and len(grid.score_specs(config)) == 4 * 3 + 4 + 2
    for entry in config.fine_tunes:
        roles = [spec.role for spec in grid.score_specs(config, entry.task)]
        assert {name: roles.count(name) for name in set(roles)} == {"in_domain": 3, "out_of_domain": 1, "cross_task": 3, "multiple_choice": 2}


@pytest.mark.parametrize("name", ["lab", "tiny", "olmo1b"])
def test_configurations_are_valid(name, tmp_path):
    import importlib

    config = importlib.import_module(f"configs.study.{name}").get_config()
    grid.validate(dataclasses.replace(config, workdir=str(tmp_path), suite=config.suite or "somewhere"))


def test_several_shots_multiply(tmp_path):
    config = dataclasses.replace(synthetic.config(tmp_path), shots="0,4")
    assert len(grid.score_specs(config)) == 2 * len(grid.score_specs(synthetic.config(tmp_path)))


@pytest.mark.parametrize(
    "changes,where",
    [
        ({"workdir": ""}, "config.workdir"),
        ({"evals": []}, "config.evals"),
        ({"evals": [EvalSet("lab_nli", "somewhere")]}, "config.evals[0].role"),
        ({"evals": [EvalSet("lab_nli", "in_domain", "paws")]}, "config.evals[0].of"),
        ({"fine_tunes": [FineTune("lab_nli_ood")]}, "config.fine_tunes[0].task"),
        ({"fine_tunes": [FineTune("lab_nli"), FineTune("lab_nli")]}, "config.fine_tunes[1].task"),
        ({"shots": "four"}, "config.shots"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, changes, where):
    with pytest.raises(ConfigError) as caught:
        grid.validate(dataclasses.replace(synthetic.config(tmp_path), **changes))
    assert caught.value.where == where


def test_unknown_names_are_refused(tmp_path):
    for evals in ([EvalSet("no_such_set")], [EvalSet("lab_nli", formats="no_such_format")]):
        with pytest.raises(ConfigError):
            grid.validate(dataclasses.replace(synthetic.config(tmp_path), evals=evals))


def test_plan_keeps_keys_of_the_same_study_only(tmp_path):
    config = synthetic.make_store(tmp_path, rows=10, steps=(1, 2))
    again = plan.make_plan(config, synthetic.revisions((1, 2)))
    assert all(cell["key"] for cell in again.cells)
    other = plan.make_plan(dataclasses.replace(config, shots="2"), synthetic.revisions((1, 2)))
    assert not any(cell["key"] for cell in other.cells)


def test_dry_run_counts_what_is_left(tmp_path):
    lost = ("step2", "lab_nli", "lab_nli", "default", 4)
    config = synthetic.make_store(tmp_path, leave_out={lost}, rows=10, steps=(1, 2))
    text = plan.describe(config, synthetic.revisions((1, 2)))
    assert "to do: 1 fine-tunings, 1 scores" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  to do  score")]
    assert line.split()[3:] == ["step2", "+", "lab_nli", "in_domain", "lab_nli", "default", "4-shot"]
