"""Metrics of a run, on a disk and in an object store."""

import json
import sys
import time
from pathlib import Path

import pytest

from amuro_jax import logs
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.storage import Storage


def steps(url):
    """Steps of a metrics file."""
    return [line["step"] for line in logs.read_metrics(f"{url}/metrics.jsonl")]


def test_a_resumed_run_has_each_step_once(storage_url):
    assert logs.read_metrics(f"{storage_url}/metrics.jsonl") == []
    for start, end in ((0, 6), (4, 9)):
        writer = logs.MetricsWriter(storage_url, start)
        for step in range(start + 1, end):
            writer.write(step, loss=1.0 / step)
        writer.close()
        assert steps(storage_url) == list(range(1, end))
    lines = logs.read_metrics(f"{storage_url}/metrics.jsonl")
    assert lines[3]["loss"] == 0.25 and lines[3]["seconds"] >= 0
    boards = Storage.open(storage_url).names("tensorboard")
    assert boards and all("tfevents" in name for name in boards)


def test_metrics_reach_an_object_store_while_the_run_goes_on(storage_url, monkeypatch):
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", 0.0)
    writer = logs.MetricsWriter(storage_url, tensorboard=False)
    writer.write(1, loss=1.0)
    assert steps(storage_url) == [1]
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", 60.0)
    for step in range(2, 50):
        writer.write(step, loss=1.0)
    local = Storage.open(storage_url).local
    assert len(steps(storage_url)) == (49 if local else 1)
    writer.close()
    assert len(steps(storage_url)) == 49


def test_a_file_without_times_is_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert logs.read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_a_bucket_that_lost_a_slash_is_no_local_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AmuroError, match="lost a slash"):
        logs.MetricsWriter(Path("gs://bucket/run"))
    assert list(tmp_path.iterdir()) == []


def test_progress_without_a_terminal_is_a_line_each_half_minute(monkeypatch, capsys):
    monkeypatch.delenv("AMURO_PROGRESS", raising=False)
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    with logs.progress_bar(100, "  train paws", initial=20) as bar:
        bar.set_postfix_str("loss 0.5")
        for _ in range(60):
            now[0] += 1.0
            bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train paws: step 50 of 100 (50%), 0.8 minutes left, loss 0.5",
        "train paws: step 80 of 100 (80%), 0.3 minutes left, loss 0.5",
    ]


@pytest.mark.parametrize(
    "asked,mode",
    [("0", "none"), ("none", "none"), ("1", "bar"), ("bar", "bar"), ("lines", "lines"), ("", "")],
)
def test_how_progress_is_shown(monkeypatch, capsys, asked, mode):
    monkeypatch.setenv("AMURO_PROGRESS", asked)
    assert logs.progress_mode() == (mode or "lines")  # stderr is no terminal here
    logs.note("a cell is finished")
    assert capsys.readouterr().err == ("a cell is finished\n" if mode in ("lines", "") else "")


def test_weights_and_biases_gets_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    writer = logs.MetricsWriter(tmp_path, tensorboard=False, wandb="words")
    writer.write(1, loss=0.625)
    writer.close()
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    while b"loss" not in log.read_bytes():  # a service of its own writes it
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert b"0.625" in log.read_bytes()


def test_weights_and_biases_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="not installed"):
        logs.MetricsWriter(tmp_path, tensorboard=False, wandb="words")
