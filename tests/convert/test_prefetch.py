"""The prefetcher: one ahead, within its budget, deleting nothing that is not its own."""

import shutil
import threading
import time

import pytest

from amuro_jax.convert import importer, resolver
from amuro_jax.convert.prefetch import Prefetcher, folder_bytes
from amuro_jax.errors import CheckpointError, ConfigError
from tests.convert import builders

torch = pytest.importorskip("torch", reason="makes the checkpoints")
transformers = pytest.importorskip("transformers", reason="makes the checkpoints")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Four checkpoints of 2 MB that differ."""
    parent = tmp_path_factory.mktemp("series")
    config = transformers.LlamaConfig(
        **{**builders.SIZES, "vocab_size": 8192, "num_hidden_layers": 1}
    )
    for step in range(1, 5):
        torch.manual_seed(step)
        transformers.LlamaForCausalLM(config).save_pretrained(parent / f"step{step}")
    return sorted(parent.iterdir())


def test_gives_every_folder_in_order(series, tmp_path):
    with Prefetcher(series, tmp_path) as prefetcher:
        paths = list(prefetcher)
    assert len(set(paths)) == 4 and paths == [
        resolver.find_converted(name, tmp_path) for name in series
    ]


def test_the_next_is_converted_while_the_current_is_in_use(series, tmp_path, monkeypatch):
    converted, real = [], importer.convert
    done = threading.Event()

    def spy(folder, *args, **kwargs):
        real(folder, *args, **kwargs)
        converted.append(folder)
        if len(converted) == 2:
            done.set()

    monkeypatch.setattr(importer, "convert", spy)
    with Prefetcher(series, tmp_path) as prefetcher:
        next(prefetcher)
        assert done.wait(20)
        assert converted == series[:2]  # one ahead, not all


def test_budget_evicts_what_was_used_and_keeps_what_is_in_use(series, tmp_path):
    size = max(resolver.disk_needed(name, tmp_path) for name in series)
    seen = []
    with Prefetcher(series, tmp_path, budget=int(size * 1.5)) as prefetcher:
        for path in prefetcher:
            time.sleep(0.5)  # so that the thread, which prepares the next, would get at this one
            assert resolver.is_converted(path)
            seen.append(path)
            assert sum(resolver.is_converted(path) for path in seen) == 1
            assert folder_bytes(tmp_path / "converted") <= size * 1.5
    assert len(seen) == 4


def test_budget_with_room_for_two_still_runs_ahead_and_keeps_what_comes_again(
    series, tmp_path, monkeypatch
):
    converted, real = [], importer.convert
    monkeypatch.setattr(
        importer,
        "convert",
        lambda folder, *a, **k: (converted.append(folder), real(folder, *a, **k)),
    )
    a, b, c, _ = series
    size = max(resolver.disk_needed(name, tmp_path) for name in series)
    with Prefetcher([a, b, a, c, a], tmp_path, budget=size * 3) as prefetcher:
        for path in prefetcher:
            assert resolver.is_converted(path)
    assert converted == [a, b, c]


def test_finished_names_of_an_earlier_run_are_evicted_first(series, tmp_path):
    old = resolver.open_checkpoint(series[0], tmp_path)
    size = max(resolver.disk_needed(name, tmp_path) for name in series)
    with Prefetcher(
        series[1:2], tmp_path, budget=int(size * 1.5), finished=series[:1]
    ) as prefetcher:
        next(prefetcher)
    assert not old.exists() and series[0].is_dir()


def test_budget_below_one_checkpoint_is_refused(series, tmp_path):
    with (
        Prefetcher(series, tmp_path, budget=1000) as prefetcher,
        pytest.raises(ConfigError, match="disk budget"),
    ):
        next(prefetcher)


def test_a_bad_checkpoint_raises_in_its_turn_and_the_others_go_on(series, tmp_path):
    names = [series[0], tmp_path / "nothing", series[1]]
    with Prefetcher(names, tmp_path / "cache") as prefetcher:
        assert resolver.is_converted(next(prefetcher))
        with pytest.raises(CheckpointError, match="no such folder"):
            next(prefetcher)
        assert resolver.is_converted(next(prefetcher))
        with pytest.raises(StopIteration):
            next(prefetcher)


def test_a_folder_that_is_converted_already_is_never_deleted(series, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(resolver.open_checkpoint(series[0], tmp_path / "other"), mine)
    size = max(resolver.disk_needed(name, tmp_path) for name in series)
    with Prefetcher(
        [mine, series[1], series[2]], tmp_path / "cache", budget=int(size * 1.2)
    ) as prefetcher:
        for _ in prefetcher:
            pass
    assert resolver.is_converted(mine)


def test_leaving_early_leaves_nothing_half_written(series, tmp_path):
    with Prefetcher(series, tmp_path) as prefetcher:
        next(prefetcher)
    assert all(
        resolver.is_converted(path)
        for path in (tmp_path / "converted").iterdir()
        if not path.name.endswith(".lock")
    )
