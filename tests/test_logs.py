"""Metrics of a run, on a disk and in an object store."""

import json
from pathlib import Path

import pytest

from amuro_jax import logs
from amuro_jax.errors import AmuroError
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
