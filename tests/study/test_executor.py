"""The engine: same results however often it is killed, no cell twice.

One failing cell does not cost the others.
"""

import collections
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from amuro_jax.config import EvalSet, Role, ScoreRun, TrainRun
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.evals import run as score_run
from amuro_jax.report import report
from amuro_jax.results import loading, plan
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import executor
from amuro_jax.study import plan as study_plan
from amuro_jax.train import run as train_run
from amuro_jax.train.training import Trained
from tests import object_store
from tests.study.conftest import study_of

HEAD = ("metric", "value", "stderr", "low", "high", "n", "majority", "chance")
SCRIPT = """
import sys
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.storage import Storage
from amuro_jax.study import executor
from amuro_jax.study import plan as study_plan
from tests.study.conftest import study_of
import types
checkpoints, data, workdir = sys.argv[1:]
config = study_of(types.SimpleNamespace(checkpoints=checkpoints, data=data), workdir)
failures = executor.run(config, list_revisions(config.suite), report=print)
sys.exit(3 if failures else 0)
"""


def run(config, **changes):
    config = dataclasses.replace(config, **changes)
    return executor.run(config, list_revisions(config.suite, config.select))


@pytest.fixture(scope="module")
def command(series, root, tmp_path_factory):
    """Starts the tiny study in a process of its own, on one device."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "XLA_FLAGS": "",
        "AMURO_CACHE": str(tmp_path_factory.mktemp("cache")),
    }

    def start(workdir):
        arguments = [
            sys.executable,
            "-c",
            SCRIPT,
            str(series.checkpoints),
            str(series.data),
            str(workdir),
        ]
        return subprocess.Popen(
            arguments,
            env=environment,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def kill_after(process, workdir, lines):
    """Kills the process once the log has so many lines."""
    while len(Store.open(workdir).read_log()) < lines and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """A study that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    process = command(workdir)
    _, error = process.communicate()
    assert process.returncode == 0, error
    return workdir


def numbers(workdir):
    """Every cell's key, scores of its rows and value."""
    return {
        record.key: (record.metrics, Store.open(workdir).rows(record.key))
        for record in Store.open(workdir).records()
    }


def test_killed_twice_it_gives_the_same_results_and_no_cell_twice(command, whole, tmp_path):
    for lines in (4, 13):  # while the first cells are scored; in the second checkpoint
        process = command(tmp_path)
        kill_after(process, tmp_path, lines)
        assert process.returncode == -signal.SIGKILL
    process = command(tmp_path)
    _, error = process.communicate()
    assert process.returncode == 0, error
    log = Store.open(tmp_path).read_log()
    finished = collections.Counter(line["key"] for line in log if line["event"] == "finished")
    assert set(finished.values()) == {1}
    for key in finished:  # nothing is started after it was finished
        events = [line["event"] for line in log if line["key"] == key]
        assert events[-1] == "finished" and events.count("finished") == 1
    once, again = numbers(whole), numbers(tmp_path)
    assert once.keys() == again.keys() and len(once) == 12
    for key, (metrics, rows) in once.items():
        assert [again[key][0][name] for name in HEAD] == [metrics[name] for name in HEAD]
        # jax 0.10.2: equal to the bit. 0.11.2: log-probabilities of two processes differ by up to
        # 1e-6, predictions and scores do not.
        pd.testing.assert_frame_equal(again[key][1], rows, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_processes_share_a_folder_and_a_third_goes_on_for_a_dead_one(command, whole, tmp_path):
    """Both ends of the folder's work: each checkpoint once, the same results as alone."""
    first = command(tmp_path)
    kill_after(first, tmp_path, 3)
    pair = [command(tmp_path), command(tmp_path)]
    said = [process.communicate() for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    store = Store.open(tmp_path)
    finished = [line for line in store.read_log() if line["event"] == "finished"]
    assert set(collections.Counter(line["key"] for line in finished).values()) == {1}
    assert len({line["pid"] for line in finished}) == 3, "both took part"
    once, again = numbers(whole), numbers(tmp_path)
    assert once.keys() == again.keys()
    for key, (metrics, _) in once.items():
        assert [again[key][0][name] for name in HEAD] == [metrics[name] for name in HEAD]
    assert all(cell.key and store.is_done(cell.key) for cell in plan.read_plan(store.storage).cells)


def test_another_configuration_at_work_in_the_folder_is_refused(tiny_study):
    config = dataclasses.replace(tiny_study, fine_tunes=(), evals=(EvalSet("lab_nli"),))
    revisions = list_revisions(config.suite)
    study_plan.make_plan(config, revisions).write(Storage.open(config.workdir))
    with Storage.open(config.workdir).claim("claims/step1-tokens1K"):
        with pytest.raises(ConfigError, match="another configuration .* claims/step1-tokens1K"):
            executor.run(dataclasses.replace(config, shots=(3,)), revisions)


def test_nothing_is_left_behind(whole):
    assert not list((whole / "models").glob("*"))
    store = Store.open(whole)
    assert all(cell.key and store.is_done(cell.key) for cell in plan.read_plan(store.storage).cells)


def test_a_second_run_does_nothing(command, whole):
    before = Store.open(whole).read_log()
    process = command(whole)
    process.communicate()
    assert process.returncode == 0 and Store.open(whole).read_log() == before


def compiled(workdir):
    """What each run in the folder compiled."""
    return [line for line in Store.open(workdir).read_log() if line["event"] == "compiled"]


def test_only_the_first_checkpoint_needs_programs(whole):
    asked = collections.Counter()
    for line in Store.open(whole).read_log():
        if line["event"] == "finished":
            asked[line["cell"].removeprefix("train ").split()[0].rstrip(":")] += (
                line["compiles"]["compiled"] + line["compiles"]["cached"]
            )
    assert asked["step1-tokens1K"] > 5 and asked["step10-tokens10K"] == 0


def test_a_process_with_kept_programs_compiles_none_of_them(command, whole, tmp_path):
    """The same work again, after the folder was moved: as many programs, and each that was kept is
    read.
    """
    moved = shutil.copytree(whole, tmp_path / "moved", ignore=shutil.ignore_patterns("cells"))
    process = command(moved)
    said, error = process.communicate()
    assert process.returncode == 0, error
    cold, *_, warm = compiled(moved)
    assert cold["written"] and cold["cached"] == 0
    assert (
        warm["cached"] >= cold["written"] and warm["compiled"] + warm["cached"] == cold["compiled"]
    )
    assert re.fullmatch(
        rf"compiled {warm['compiled']} programs in \d+\.\d s, {warm['cached']} from the cache\n",
        said,
    )


def test_the_report_of_a_real_run(whole):
    page = report.write_report(whole)
    assert (
        "None: every score that the configuration asks for is there."
        in pathlib.Path(page).read_text()
    )
    assert len(loading.load(whole, 50).cells) == 12


def test_provenance_says_what_the_number_is(whole):
    store = Store.open(whole)
    trained = {record.key: record for record in store.records("train")}
    for record in store.records():
        source = record.provenance
        assert source.tokenizer and source.jax and source.devices and source.data
        assert record.protocol == "strict" and record.seconds > 0 and record.scoring.rows == 6
        assert source.checkpoint["files"]["model.safetensors"]
        assert not record.model.tuned_on or source.model in trained
    assert len(trained) == 2 and all(one.metrics["steps"] == 8 for one in trained.values())


def test_one_failing_cell_does_not_cost_the_others(series, tmp_path):
    """A set whose data cannot be read fails alone, by name."""
    data = tmp_path / "data"
    shutil.copytree(series.data, data)
    lines = (data / "lab_events/test.jsonl").read_text().splitlines()
    (data / "lab_events/test.jsonl").write_text("\n".join([lines[0], '{"broken": ', *lines[2:]]))
    config = study_of(
        series, tmp_path / "study", data_root=str(data), fine_tunes=(), select="log:1"
    )
    config = dataclasses.replace(
        config,
        formats=("default",),
        evals=(EvalSet("lab_events", Role.MULTIPLE_CHOICE), EvalSet("lab_nli")),
    )
    (failure,) = run(config)
    assert "lab_events" in failure and "not JSON" in failure
    assert [record.task for record in Store.open(config.workdir).records()] == ["lab_nli"]
    (line,) = loading.load(config.workdir, 50).missing.to_dict("records")
    assert line["task"] == "lab_events" and "not JSON" in line["why"]


@pytest.mark.parametrize("block", ["train_run", "score_run"])
def test_a_mesh_that_does_not_fit_is_refused_before_anything_is_done(series, tmp_path, block):
    config = study_of(series, tmp_path / "study")
    changed = dataclasses.replace(getattr(config, block), mesh="data:3")
    config = dataclasses.replace(config, **{block: changed})
    with pytest.raises(ConfigError, match="does not fill 8 devices") as caught:
        run(config)
    assert caught.value.where == f"config.{block}.mesh=data:3" and not (tmp_path / "study").exists()


def test_training_and_scoring_each_on_its_mesh(series, tmp_path, monkeypatch):
    """The training is not done: its mesh, and that of what it was given, are looked at."""
    seen = []

    def fine_tune(params, config, examples, recipe, run, *, mesh, **_):
        seen.extend([mesh.shape, params["embed"]["embedding"].sharding.mesh.shape])
        return Trained(params, params, 1, 0.5, 1, 1.0)

    def evaluate(scorer, params, *_, **__):
        seen.append(params["embed"]["embedding"].sharding.mesh.shape)
        raise DataError("not scored")

    monkeypatch.setattr(train_run, "fine_tune", fine_tune)
    monkeypatch.setattr(score_run, "evaluate", evaluate)
    config = study_of(
        series,
        tmp_path / "study",
        formats=("default",),
        select="log:1",
        evals=(EvalSet("lab_nli"),),
        train_run=TrainRun(mesh="fsdp:8"),
        score_run=ScoreRun(mesh="data:4,tensor:2"),
    )
    run(config)
    train, score = {"data": 1, "fsdp": 8, "tensor": 1}, {"data": 4, "fsdp": 1, "tensor": 2}
    assert seen == [score, train, train, score]


def test_a_damaged_checkpoint_does_not_cost_the_others(series, tmp_path):
    shutil.copytree(series.checkpoints, tmp_path / "series")
    broken = tmp_path / "series/step1-tokens1K/model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1000])
    config = study_of(
        series,
        tmp_path / "study",
        suite=str(tmp_path / "series"),
        fine_tunes=(),
        formats=("default",),
    )
    config = dataclasses.replace(config, evals=(EvalSet("lab_nli"),))
    (failure,) = run(config)
    assert "step1-tokens1K" in failure
    records = Store.open(config.workdir).records()
    assert [record.model.checkpoint for record in records] == ["step10-tokens10K"]


def test_checkpoints_of_different_context_get_prompts_of_their_own(series, tmp_path):
    """A second checkpoint with a shorter context: nothing fitted to the first one's is reused."""
    shutil.copytree(series.checkpoints, tmp_path / "series")
    short = tmp_path / "series/step10-tokens10K/config.json"
    values = json.loads(short.read_text())
    short.write_text(json.dumps(values | {"max_position_embeddings": 48}))
    config = study_of(
        series,
        tmp_path / "study",
        suite=str(tmp_path / "series"),
        formats=("default",),
        shots=(4,),
        evals=(EvalSet("lab_nli", of=("lab_nli",)),),
    )
    assert run(config) == []
    store = Store.open(config.workdir)
    longest = {"step1-tokens1K": 0, "step10-tokens10K": 0}
    for record in store.records():
        rows = store.rows(record.key)
        name = record.model.checkpoint
        longest[name] = max(longest[name], int(rows["context_tokens"].max()))
    assert longest["step1-tokens1K"] > 48 >= longest["step10-tokens10K"]


def test_equal_weights_are_said_and_noted(series, tmp_path):
    shutil.copytree(series.checkpoints, tmp_path / "series")
    shutil.rmtree(tmp_path / "series/step10-tokens10K")
    shutil.copytree(tmp_path / "series/step1-tokens1K", tmp_path / "series/step10-tokens10K")
    config = study_of(
        series,
        tmp_path / "study",
        suite=str(tmp_path / "series"),
        fine_tunes=(),
        formats=("default",),
        evals=(EvalSet("lab_nli"),),
    )
    said = []
    revisions = list_revisions(config.suite)
    assert executor.run(config, revisions, report=said.append) == []
    assert any("step10-tokens10K has the same weights as step1-tokens1K" in line for line in said)
    made = plan.read_plan(Store.open(config.workdir).storage)
    assert made.duplicates == {"step10-tokens10K": "step1-tokens1K"}


@pytest.mark.parametrize("damage", ["rows", "record"])
def test_a_damaged_cell_is_said_and_computed_again(series, tmp_path, damage):
    config = study_of(
        series,
        tmp_path / "study",
        fine_tunes=(),
        select="log:1",
        formats=("default",),
        evals=(EvalSet("lab_nli"), EvalSet("lab_nli_ood")),
    )
    assert run(config) == []
    store, said = Store.open(config.workdir), []
    key = sorted(store.keys())[0]
    before = store.rows(key)
    name = "rows.parquet" if damage == "rows" else "cell.json"
    path = tmp_path / "study/cells" / key / name
    path.write_bytes(path.read_bytes()[:-10] if damage == "rows" else b"")
    assert len(loading.load(config.workdir, 50).missing) == 1
    assert executor.run(config, list_revisions(config.suite, "log:1"), report=said.append) == []
    assert any("is damaged and computed again" in line for line in said)
    pd.testing.assert_frame_equal(store.rows(key), before, rtol=1e-5, atol=1e-6)


def test_finished_cells_of_another_workdir_are_taken_over(series, tmp_path):
    config = study_of(
        series,
        tmp_path / "first",
        fine_tunes=(),
        formats=("default",),
        evals=(EvalSet("lab_nli"),),
    )
    assert run(config) == []
    second = {"workdir": str(tmp_path / "second"), "reuse": (config.workdir,)}
    asked, revisions = dataclasses.replace(config, **second), list_revisions(config.suite)
    said = study_plan.describe(asked, revisions).splitlines()[0]
    assert said.endswith(
        "to do: 0 fine-tunings, 0 scores; taken over from other workdirs: 2 scores"
    )
    other = dataclasses.replace(asked, scoring=dataclasses.replace(asked.scoring, rows=5))
    assert "to do: 0 fine-tunings, 2 scores" in study_plan.describe(other, revisions)
    assert run(config, **second) == []
    store = Store.open(second["workdir"])
    assert len(store.records()) == 2
    assert not [line for line in store.read_log() if line["event"] == "started"]


def test_base_models_are_scored_in_an_object_store(tiny_study):
    """One that neither jax nor orbax reaches: programs are not kept, and nothing is trained."""
    object_store.register()
    workdir = f"{object_store.SCHEME}://bucket/study"
    base = (EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),)
    only = {"workdir": workdir, "fine_tunes": (), "evals": base, "select": "log:1"}
    assert run(tiny_study, **only) == []
    (record,) = Store.open(workdir).records()
    assert record.metrics["n"] == 6 and not Store.open(workdir).problem(record.key)
