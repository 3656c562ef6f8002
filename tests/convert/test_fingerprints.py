"""Checkpoints with the same weights are told from file hashes and a few pieces of the files."""

import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from amuro_jax.convert import containers, fingerprints


def test_folders_that_are_not_converted(olmo_hf, tmp_path):
    """Unequal ones are told by a few pieces; equal ones are hashed whole."""
    names = [str(tmp_path / name) for name in ("a", "b", "c")]
    for name in names:
        shutil.copytree(olmo_hf, name)
    file = containers.weight_files(tmp_path / "b")[0]
    tensors = load_file(file)
    save_file({key: value + np.float32(0.01) for key, value in tensors.items()}, file)
    same, unknown = fingerprints.duplicates(names, tmp_path / "cache")
    assert same == {names[2]: names[0]} and unknown == []


def test_a_name_that_cannot_be_looked_up_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fingerprints.duplicates(["a/b", "a/c"], tmp_path) == ({}, ["a/b", "a/c"])
