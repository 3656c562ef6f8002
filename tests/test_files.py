"""Writes are whole or absent; errors name file and line; keys depend on content alone."""

import os
import resource

import pytest

from amuro_jax import files
from amuro_jax.errors import AmuroError, DataError
from amuro_jax.storage import Storage


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # the disk is full after 100 bytes
    try:
        with pytest.raises(AmuroError, match="File too large"):
            files.write_json(path, {"a": "2" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_files_are_read_and_written_at_a_url(storage_url):
    files.write_text(f"{storage_url}/a/rows.jsonl", '{"a": "é\u2028"}\n\n{"a": 2}\n')
    rows = list(files.read_jsonl(f"{storage_url}/a/rows.jsonl"))
    assert rows == [(1, {"a": "é\u2028"}), (3, {"a": 2})]
    files.write_bytes(f"{storage_url}/f", b"abc")
    assert files.sha256_file(f"{storage_url}/f").startswith("ba7816bf")
    files.write_json(f"{storage_url}/x.json", [1])
    assert files.read_json(f"{storage_url}/x.json") == [1]


def test_a_folder_in_an_object_store_gets_its_last_file_last(storage_url, monkeypatch):
    storage, written = Storage.open(storage_url), []
    put = type(storage)._put
    monkeypatch.setattr(
        type(storage),
        "_put",
        lambda self, path, name: (written.append(name), put(self, path, name)),
    )
    for text in ("one", "two"):
        with files.atomic_folder(storage_url) as scratch:
            (scratch / "params").mkdir()
            for name in ("provenance.json", "model.json", "params/a", text):
                (scratch / name).write_text(text)
            assert storage.exists("one") == (text == "two")
        kept = sorted(["model.json", "params/a", "provenance.json", text])
        assert storage.names() == kept and storage.read_text("model.json") == text
    if not storage.local:
        assert written[:4] == ["params/a", "model.json", "one", "provenance.json"]
    with pytest.raises(RuntimeError), files.atomic_folder(storage_url):
        raise RuntimeError
    assert storage.exists("two")


def test_atomic_folder_appears_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(RuntimeError), files.atomic_folder(target) as scratch:
        (scratch / "part").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    for text in ("one", "two"):
        with files.atomic_folder(target) as scratch:
            (scratch / "part").write_text(text)
        assert (target / "part").read_text() == text and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "line,found", [("{broken", "not JSON"), ("[1, 2]", "expected a JSON object")]
)
def test_a_bad_line_is_named(tmp_path, line, found):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n' + line + "\n")
    with pytest.raises(DataError, match=f"(?s){found}.*rows.jsonl:3"):
        list(files.read_jsonl(path))


def test_missing_and_damaged_json_name_the_file(tmp_path):
    with pytest.raises(AmuroError, match="no such file"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(AmuroError, match="(?s)not valid JSON.*bad.json"):
        files.read_json(tmp_path / "bad.json")


def test_content_key_ignores_order_and_sees_every_value():
    one = files.content_key({"a": 1, "b": [1, 2]})
    assert one == files.content_key({"b": [1, 2], "a": 1})
    assert one != files.content_key({"a": 1, "b": [2, 1]})
    with pytest.raises(ValueError):
        files.content_key({"a": float("nan")})


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert (
        files.sha256_file(tmp_path / "f")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
