"""What a study would meet is told before anything is computed, by the checks and by --dry_run."""

import json
import shutil

import pytest

from amuro_jax.config import EvalSet, FineTune
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import CheckpointError
from amuro_jax.study import executor, preflight
from tests.study.conftest import study_of
from tests.test_cli import amuro


@pytest.fixture
def twins(series, tmp_path):
    """The series with a third checkpoint that serves the first one's weights."""
    shutil.copytree(series.checkpoints, tmp_path / "series")
    shutil.copytree(tmp_path / "series/step1-tokens1K", tmp_path / "series/step20-tokens20K")
    return str(tmp_path / "series")


def check(config):
    return preflight.check(config, list_revisions(config.suite))


def test_a_sound_study_has_nothing_to_say(series, tmp_path):
    assert check(study_of(series, tmp_path / "study")).lines() == []


def test_the_same_weights_are_named_before_a_score(series, twins, tmp_path):
    config = study_of(series, tmp_path / "study", suite=twins)
    checked = check(config)
    assert checked.duplicates == {"step20-tokens20K": "step1-tokens1K"}
    assert "step20-tokens20K has the same weights as step1-tokens1K" in checked.lines()[0]


def test_a_foreign_tokenizer_in_the_series_is_refused_unless_accepted(series, tmp_path, root):
    shutil.copytree(series.checkpoints, tmp_path / "series")
    for step in (20, 30):
        shutil.copytree(
            tmp_path / "series/step1-tokens1K", tmp_path / f"series/step{step}-tokens{step}K"
        )
    path = tmp_path / "series/step20-tokens20K/tokenizer.json"
    path.write_text(path.read_text() + " ")
    config = study_of(series, tmp_path / "study", suite=str(tmp_path / "series"))
    assert any("fault: foreign tokenizer" in line for line in check(config).lines())
    with pytest.raises(CheckpointError, match="step20-tokens20K: its tokenizer"):
        preflight.require_sound_series(list_revisions(config.suite))
    arguments = [
        "study", f"--config={root}/configs/study/tiny.py", f"--config.suite={config.suite}",
        f"--config.data_root={series.data}", f"--config.workdir={tmp_path}/study", "--dry_run",
        "--config.select=all",
    ]  # fmt: skip
    assert "1 faults in the series of checkpoints" in amuro(root, *arguments).stderr
    assert amuro(root, *arguments, "--accept_series").returncode == 0
    audit = amuro(root, "audit", f"--suite={config.suite}")
    assert audit.returncode == 1 and "foreign tokenizer: step20-tokens20K" in audit.stdout


def test_the_run_says_it_once_and_first(series, twins, tmp_path):
    config = study_of(
        series, tmp_path / "study", suite=twins, fine_tunes=(), formats=("default",),
        evals=(EvalSet("lab_nli"),),
    )  # fmt: skip
    said = []
    assert executor.run(config, list_revisions(config.suite), report=said.append) == []
    assert [index for index, line in enumerate(said) if "same weights" in line] == [0]


def test_missing_data_is_named_once_with_its_folder(series, tmp_path):
    shutil.copytree(series.data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/lab_nli")
    config = study_of(series, tmp_path / "study", data_root=str(tmp_path / "data"))
    (first, *rest) = check(config).faults
    assert "lab_nli" in first.what and str(tmp_path / "data") in first.where
    assert len({(fault.what, fault.where) for fault in rest}) == len(rest)


def test_a_column_of_the_training_rows(series, tmp_path):
    shutil.copytree(series.data, tmp_path / "data")
    (tmp_path / "data/lab_nli/train.jsonl").write_text(json.dumps({"premise": "p"}) + "\n")
    config = study_of(
        series, tmp_path / "study", data_root=str(tmp_path / "data"), evals=(),
        fine_tunes=(FineTune("lab_nli"),),
    )  # fmt: skip
    (fault,) = check(config).faults
    assert "train.jsonl:1" in fault.where and "missing" in fault.what


def test_dry_run_prints_it_and_fails_where_a_cell_would(series, twins, tmp_path, root):
    shutil.copytree(series.data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/lab_nli")
    arguments = [
        "study", f"--config={root}/configs/study/tiny.py", f"--config.suite={twins}",
        f"--config.data_root={tmp_path}/data", f"--config.workdir={tmp_path}/study", "--dry_run",
    ]  # fmt: skip
    done = amuro(root, *arguments)
    assert done.returncode == 2
    assert "step20-tokens20K has the same weights as step1-tokens1K" in done.stdout
    assert "to do" in done.stdout and "fault: " in done.stdout and "lab_nli" in done.stdout
    assert "faults in the data" in done.stderr
    assert not (tmp_path / "study").exists()
