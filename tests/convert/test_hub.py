"""Downloads against a local server: resumed, checked, recorded, offline, with a token.

Every failure one clean error.
"""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest

from amuro_jax import checkpoint, convert
from amuro_jax.convert import revisions
from amuro_jax.errors import AmuroError, CheckpointError
from tests.convert.hub_server import COMMIT, Hub, serve


@pytest.fixture
def hub(olmo_hf, monkeypatch):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    hub = Hub(olmo_hf)
    with serve(hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield hub


def test_download_converts_and_records_the_commit(hub, olmo_converted, tmp_path):
    folder = convert.open_checkpoint("org/model@step1000-tokens4B", tmp_path)
    provenance = checkpoint.read_provenance(folder)
    assert (provenance["source"], provenance["revision"], provenance["commit"]) == (
        "org/model",
        "step1000-tokens4B",
        COMMIT,
    )
    mine, theirs = checkpoint.load_params(folder), checkpoint.load_params(olmo_converted)
    assert np.array_equal(mine["embed"]["embedding"], theirs["embed"]["embedding"])
    assert checkpoint.read_identity(folder) == checkpoint.read_identity(olmo_converted)


def test_connection_cut_in_the_middle_is_resumed_where_it_stopped(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 500
    )  # what is lost of a cut stream: 10 MB
    hub.cuts.append("model.safetensors")
    convert.open_checkpoint("org/model", tmp_path)
    ranges = [
        header
        for method, path, header in hub.log
        if method == "GET" and path.endswith("model.safetensors")
    ]
    assert ranges[0] is None and ranges[1] == "bytes=1000-"


def test_file_whose_hash_does_not_match_is_refused_and_deleted(hub, tmp_path):
    hub.lies.append("model.safetensors")
    with pytest.raises(CheckpointError, match=r"sha256 is [0-9a-f]{64}, the Hub says") as error:
        convert.open_checkpoint("org/model", tmp_path)
    assert "model.safetensors" in str(error.value) and not list(
        tmp_path.glob("converted/*/model.json")
    )
    hub.lies.clear()
    assert convert.open_checkpoint("org/model", tmp_path).is_dir()


def test_small_file_whose_git_hash_does_not_match(hub, tmp_path):
    hub.lies.append("config.json")
    with pytest.raises(CheckpointError, match="sha1 is"):
        convert.open_checkpoint("org/model", tmp_path)


def test_second_time_nothing_is_downloaded_even_if_the_download_was_evicted(hub, tmp_path):
    first = convert.open_checkpoint("org/model", tmp_path)
    shutil.rmtree(tmp_path / "hub")
    hub.log.clear()
    assert convert.open_checkpoint("org/model", tmp_path) == first
    assert not [path for _, path, _ in hub.log if "/resolve/" in path]


def test_offline_uses_what_is_there_and_names_what_is_not(hub, tmp_path):
    with pytest.raises(CheckpointError, match="offline"):
        convert.open_checkpoint("org/model", tmp_path, offline=True)
    folder = convert.open_checkpoint("org/model", tmp_path)
    hub.log.clear()
    assert convert.open_checkpoint("org/model", tmp_path, offline=True) == folder
    shutil.rmtree(tmp_path / "converted")
    assert (
        convert.open_checkpoint("org/model", tmp_path, offline=True) == folder
    )  # converted again from the download
    assert not hub.log


def test_unknown_model_revision_and_unreachable_hub(hub, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="no such model"):
        convert.open_checkpoint("org/other", tmp_path)
    with pytest.raises(CheckpointError, match="no such revision"):
        convert.open_checkpoint("org/model@step7", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AmuroError, match="cannot be reached|download failed"):
        convert.open_checkpoint("org/model", tmp_path / "new")


def test_gated_model_needs_a_token(hub, tmp_path):
    hub.token = "hf_secret"
    with pytest.raises(CheckpointError, match="access to this model"):
        convert.open_checkpoint("org/model", tmp_path, token=False)
    assert convert.open_checkpoint("org/model", tmp_path, token="hf_secret").is_dir()
    assert "hf_secret" not in json.dumps(
        checkpoint.read_provenance(
            convert.open_checkpoint("org/model", tmp_path, token="hf_secret")
        )
    )


def test_revisions_come_from_the_hub_and_are_remembered(hub, tmp_path):
    hub.repository = "allenai/OLMo-1B-hf"
    found = revisions.list_revisions("allenai/OLMo-1B-hf", "all", tmp_path)
    assert [(r.revision, r.step, r.tokens) for r in found] == [
        ("step1000-tokens4B", 1000, 4 * 10**9),
        ("step2000-tokens8B", 2000, 8 * 10**9),
        ("main", 738020, 3_095_000_000_000),
    ]
    hub.log.clear()
    assert revisions.list_revisions("allenai/OLMo-1B-hf", "all", tmp_path, offline=True) == found
    assert not hub.log


def test_a_revision_with_the_same_files_is_one_conversion_and_no_download(hub, tmp_path):
    hub.revisions["step2000-tokens8B"] = "f" * 40  # another commit, the same files
    first = convert.open_checkpoint("org/model@step1000-tokens4B", tmp_path)
    hub.log.clear()
    assert convert.open_checkpoint("org/model@step2000-tokens8B", tmp_path) == first
    assert not [path for _, path, _ in hub.log if "/resolve/" in path]


def test_weight_fingerprint_tells_the_same_weights_without_a_download(hub, olmo_hf, tmp_path):
    prints = [
        convert.weight_fingerprint(name, tmp_path)
        for name in ("org/model", "org/model@step1000-tokens4B", olmo_hf)
    ]
    assert len(set(prints)) == 1 and prints[0]
    assert not [path for _, path, _ in hub.log if "/resolve/" in path]
    folder = convert.open_checkpoint(olmo_hf, tmp_path)
    assert convert.weight_fingerprint(folder, tmp_path) == prints[0]
    hub.records["model.safetensors"]["lfs"]["sha256"] = "0" * 64
    assert convert.weight_fingerprint("org/model", tmp_path) != prints[0]
