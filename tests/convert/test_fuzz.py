"""Ten thousand mutated headers and pickles: every one is read or refused cleanly, none is executed,
none crashes.
"""

import builtins
import io
import json
import os
import random
import struct
import subprocess
import zipfile

import pytest

from amuro_jax.convert import pickles, safetensors, tensors, torch_zip
from amuro_jax.errors import CheckpointError

torch = pytest.importorskip("torch", reason="makes the checkpoints")

TOKENS = [b"cos\nsystem\n", b"\x93", b"R", b"b", b"o", b"i", b"\x81", b"(", b"0", b"2", b".", b"Q"]
TOKENS += [
    b"j\xff\xff\xff\xff",
    b"r\xff\xff\xff\xff",
    b"\x8b\xff\xff\xff\x7f",
]  # memo slots and lengths of gigabytes


@pytest.fixture
def no_execution(monkeypatch):
    """Anything a hostile pickle would call fails the test."""

    def refuse(*args, **kwargs):
        raise SystemError(f"executed with {args!r}")

    for module, name in (
        (os, "system"),
        (os, "popen"),
        (subprocess, "Popen"),
        (builtins, "eval"),
        (builtins, "compile"),
    ):
        monkeypatch.setattr(module, name, refuse)


def mutate(data: bytes, random_: random.Random) -> bytes:
    data = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 4, 8))):
        at = random_.randrange(len(data)) if data else 0
        kind = random_.randrange(5)
        if kind == 0 and data:
            data[at] = random_.randrange(256)
        elif kind == 1 and data:
            data[at] ^= 1 << random_.randrange(8)
        elif kind == 2:
            del data[at : at + random_.randrange(1, 12)]
        elif kind == 3:
            data[at:at] = random_.choice(TOKENS)
        else:
            data[at:at] = (
                data[random_.randrange(len(data) + 1) :][: random_.randrange(1, 24)]
                if data
                else b"x"
            )
    return bytes(data)


def test_mutated_pickles(no_execution):
    buffer = io.BytesIO()
    torch.save({f"layer.{i}.weight": torch.zeros(2, 3) for i in range(3)}, buffer)
    archive = zipfile.ZipFile(buffer)
    good = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    random_, refused = random.Random(0), 0
    for _ in range(6000):
        try:
            pickles.load(mutate(good, random_), where="fuzz")
        except CheckpointError:
            refused += 1
    assert refused > 3000


def test_mutated_safetensors_headers(tmp_path):
    header = {
        f"layer.{i}.weight": {
            "dtype": "F32",
            "shape": [2, 3],
            "data_offsets": [24 * i, 24 * i + 24],
        }
        for i in range(3)
    }
    text = json.dumps(header).encode()
    random_, refused, path = random.Random(1), 0, tmp_path / "m.safetensors"
    for _ in range(6000):
        changed = mutate(text, random_)
        length = (
            len(changed)
            if random_.random() < 0.8
            else random_.choice((0, 1, 2**63, 2**64 - 1, len(changed) + 1, 99_999_999))
        )
        path.write_bytes(struct.pack("<Q", length) + changed + b"\0" * 72)
        try:
            for tensor in safetensors.read_header(path).values():
                tensors.read(tensor)
        except CheckpointError:
            refused += 1
    assert refused > 3000


def test_mutated_archives(no_execution, tmp_path):
    """The zip around the pickle: directory, local headers, sizes."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(2, 3), "b": torch.ones(4)}, path)
    good, random_, refused = path.read_bytes(), random.Random(2), 0
    for _ in range(1500):
        path.write_bytes(mutate(good, random_))
        try:
            for tensor in torch_zip.read_table(path).values():
                tensors.read(tensor)
        except CheckpointError:
            refused += 1
    assert refused > 700
