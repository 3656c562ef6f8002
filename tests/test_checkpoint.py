"""Model folders and training states: strict, atomic, exact, on any mesh."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from amuro_jax import array_store, checkpoint, sharding
from amuro_jax.errors import AmuroError, CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import flatten, init_params

CONFIG = ModelConfig("olmo", 64, 16, 2, 2, 2, 8, 32, 64)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, 0)


@pytest.fixture
def folder(params, tmp_path):
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    checkpoint.save_model(
        tmp_path / "model", params, CONFIG, tokenizer, {"source": "test", "created": "now"}
    )
    return tmp_path / "model"


def assert_equal(a, b):
    a, b = flatten(a), flatten(b)
    assert set(a) == set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(
            np.asarray(a[name]), np.asarray(b[name])
        ), name


def test_what_is_saved_comes_back(folder, params):
    assert_equal(checkpoint.load_params(folder), params)
    assert checkpoint.read_config(folder) == CONFIG
    assert checkpoint.read_provenance(folder)["source"] == "test"
    assert (folder / "tokenizer" / "tokenizer.json").read_text() == "{}"


def test_onto_a_mesh_and_back(folder, params, tmp_path):
    mesh = sharding.make_mesh("fsdp:4,tensor:2")
    placed = checkpoint.load_params(folder, mesh=mesh)
    assert len(placed["layers"]["mlp"]["up"]["kernel"].sharding.device_set) == 8
    assert_equal(placed, params)
    checkpoint.save_model(tmp_path / "again", placed, CONFIG, folder / "tokenizer", {})
    assert_equal(checkpoint.load_params(tmp_path / "again"), params)


def test_dtype_is_changed_only_when_asked(folder, params, tmp_path):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    checkpoint.save_model(tmp_path / "half", half, CONFIG, folder / "tokenizer", {})
    assert_equal(checkpoint.load_params(tmp_path / "half"), half)
    assert (
        checkpoint.load_params(tmp_path / "half", dtype=jnp.float32)["embed"]["embedding"].dtype
        == np.float32
    )
    assert (
        checkpoint.load_params(folder, dtype=jnp.bfloat16)["embed"]["embedding"].dtype
        == ml_dtypes.bfloat16
    )


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda p: p["layers"]["mlp"].pop("gate"),
            "1 parameters are missing, first layers/mlp/gate/kernel",
        ),
        (
            lambda p: p.update(extra=np.zeros(3, np.float32)),
            "1 parameters are not in the model, first extra",
        ),
        (
            lambda p: p["embed"].update(embedding=np.zeros((63, 16), np.float32)),
            r"shape \(63, 16\), the model wants \(64, 16\)",
        ),
    ],
)
def test_a_wrong_tree_is_not_saved(folder, params, tmp_path, change, message):
    wrong = jax.tree.map(lambda leaf: leaf, params)
    change(wrong)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.save_model(tmp_path / "wrong", wrong, CONFIG, folder / "tokenizer", {})
    assert not (tmp_path / "wrong").exists()


def test_another_model_than_the_folder_holds_is_refused(folder):
    with pytest.raises(CheckpointError, match="the model wants"):
        checkpoint.load_params(folder, dataclasses.replace(CONFIG, mlp_size=48))


def test_failed_save_leaves_the_old_folder(folder, params, tmp_path):
    with pytest.raises(AmuroError, match="no tokenizer folder"):
        checkpoint.save_model(folder, params, CONFIG, tmp_path / "no such folder", {})
    assert_equal(checkpoint.load_params(folder), params)
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_missing_and_damaged_folders(folder, tmp_path):
    with pytest.raises(CheckpointError, match="model.json is missing"):
        checkpoint.load_params(tmp_path / "nothing")
    (folder / "params" / "_METADATA").write_text("{")
    with pytest.raises(CheckpointError, match="_METADATA is missing, or not what was written"):
        checkpoint.load_params(folder)


def test_identity_is_content_apart_from_provenance(params, folder, tmp_path):
    def save(name, values=params, config=CONFIG, tokenizer=folder / "tokenizer", **provenance):
        checkpoint.save_model(tmp_path / name, values, config, tokenizer, provenance)
        return checkpoint.read_identity(tmp_path / name)

    first = save("a", created="1", source="here", revision="main", loss=3.0)
    assert first == save("b", created="2", source="there") == checkpoint.read_identity(folder)
    assert first.key == checkpoint.model_hash(tmp_path / "a")
    mesh = sharding.make_mesh("fsdp:4,tensor:2")
    assert first == save("mesh", checkpoint.load_params(folder, mesh=mesh))
    changed = jax.tree.map(np.array, params)
    changed["embed"]["embedding"][3, 5] += 1e-6
    other = save("c", changed)
    assert other.parameters != first.parameters and other.key != first.key
    assert save("d", config=dataclasses.replace(CONFIG, eos_ids=(1,))).config != first.config
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text("{ }")
    assert save("e", tokenizer=tmp_path / "t").tokenizer != first.tokenizer


def test_identity_of_a_training_is_its_key(params, folder, tmp_path):
    checkpoint.save_model(
        tmp_path / "m", params, CONFIG, folder / "tokenizer", {"source": "x"}, identity="key 1"
    )
    assert checkpoint.read_identity(tmp_path / "m").key == "key 1"


def flipped(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_byte_in_any_file_of_the_parameters_is_an_error(folder, place):
    files = [path for path in (folder / "params").rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        good = path.read_bytes()
        offset = {"first": 0, "middle": len(good) // 2, "last": len(good) - 1}[place]
        if path.name.startswith("checksums.") and offset == len(good) - 1:
            continue  # the closing brace: not JSON any more, or the same values
        flipped(path, offset)
        with pytest.raises(CheckpointError):
            checkpoint.load_params(folder)
        path.write_bytes(good)
    checkpoint.load_params(folder)


def test_a_flipped_byte_of_a_chunk_names_the_array_on_a_mesh_too(
    params, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(array_store, "SMALL_FILE", 0)  # as if the files were large
    checkpoint.save_model(tmp_path / "m", params, CONFIG, folder / "tokenizer", {})
    data = max((tmp_path / "m" / "params").rglob("*"), key=lambda path: path.stat().st_size)
    flipped(data, data.stat().st_size // 2)
    for mesh in (None, sharding.make_mesh("fsdp:4,tensor:2")):
        with pytest.raises(CheckpointError, match="chunk .* of .* (is not what|cannot be read)"):
            checkpoint.load_params(tmp_path / "m", mesh=mesh)


@pytest.mark.parametrize("text", ["[]", '{"rope": {"nonsense": 1}}', '{"eos_ids": 3}', "{}"])
def test_a_damaged_configuration_is_one_clean_error(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a model configuration"):
        checkpoint.load_params(folder)


def test_a_folder_without_its_marker_is_not_finished(folder):
    assert checkpoint.is_model(folder)
    (folder / checkpoint.MARKER).unlink()
    assert not checkpoint.is_model(folder)
    with pytest.raises(CheckpointError, match="not a finished model folder"):
        checkpoint.load_params(folder)


def test_missing_checksums_and_an_array_that_they_do_not_describe(folder):
    path = folder / "params" / "checksums.0.json"
    values = json.loads(path.read_text())
    values["arrays"]["embed/embedding"]["values"] = {}
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="chunk 0.0 of embed/embedding"):
        checkpoint.load_params(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match="no checksums"):
        checkpoint.load_params(folder)


def test_training_state_keeps_every_dtype(tmp_path):
    state = {
        "step": jnp.int32(7),
        "params": {"w": jnp.arange(6.0).reshape(2, 3)},
        "moment": {"w": jnp.ones((2, 3), jnp.bfloat16)},
    }
    checkpoint.save_tree(tmp_path / "state", state)
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    assert_equal(checkpoint.restore_tree(tmp_path / "state", target), state)
    stored = flatten(checkpoint.stored_tree(tmp_path / "state"))
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in stored.items()} == {
        n: (l.shape, l.dtype) for n, l in flatten(state).items()
    }
