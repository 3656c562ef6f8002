"""One interface over a folder and an object store: whole files, units with a marker, logs."""

import concurrent.futures
import logging
import os
import pickle
import time
from pathlib import Path

import pytest
from etils import epath

from amuro_jax.errors import AmuroError
from amuro_jax.storage import LocalStorage, Storage


@pytest.fixture
def storage(storage_url):
    """An empty storage."""
    return Storage.open(storage_url)


def test_files_are_written_read_listed_and_deleted(storage):
    assert storage.names() == [] and not storage.exists("a/b.txt") and storage.get("a") is None
    storage.replace("a/b.txt", "é")
    storage.replace("a/b.txt", "two")
    storage.write_json("c.json", {"z": 1, "a": [2]})
    assert storage.read_text("a/b.txt") == "two" and storage.read_json("c.json")["a"] == [2]
    sizes = {name: size for name, (size, _) in storage.listing().items()}
    assert sizes == {"a/b.txt": 3, "c.json": len(storage.read_bytes("c.json"))}
    assert storage.get_many(["c.json", "a/b.txt", "none"])["a/b.txt"] == b"two"
    assert storage.get_many(["none"]) == {"none": None} and storage.get_many([]) == {}
    assert storage.names("a") == ["a/b.txt"] and storage.size("a") is None
    child = storage.child("a")
    assert child.url == f"{storage}/a" and child == storage / "a" and child.exists("b.txt")
    assert storage.names("b") == [] and storage.names("a/b") == []
    storage.delete("a"), storage.delete("nothing")
    assert storage.names() == ["c.json"]
    child.delete(), storage.delete()
    assert storage.names() == []


def test_faults_name_the_url(storage):
    storage.replace("bad.json", "{")
    storage.replace("bad.txt", b"\xff")
    for name, said in (
        ("none", "no such file"),
        ("bad.json", "not valid JSON"),
        ("bad.txt", "UTF"),
    ):
        with pytest.raises(AmuroError, match=said) as caught:
            storage.read_json(name)
        assert caught.value.where == f"{storage.url}/{name}"
    for name in ("../x", "/x", "a/../../x"):
        with pytest.raises(AmuroError, match="within its storage"):
            storage.replace(name, "")


def test_what_is_written_once_stays(storage):
    assert storage.write_once("a/x", "first") and not storage.write_once("a/x", "second")
    assert storage.read_text("a/x") == "first" and storage.names() == ["a/x"]


def test_of_several_writers_one_is_first(storage):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            won = list(pool.map(lambda who: storage.write_once(f"{turn}", f"{who}"), range(8)))  # noqa: B023
            assert won.count(True) == 1
            assert storage.read_text(f"{turn}") == str(won.index(True))


def test_a_writer_that_looked_too_early_creates_nothing(storage, monkeypatch):
    assert storage.write_once("x", "first")
    monkeypatch.setattr(type(storage), "exists", lambda *_: False)
    assert not storage.write_once("x", "second") and storage.read_text("x") == "first"


def test_a_file_system_without_hard_links_still_writes_once(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    storage = Storage.open(tmp_path)
    assert storage.write_once("x", "first") and not storage.write_once("x", "second")
    assert storage.read_text("x") == "first" and storage.names() == ["x"]


def test_a_unit_is_there_with_its_marker(storage, monkeypatch):
    written, replace = [], type(storage).replace

    def record(self, name, data):
        written.append((name, self.exists("cell/cell.json")))
        if name.endswith("rows") and data == b"fail":
            raise AmuroError("killed")
        replace(self, name, data)

    monkeypatch.setattr(type(storage), "replace", record)
    cell = storage.child("cell")
    cell.commit({"cell.json": "{}", "rows": b"1"}, marker="cell.json")
    assert [name for name, _ in written] == ["rows", "cell.json"] and cell.exists("cell.json")
    with pytest.raises(AmuroError, match="killed"):
        cell.commit({"cell.json": "{}", "rows": b"fail"}, marker="cell.json")
    assert not cell.exists("cell.json"), "the old marker would vouch for new files"


def test_a_reader_sees_whole_files_only(storage):
    data = [bytes([letter]) * 200_000 for letter in b"ab"]
    storage.replace("x", data[0])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [storage.replace("x", data[i % 2]) for i in range(100)])
        while not writing.done():
            assert storage.read_bytes("x") in data
        writing.result()
    assert storage.names() == ["x"]


def test_a_log_of_several_writers_is_read_in_time(storage):
    others = [Storage.open(storage.url), pickle.loads(pickle.dumps(storage))]
    storage.append("log", {"time": 3.0, "who": 0})
    others[0].append("log", {"time": 1.0, "who": 1}, {"time": 4.0, "who": 1})
    others[1].append("log", {"time": 2.0, "who": 2})
    storage.append("log", {"time": 5.0, "who": 0})
    assert [record["who"] for record in storage.read_log("log")] == [1, 2, 0, 1, 0]
    storage.append("log", {"now": True})
    assert storage.read_log("log")[-1]["time"] > 1e9 and storage.read_log("none") == []
    storage.rewrite_log("log", storage.read_log("log")[:2])
    storage.append("log", {"time": 9.0, "who": 0})
    assert [record["who"] for record in storage.read_log("log")] == [1, 2, 0]


def test_a_long_log_goes_into_several_segments(storage, monkeypatch):
    monkeypatch.setattr("amuro_jax.storage.objects.SEGMENT_LINES", 3)
    for at in range(10):
        storage.append("log", {"time": float(at), "at": at})
    assert [record["at"] for record in storage.read_log("log")] == list(range(10))
    assert len(storage.names()) == (1 if storage.local else 4)


def test_a_line_cut_off_by_a_kill_costs_itself_only(tmp_path):
    storage = Storage.open(tmp_path)
    storage.append("log", {"at": 0})
    with (tmp_path / "log").open("a") as stream:
        stream.write('{"at": 1, "cut')
    storage.append("log", {"at": 2})
    assert [record["at"] for record in storage.read_log("log")] == [0, 2]


def test_scratch_files_of_a_killed_writer_are_not_listed(tmp_path, monkeypatch):
    storage = Storage.open(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(os, "unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        storage.replace("x", "1")
    assert len(list(tmp_path.iterdir())) == 1 and storage.names() == []


def test_a_folder_is_uploaded(storage, tmp_path):
    (tmp_path / "made/deep").mkdir(parents=True)
    (tmp_path / "made/deep/a").write_bytes(b"1")
    (tmp_path / "made/b").write_bytes(b"22")
    storage.upload(tmp_path / "made", "to")
    assert storage.names() == ["to/b", "to/deep/a"] and storage.read_bytes("to/b") == b"22"


def test_a_file_written_anew_has_another_version(storage):
    storage.replace("x", "1")
    first = storage.listing()
    assert storage.listing() == first
    time.sleep(0.01)
    storage.replace("x", "2")
    assert storage.listing()["x"][0] == 1 and storage.listing() != first


def test_a_local_folder_is_a_path_and_an_object_store_is_none(storage, storage_url):
    assert str(storage) == storage_url and storage_url in repr(storage)
    assert Storage.open(storage) is storage and hash(storage) == hash(Storage.open(storage_url))
    if isinstance(storage, LocalStorage):
        assert storage.local == Path(storage_url) == Path(os.fspath(storage))
        assert Storage.open(f"file://{storage_url}") == storage == Storage.open(storage.local)
    else:
        assert storage.local is None
        with pytest.raises(AmuroError, match="local disk"):
            os.fspath(storage)


def test_a_folder_is_an_epath_where_epath_opens_it(storage, tmp_path):
    assert Storage.open(tmp_path).epath() == epath.Path(tmp_path)
    if storage.local is None:
        with pytest.raises(AmuroError, match=r"objects://[\s\S]*gs://"):
            storage.epath()


@pytest.mark.parametrize("url", ["gs://bucket/x", "memory://bucket/x", "s3://a"])
def test_a_url_that_lost_a_slash_is_no_local_folder(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AmuroError, match="lost a slash"):
        Storage.open(Path(url))
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_cannot_be_opened_says_why(monkeypatch):
    import fsspec

    with pytest.raises(AmuroError, match="not a URL"):
        Storage.open("nonsense://x/y")
    with pytest.raises(AmuroError, match="empty"):
        Storage.open("")

    def missing(url):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(AmuroError, match=r"gcsfs[\s\S]*amuro_jax\[gcs\]"):
        Storage.open("gs://bucket/x")


def test_whatever_an_object_store_raises_is_our_error(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    class HttpError(Exception):
        pass

    def fail(*_, **__):
        raise HttpError("403 Forbidden")

    for name in ("cat_file", "info", "find", "pipe_file"):
        monkeypatch.setattr(MemoryFileSystem, name, fail)
    storage = Storage.open("memory://bucket/x")
    for call in (storage.get, storage.size, storage.listing, storage.delete):
        with pytest.raises(AmuroError, match="403") as caught:
            call("name")
        assert caught.value.where == "memory://bucket/x/name" and "credentials" in caught.value.hint
    with pytest.raises(AmuroError, match="403"):
        storage.replace("name", "")
    with pytest.raises(AmuroError, match="403"):
        storage.get_many(["name"])


def test_what_a_store_logs_of_its_faults_is_not_shown(monkeypatch, caplog):
    """gcsfs logs the calls that led to a fault, and raises it: it is told once."""
    from fsspec.implementations.memory import MemoryFileSystem

    def fail(*_, **__):
        logging.getLogger("noisy").error("a screen of calls")
        raise OSError("no network")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    monkeypatch.setattr(MemoryFileSystem, "__module__", "noisy.core")
    with pytest.raises(AmuroError, match="no network"):
        Storage.open("memory://bucket/x").get("name")
    assert caplog.text == ""


def test_units_are_listed_with_their_files(storage):
    for name in (
        "cells/b/x",
        "cells/a/x",
        "cells/a/y",
        "cells/c/other",
        "cells/file",
        "elsewhere/x",
    ):
        storage.replace(name, name)
    listing = storage.listing()
    assert storage.units("cells", ("x", "y")) == {
        "a": [listing["cells/a/x"], listing["cells/a/y"]],
        "b": [listing["cells/b/x"], None],
    }
    assert storage.units("none", ("x",)) == {}
    assert list(storage.units("", ("x",))) == ["elsewhere"]
    with pytest.raises(AmuroError, match="no such file"):
        storage.stream("none")


def test_runs_are_refused_where_parameters_cannot_be_kept(tmp_path, monkeypatch):
    from amuro_jax.config import LabConfig, Recipe, TrainConfig
    from amuro_jax.lab import build
    from amuro_jax.train import run
    from tests import object_store

    object_store.register()
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(task="mnli")
    with pytest.raises(AmuroError, match="cannot be stored at objects://"):
        run.run(TrainConfig(checkpoint="x", recipe=recipe, workdir="objects://bucket/run"))
    with pytest.raises(AmuroError, match="cannot be stored at objects://"):
        build.build(LabConfig(out="objects://bucket/lab"))
    assert list(tmp_path.iterdir()) == []
