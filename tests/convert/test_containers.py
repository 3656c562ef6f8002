"""Containers: what is read equals what torch and safetensors read.

What is damaged or hostile is refused by name.
"""

import collections
import gc
import io
import json
import os
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

from amuro_jax.convert import containers, safetensors, tensors, torch_zip
from amuro_jax.errors import CheckpointError

torch = pytest.importorskip("torch", reason="makes the checkpoints")
library = pytest.importorskip("safetensors.torch")


def states():
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    return {
        "fp32": base,
        "fp16": base.half(),
        "bf16": base.bfloat16(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "int": torch.arange(5),
    }


def assert_same(table, state):
    assert set(table) == set(state)
    for name, tensor in state.items():
        assert table[name].shape == tuple(tensor.shape)
        mine = tensors.read(table[name])
        assert (
            mine.tobytes() == tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            if tensor.numel()
            else mine.size == 0
        )


def test_safetensors_written_by_the_library_is_read_bit_for_bit(tmp_path):
    library.save_file(states(), tmp_path / "model.safetensors")
    assert_same(containers.read_table(tmp_path), states())


def test_torch_zip_with_views_and_shared_storages(tmp_path):
    state = states()
    base = torch.arange(24.0).reshape(4, 6)
    state |= {
        "whole": base,
        "transposed": base.T,
        "row": base[2],
        "column": base[:, 3],
        "block": base[1:3, 2:5],
        "expanded": base[:1].expand(1, 6),
    }
    torch.save(collections.OrderedDict(state), tmp_path / "pytorch_model.bin")
    table = containers.read_table(tmp_path)
    assert_same(table, state)
    assert np.array_equal(tensors.read(table["transposed"], 2, 4), base.T[2:4].numpy())


def test_parameters_and_state_dict_of_a_module(tmp_path):
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "a.bin")
    torch.save(dict(module.named_parameters()), tmp_path / "b.bin")
    for name in ("a.bin", "b.bin"):
        assert np.array_equal(
            tensors.read(torch_zip.read_table(tmp_path / name)["weight"]),
            module.weight.detach().numpy(),
        )


def test_malicious_pickle_is_refused_by_the_name_of_its_global(tmp_path):
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return open, (str(marker), "w")

    torch.save({"weight": torch.zeros(2), "extra": Hostile()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"(builtins|_io|io)\.open"):
        containers.read_table(tmp_path)
    assert not marker.exists()


def write_zip(path, data, entries=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, value in entries:
            archive.writestr(f"archive/{name}", value)


@pytest.mark.parametrize(
    "name",
    [
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "torch.load",
        "torch._utils._rebuild_tensor",
    ],
)
def test_stack_global_is_refused_too(tmp_path, name):
    module, attribute = name.rsplit(".", 1)
    code = (
        b"\x80\x04\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(attribute)])
        + attribute.encode()
        + b"\x93)R."
    )
    write_zip(tmp_path / "x.bin", code)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        torch_zip.read_table(tmp_path / "x.bin")


def test_legacy_format_is_refused_with_advice(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="legacy") as error:
        torch_zip.read_table(tmp_path / "x.bin")
    assert "torch.save" in error.value.hint


def test_plain_pickle_and_text_are_refused(tmp_path):
    for data in (pickle.dumps({"a": 1}), b"version https://git-lfs.github.com/spec/v1\n", b""):
        (tmp_path / "x.bin").write_bytes(data)
        with pytest.raises(CheckpointError, match="not a torch checkpoint"):
            torch_zip.read_table(tmp_path / "x.bin")


def test_view_outside_its_storage_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(8.0)}, buffer)
    source = zipfile.ZipFile(buffer)
    data = {name.split("/", 1)[1]: source.read(name) for name in source.namelist()}
    bad = data["data.pkl"].replace(b"K\x08\x85", b"K\x09\x85", 1)
    assert bad != data["data.pkl"]
    write_zip(
        tmp_path / "x.bin",
        bad,
        [(name, value) for name, value in data.items() if name != "data.pkl"],
    )
    with pytest.raises(CheckpointError, match="in a storage of 8"):
        torch_zip.read_table(tmp_path / "x.bin")


def header_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


GOOD = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
}


@pytest.mark.parametrize(
    "change,message",
    [
        ({"b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "overlap"),
        ({"b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}}, "leave a gap|truncated"),
        ({"b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 12]}}, r"span 4 bytes.*needs 8"),
        ({"b": {"dtype": "F99", "shape": [1], "data_offsets": [8, 12]}}, "unknown dtype"),
        ({"b": {"dtype": "F32", "shape": [-1], "data_offsets": [8, 12]}}, "bad shape"),
        ({"b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 8]}}, "bad data_offsets"),
        ({"b": {"dtype": "F32", "shape": [1]}}, "exactly"),
        ({"b": 3}, "exactly"),
        ({"c": {"dtype": "F32", "shape": [3], "data_offsets": [12, 24]}}, "truncated"),
    ],
)
def test_bad_safetensors_headers(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message) as error:
        safetensors.read_header(
            header_file(tmp_path / "m.safetensors", {**GOOD, **change}, b"\0" * 12)
        )
    assert "m.safetensors" in str(error.value)


def test_truncated_and_trailing_bytes(tmp_path):
    path = header_file(tmp_path / "m.safetensors", GOOD, b"\0" * 12)
    assert set(safetensors.read_header(path)) == {"a", "b"}
    whole = path.read_bytes()
    for cut in (0, 4, 8, 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="truncated"):
            safetensors.read_header(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="describes"):
        safetensors.read_header(path)


def test_duplicate_names_and_bad_json(tmp_path):
    entry = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    twice = b"{" + entry + b"," + entry + b"}"
    for text, message in (
        (twice, "duplicate name 'a'"),
        (b"{nope}", "not valid"),
        (b"[1,2]", "not an object"),
        (b"[" * 5000, "not valid"),
    ):
        with pytest.raises(CheckpointError, match=message):
            safetensors.read_header(header_file(tmp_path / "m.safetensors", text, b"\0" * 4))


def test_missing_shard_and_shard_that_breaks_its_promise(tmp_path):
    header_file(tmp_path / "one.safetensors", GOOD, b"\0" * 12)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(CheckpointError, match="two.safetensors is missing"):
        containers.read_table(tmp_path)
    header_file(tmp_path / "two.safetensors", {"c": GOOD["a"]}, b"\0" * 8)
    with pytest.raises(CheckpointError, match="1 tensors are not in .*first b"):
        containers.read_table(tmp_path)


@pytest.mark.parametrize("file", ["../secret.safetensors", "/etc/passwd", "", ".."])
def test_index_cannot_point_outside_its_folder(tmp_path, file):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(CheckpointError, match="not a file of this folder"):
        containers.read_table(tmp_path)


def test_file_that_shrinks_after_its_header_was_read(tmp_path):
    path = header_file(tmp_path / "m.safetensors", GOOD, b"\0" * 12)
    table = safetensors.read_header(path)
    os.truncate(path, path.stat().st_size - 6)
    with pytest.raises(CheckpointError, match=r"needs bytes up to \d+, the file ends at \d+"):
        tensors.read(table["b"])


def timed(action):
    """(processor seconds that `action`, which must refuse, takes, the message).

    Without garbage collection: its passes over a whole test session's objects cost more than the
    action.
    """
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        with pytest.raises(CheckpointError) as error:
            action()
        seconds = time.process_time() - started
    finally:
        gc.enable()
    assert len(str(error.value)) < 2000
    return seconds, str(error.value)


def test_an_overlap_that_leaves_a_gap_is_told_as_an_overlap(tmp_path):
    moved = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    }
    with pytest.raises(CheckpointError, match="tensors overlap"):
        safetensors.read_header(header_file(tmp_path / "m.safetensors", moved, b"\0" * 12))


def test_a_header_of_many_names_takes_linear_time(tmp_path):
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    names = [f'"t{i}":{entry}' for i in range(150_000)] + [f'"t149999":{entry}']
    path = header_file(tmp_path / "m.safetensors", ("{" + ",".join(names) + "}").encode())
    seconds, text = timed(lambda: safetensors.read_header(path))
    assert "duplicate name 't149999'" in text and seconds < 2


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":{"dtype":"' + b"x" * 10**7 + b'","shape":[],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"-1," * 10**6 + b'1],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 10**6 + b'],"data_offsets":[0,0]}}',
        b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}",
        b" " * (17 << 20),
    ],
    ids=["long dtype", "long shape", "long number", "deep", "long header"],
)
def test_hostile_headers_are_refused_at_once(tmp_path, text):
    path = header_file(tmp_path / "m.safetensors", text)
    assert timed(lambda: safetensors.read_header(path))[0] < 2


def nested(depth=60):
    """Opcodes that leave ((((), ()), ((), ())), …): a few bytes, 2**depth leaves."""
    return b")" + b"q\x00h\x00\x86" * depth


PICKLES = {
    "tuple as key": b"\x80\x02}" + nested() + b"Ns.",
    "tuple as key of an OrderedDict": (
        b"\x80\x02ccollections\nOrderedDict\n](]" + nested() + b"aNae\x85R."
    ),
    "tuple as persistent id": (
        b"\x80\x02(" + nested() + b"ctorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ."
    ),
    "tuple as storage key": (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + nested() + b"NK\x01tQ."
    ),
    "tuple as count": (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000N"
        + nested()
        + b"tQ."
    ),
    "tuple as value": b"\x80\x02}X\x01\x00\x00\x00a" + nested() + b"s.",
    "a number of a megabyte as key": (
        b"\x80\x02}\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b"Ns."
    ),
    "a number of a megabyte as count": (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000N\x8b"
        + struct.pack("<i", 10**6)
        + b"\x7f" * 10**6
        + b"tQ."
    ),
    "many opcodes": b"\x80\x02" + b"N0" * (7 << 20) + b"}.",
    "long name of a global": b"\x80\x02c" + b"x" * 10**6 + b"\ny\n.",
    "long": b"\x80\x02" + b"N0" * (9 << 20) + b"}.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles_are_refused_at_once(tmp_path, name):
    write_zip(tmp_path / "x.bin", PICKLES[name])
    seconds, _ = timed(lambda: torch_zip.read_table(tmp_path / "x.bin"))
    assert seconds < 2


def test_zip_entries_are_never_inflated(tmp_path):
    """A `byteorder` of 200 MB that is 200 kB on disk; torch stores its entries as they are."""
    path = tmp_path / "x.bin"
    write_zip(path, pickle.dumps({}, 2))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/byteorder", b"\0" * (200 << 20))
    seconds, text = timed(lambda: torch_zip.read_table(path))
    assert "byteorder is compressed" in text and seconds < 2


def test_a_zip_of_many_entries_is_refused_at_once(tmp_path):
    path = tmp_path / "x.bin"
    write_zip(path, pickle.dumps({}, 2))
    good = path.read_bytes()
    end = good.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", good[end + 16 : end + 20])[0]
    directory = good[start:end] * 200_000
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), start, 0)
    path.write_bytes(good[:start] + directory + tail)
    seconds, text = timed(lambda: torch_zip.read_table(path))
    assert "directory" in text and seconds < 2


def test_a_pickle_that_differs_from_its_checksum_is_refused(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(2)}, path)
    data = path.read_bytes()
    assert b"X\x01\x00\x00\x00a" in data
    path.write_bytes(data.replace(b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00b", 1))
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        torch_zip.read_table(path)
