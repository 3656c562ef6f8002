"""The verbs that ask, import, merge and compare, as a user calls them."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from amuro_jax.results.store import Store
from tests.interchange.test_lm_eval import written
from tests.study import synthetic

SCORES = "model,step,task,value,stderr\nm,1,piqa,0.5,0.01\nm,2,piqa,0.75,0.01\n"


def amuro(root, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "amuro_jax", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, root):
    """Two imports that differ in one score, and a small study."""
    folder = tmp_path_factory.mktemp("verbs")
    for name, text in (("a", SCORES), ("b", SCORES.replace("0.75", "0.875"))):
        (folder / f"{name}.csv").write_text(text)
        done = amuro(root, "import", "--format=csv", f"--workdir={name}", f"{name}.csv", cwd=folder)
        assert done.returncode == 0 and "2 scores imported, 2 of them new" in done.stdout, done
    synthetic.make_store(folder / "study", rows=6, steps=(16, 1600))
    return folder


def test_results_are_selected_grouped_and_written(stores, root):
    done = amuro(root, "results", "a", "--where=value>0.6", "--format=csv", cwd=stores)
    assert done.returncode == 0 and done.stdout.splitlines()[0].startswith("key,suite,checkpoint")
    assert len(done.stdout.splitlines()) == 2
    done = amuro(root, "results", "a", "--group=task", "--format=json", cwd=stores)
    (line,) = json.loads(done.stdout)
    assert (line["task"], line["scores"], line["mean"]) == ("piqa", 2, 0.625)
    done = amuro(root, "results", "a", "--columns=task,task", "--format=json", cwd=stores)
    assert json.loads(done.stdout) == [{"task": "piqa"}] * 2
    for flags, why in (
        (["--group=task,tsk"], "no column 'tsk'\n  where: --group"),
        (["--group=task", "--columns=value"], "a grouped table has columns of its own"),
    ):
        done = amuro(root, "results", "a", *flags, cwd=stores)
        assert done.returncode == 2 and why in done.stderr
    where = "--where=task=='lab_nli' and tuned_on==''"
    out = ("--rows", "--format=parquet", "--out=rows.parquet")
    done = amuro(root, "results", "--workdir=study", where, *out, cwd=stores)
    assert done.returncode == 0 and len(pd.read_parquet(stores / "rows.parquet")) == 24


def test_a_condition_runs_nothing(stores, root):
    where = "--where=__import__('os').system('touch ran')==0"
    done = amuro(root, "results", "a", where, cwd=stores)
    assert done.returncode == 2 and "is no comparison" in done.stderr
    assert not (stores / "ran").exists()


def test_merge_names_conflicts_and_diff_says_by_how_much(stores, root):
    done = amuro(root, "merge", "a", "b", "--into=c", "--conflicts=c.csv", cwd=stores)
    assert done.returncode == 2 and "1 cells have two values" in done.stderr
    assert len(pd.read_csv(stores / "c.csv")) == 1 and not (stores / "c").exists()
    done = amuro(root, "merge", "a", "b", "--into=c", "--keep=b", cwd=stores)
    assert done.returncode == 0 and sorted(Store.open(stores / "c").frame()["value"]) == [
        0.5,
        0.875,
    ]
    done = amuro(root, "diff", "a", "c", cwd=stores)
    assert "1 scores have another value" in done.stdout
    assert "+0.1250 [+0.0973, +0.1527]" in done.stdout and "source" in done.stdout
    for verb in (("diff", "aa", "b"), ("merge", "a", "bb", "--into=d"), ("results", "aa")):
        done = amuro(root, *verb, cwd=stores)
        assert done.returncode == 2 and "no results here" in done.stderr
        assert not (stores / "d").exists()
    done = amuro(root, "diff", "a", cwd=stores)
    assert done.returncode == 2 and "two stores are compared, 1 given" in done.stderr


def test_metrics_are_not_averaged_with_each_other(tmp_path, root):
    lines = "model,step,task,metric,value\nm,1,piqa,acc,0.5\nm,1,piqa,ppl,20\nm,2,piqa,acc,0.75\n"
    (tmp_path / "t.csv").write_text(lines)
    amuro(root, "import", "--format=csv", "--workdir=w", "t.csv", cwd=tmp_path)
    done = amuro(root, "results", "w", "--group=task", cwd=tmp_path)
    assert done.returncode == 2 and "no mean: accuracy, ppl" in done.stderr
    grouped = ("--group=task,metric,task", "--format=json")
    done = amuro(root, "results", "w", *grouped, cwd=tmp_path)
    assert {one["metric"]: one["mean"] for one in json.loads(done.stdout)} == {
        "accuracy": 0.625,
        "ppl": 20,
    }


def test_files_of_the_harness_come_in_by_the_verb(tmp_path, root):
    found = written(tmp_path)
    command = ("import", "--format=lm-eval", "--workdir=w", *(path.name for path in found))
    done = amuro(root, *command, "--suite=own", "--checkpoint=step7", cwd=tmp_path)
    assert done.returncode == 0 and "2 scores imported, 2 of them new" in done.stdout, done
    frame = Store.open(tmp_path / "w").frame()
    assert set(frame["suite"]) == {"own"} and set(frame["checkpoint"]) == {"step7"}
    done = amuro(root, "import", "--format=csv", "--workdir=w", "--suite=x", "t.csv", cwd=tmp_path)
    assert (
        done.returncode == 2 and "--suite and --checkpoint are for --format=lm-eval" in done.stderr
    )


def test_a_step_has_at_least_one_token(tmp_path, root):
    (tmp_path / "t.csv").write_text(SCORES)
    command = ("import", "--format=csv", "--workdir=w", "t.csv")
    for tokens in (0, -1):
        done = amuro(root, *command, f"--tokens_per_step={tokens}", cwd=tmp_path)
        assert done.returncode == 2 and "--tokens_per_step" in done.stderr, done
        assert "a positive integer" in done.stderr and not (tmp_path / "w").exists()
    done = amuro(root, *command, "--tokens_per_step=1", cwd=tmp_path)
    assert done.returncode == 0 and set(Store.open(tmp_path / "w").frame()["tokens"]) == {1, 2}


def test_damaged_cells_are_said(stores, root, tmp_path):
    shutil.copytree(stores / "study", tmp_path / "study")
    cell = min((tmp_path / "study" / "cells").glob("*/cell.json"))
    cell.write_text("")
    for verb in (("results", "study"), ("merge", "study", "study", "--into=d")):
        done = amuro(root, *verb, cwd=tmp_path)
        assert done.returncode == 0 and "study: 1 damaged cells are left out" in done.stderr
        assert cell.parent.name in done.stderr
    done = amuro(root, "diff", "study", stores / "study", cwd=tmp_path)
    assert "1 damaged cells" in done.stderr and done.stdout.splitlines()[1].startswith("1 scores")


def test_status_and_gc(stores, root):
    done = amuro(root, "status", "study", cwd=stores)
    assert done.returncode == 0 and "of 4 fine-tunings are done" in done.stdout
    done = amuro(root, "gc", "study", "--dry_run", cwd=stores)
    assert done.returncode == 0 and "would go, 0 parts" in done.stdout
