"""Import and export of one model: containers, dtypes, bad input, atomicity, a mesh, bounded memory,
checksums, identity.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from amuro_jax import array_store, checkpoint, convert, sharding
from amuro_jax.convert import containers, exporter, importer, resolver, tensors, verify
from amuro_jax.errors import AmuroError, CheckpointError
from amuro_jax.models.parameters import abstract_params, flatten, logical_axes
from tests.convert import builders

torch = pytest.importorskip("torch", reason="makes the checkpoints")
library = pytest.importorskip("safetensors.torch")


@pytest.fixture
def folder(olmo_hf, tmp_path):
    """A copy of the tiny OLMo to damage."""
    return shutil.copytree(olmo_hf, tmp_path / "hf")


def change_tensors(folder, change):
    state = library.load_file(folder / "model.safetensors")
    change(state)
    library.save_file(state, folder / "model.safetensors")


def assert_same_params(a, b):
    a, b = flatten(checkpoint.load_params(a)), flatten(checkpoint.load_params(b))
    assert set(a) == set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(
            np.asarray(a[name]), np.asarray(b[name])
        ), name


def test_orbax_restores_what_is_streamed(olmo_converted):
    """Names, shapes and values as Orbax itself sees them; the embedding is the source's."""
    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore(olmo_converted / "params")
    hf = builders.build("olmo")
    assert np.array_equal(tree["embed"]["embedding"], hf.model.embed_tokens.weight.detach().numpy())
    up = hf.model.layers[1].mlp.up_proj.weight.detach().numpy()
    assert np.array_equal(tree["layers"]["mlp"]["up"]["kernel"][1], up.T)
    out = hf.model.layers[2].self_attn.o_proj.weight.detach().numpy()
    assert np.array_equal(tree["layers"]["attention"]["out"]["kernel"][2].reshape(32, 32), out.T)


def test_torch_bin_single_and_sharded_give_the_same_parameters(olmo_hf, olmo_converted, tmp_path):
    state = builders.build("olmo").state_dict()  # holds lm_head.weight too, the same storage
    single, sharded = tmp_path / "single", tmp_path / "sharded"
    for target in (single, sharded):
        target.mkdir()
        shutil.copy(olmo_hf / "config.json", target)
    torch.save(state, single / "pytorch_model.bin")
    names = sorted(state)
    files = {
        "pytorch_model-00001-of-00002.bin": names[:7],
        "pytorch_model-00002-of-00002.bin": names[7:],
    }
    for file, members in files.items():
        torch.save({name: state[name].clone() for name in members}, sharded / file)
    mapping = {name: file for file, members in files.items() for name in members}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": mapping}))
    for target in (single, sharded):
        assert_same_params(convert.open_checkpoint(target, tmp_path / "cache"), olmo_converted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_as_stored(tmp_path, dtype):
    source = builders.save("llama-gqa-llama3", tmp_path / "hf", dtype)
    folder = convert.open_checkpoint(source, tmp_path / "cache")
    assert {leaf.dtype.name for leaf in flatten(checkpoint.load_params(folder)).values()} == {
        str(dtype).removeprefix("torch.")
    }
    exporter.export(folder, tmp_path / "back")
    before, after = containers.read_table(source), containers.read_table(tmp_path / "back")
    assert all(
        tensors.read(before[name]).tobytes() == tensors.read(after[name]).tobytes()
        for name in before
    )
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == str(
        dtype
    ).removeprefix("torch.")


def test_layers_of_mixed_dtype_become_fp32_and_go_back(folder, tmp_path):
    def change(state):
        state["model.layers.1.mlp.up_proj.weight"] = state[
            "model.layers.1.mlp.up_proj.weight"
        ].bfloat16()

    change_tensors(folder, change)
    out = convert.open_checkpoint(folder, tmp_path / "cache")
    assert checkpoint.load_params(out)["layers"]["mlp"]["up"]["kernel"].dtype == np.float32
    exporter.export(out, tmp_path / "back")
    back = containers.read_table(tmp_path / "back")
    assert back["model.layers.1.mlp.up_proj.weight"].dtype == ml_dtypes.bfloat16
    assert back["model.layers.0.mlp.up_proj.weight"].dtype == np.float32


def test_blocks_smaller_than_a_tensor_give_the_same_parameters(
    olmo_hf, olmo_converted, tmp_path, monkeypatch
):
    monkeypatch.setattr(importer, "BLOCK", 1700)
    monkeypatch.setattr(
        checkpoint, "CHUNK_BYTES", 400
    )  # 48 rows halve to 3, which divides no block of 1700 bytes evenly
    assert_same_params(convert.open_checkpoint(olmo_hf, tmp_path), olmo_converted)
    neox = builders.save("gpt_neox", tmp_path / "neox")
    small = convert.open_checkpoint(neox, tmp_path / "small")
    monkeypatch.undo()
    assert_same_params(small, convert.open_checkpoint(neox, tmp_path / "whole"))


BAD = {
    "missing": (
        lambda state: state.pop("model.layers.1.mlp.up_proj.weight"),
        r"1 tensors of the model are missing.*\n.*layers.1.mlp.up_proj.weight \(48, 32\)",
    ),
    "extra": (
        lambda state: state.update(surprise=torch.zeros(3)),
        r"1 in the checkpoint are unknown\n.*surprise float32 \(3,\)",
    ),
    "misshaped": (
        lambda state: state.update({"model.layers.0.self_attn.q_proj.weight": torch.zeros(32, 16)}),
        r"q_proj.weight: stored \(32, 16\), the model wants \(32, 32\)",
    ),
    "integer": (
        lambda state: state.update(
            {"model.embed_tokens.weight": torch.zeros(96, 32, dtype=torch.int64)}
        ),
        "stored as int64",
    ),
    "renamed layer": (
        lambda state: state.update({"model.layers.9.mlp.up_proj.weight": torch.zeros(48, 32)}),
        "layers.9",
    ),
    "untied copy": (
        lambda state: state.update({"lm_head.weight": torch.zeros(96, 32)}),
        "ties the embeddings, but lm_head.weight differs",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_tensors_are_named_with_both_sides_and_nothing_is_left(folder, tmp_path, fault):
    change, message = BAD[fault]
    change_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        convert.open_checkpoint(folder, tmp_path / "cache")
    assert not [
        path
        for path in (tmp_path / "cache" / "converted").iterdir()
        if not path.name.endswith(".lock")
    ]


def test_tied_copy_that_is_equal_is_accepted(folder, olmo_converted, tmp_path):
    change_tensors(
        folder,
        lambda state: state.update({"lm_head.weight": state["model.embed_tokens.weight"].clone()}),
    )
    assert_same_params(convert.open_checkpoint(folder, tmp_path / "cache"), olmo_converted)


CONFIGS = {
    "unknown architecture": ({"model_type": "mamba"}, "unknown architecture 'mamba'"),
    "missing size": ({"hidden_size": ...}, "hidden_size"),
    "wrong kind": ({"hidden_size": "big"}, "wrong kind"),
    "unknown scaling": (
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": None},
        "unknown rope scaling 'dynamic'",
    ),
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    "heads": ({"num_key_value_heads": 3}, "4 query heads cannot share 3"),
    "quick_gelu": ({"hidden_act": "quick_gelu"}, "unknown activation 'quick_gelu'"),
    "relu2": ({"hidden_act": "relu2"}, "unknown activation 'relu2'"),
    "mish": ({"hidden_act": "mish"}, "unknown activation 'mish'"),
    "tanh": ({"hidden_act": "tanh"}, "unknown activation 'tanh'"),
    "activation of no kind": ({"hidden_act": ["silu"]}, "unknown activation"),
    "no heads": ({"num_attention_heads": 0}, "wrong kind|num_heads"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_layers must be"),
    "a billion layers of olmo3": (
        {"model_type": "olmo3", "num_hidden_layers": 10**9},
        "at most 10000",
    ),
}


@pytest.mark.parametrize("fault", CONFIGS)
def test_bad_configurations_are_named(folder, tmp_path, fault):
    changes, message = CONFIGS[fault]
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in values.items() if value is not ...})
    )
    with pytest.raises(CheckpointError, match=message) as error:
        convert.open_checkpoint(folder, tmp_path / "cache")
    assert "config" in str(error.value.where)


def test_folder_without_config_or_weights(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        convert.open_checkpoint(folder, tmp_path / "cache")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError):
        convert.open_checkpoint(folder, tmp_path / "cache")
    for name in ("nowhere", str(tmp_path / "nowhere"), f"{folder}@step3"):
        with pytest.raises(CheckpointError, match="no such folder|no checkpoint 'step3'"):
            convert.open_checkpoint(name, tmp_path / "cache")


def limited(script, *arguments, file_bytes):
    """Runs Python with a limit on the size of any file, which the kernel reports much as it does a
    full disk.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LIMIT": str(file_bytes),
    }
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )


SCRIPT = """
import os, resource, signal, sys
from amuro_jax.errors import AmuroError
from amuro_jax.convert import importer, exporter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LIMIT"]),) * 2)
try:
    {call}
except AmuroError as error:
    print("clean:", error)
"""


@pytest.mark.parametrize(
    "call",
    ["importer.convert(sys.argv[1], sys.argv[3])", "exporter.export(sys.argv[2], sys.argv[3])"],
)
def test_full_disk_is_one_clean_error_and_leaves_nothing(olmo_hf, olmo_converted, tmp_path, call):
    out = tmp_path / "out" / "model"
    run = limited(SCRIPT.format(call=call), olmo_hf, olmo_converted, out, file_bytes=6000)
    assert run.stdout.startswith("clean: cannot write"), run.stdout + run.stderr
    assert "free some disk space" in run.stdout
    assert not out.exists() and not list(out.parent.glob("*")) and not list(out.parent.glob(".*"))


def test_sharded_load_on_a_mesh_places_each_device_its_part(olmo_converted):
    mesh = sharding.make_mesh("data:2,fsdp:2,tensor:2")
    config = checkpoint.read_config(olmo_converted)
    params = checkpoint.load_params(olmo_converted, config, mesh)
    whole = checkpoint.load_params(olmo_converted, config)
    up = params["layers"]["mlp"]["up"]["kernel"]
    assert up.addressable_shards[0].data.shape == (3, 16, 24)
    for name, leaf in flatten(params).items():
        assert np.array_equal(np.asarray(leaf), np.asarray(flatten(whole)[name])), name


def test_chunks_end_where_the_shards_of_a_mesh_end(olmo_hf, tmp_path, monkeypatch):
    """A process reads whole chunks: it must not need a chunk for a part of it."""
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 600)
    folder = convert.open_checkpoint(olmo_hf, tmp_path)
    config = checkpoint.read_config(folder)
    shapes = abstract_params(config)
    placed = flatten(
        sharding.shardings(
            logical_axes(config), shapes, sharding.make_mesh("data:2,fsdp:2,tensor:2")
        )
    )
    arrays = array_store.open_arrays(folder / "params", list(flatten(shapes)))
    for name, leaf in flatten(shapes).items():
        shard = placed[name].shard_shape(leaf.shape)
        chunk = arrays[name].chunk_layout.read_chunk.shape
        assert all(part % size == 0 for part, size in zip(shard, chunk, strict=True)), (
            name,
            shard,
            chunk,
        )


def test_fine_tuned_parameters_export_too(olmo_converted, tmp_path):
    config = checkpoint.read_config(olmo_converted)
    params = jax.tree.map(lambda leaf: leaf + 1, checkpoint.load_params(olmo_converted))
    provenance = {"parents": [checkpoint.model_hash(olmo_converted)]}
    checkpoint.save_model(
        tmp_path / "tuned", params, config, olmo_converted / "tokenizer", provenance
    )
    names = exporter.export(
        tmp_path / "tuned", tmp_path / "hf", dtype="bfloat16", shard_bytes=10_000
    )
    assert len(names) > 3
    back = convert.open_checkpoint(tmp_path / "hf", tmp_path / "cache")
    for name, leaf in flatten(checkpoint.load_params(back)).items():
        assert leaf.dtype == ml_dtypes.bfloat16
        assert np.array_equal(
            np.asarray(leaf), np.asarray(flatten(params)[name]).astype(ml_dtypes.bfloat16)
        ), name


def test_a_config_that_no_longer_describes_the_model_is_not_exported(olmo_converted, tmp_path):
    config = dataclasses.replace(checkpoint.read_config(olmo_converted), eos_ids=(7,))
    checkpoint.save_model(
        tmp_path / "other",
        checkpoint.load_params(olmo_converted),
        config,
        olmo_converted / "tokenizer",
        {},
    )
    exporter.export(tmp_path / "other", tmp_path / "hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["eos_token_id"] == 7


def test_a_failed_conversion_waits_for_its_writes(tmp_path):
    """Else they would put files back into the folder that is being removed."""
    values = np.zeros((64, 1 << 16), np.float32)
    with (
        pytest.raises(KeyError),
        array_store.open_writer(
            tmp_path / "params", {"x": (values.shape, values.dtype, (1, 1 << 16))}
        ) as writer,
    ):
        for row in range(len(values)):
            writer.put("x", (slice(row, row + 1),), values[row : row + 1])
        assert writer._waiting
        raise KeyError
    assert not writer._waiting and not (tmp_path / "params" / "_METADATA").exists()


def test_tokenizer_files_travel_and_come_back(folder, tmp_path):
    texts = {
        "tokenizer.json": "{}",
        "tokenizer_config.json": '{"a": 1}',
        "chat_template.jinja": "{{ x }}",
        "generation_config.json": "{}",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "README.md").write_text("not needed")
    out = convert.open_checkpoint(folder, tmp_path / "cache")
    exporter.export(out, tmp_path / "back")
    assert {path.name for path in (tmp_path / "back").iterdir()} == {
        *texts,
        "config.json",
        "model.safetensors",
    }
    assert all((tmp_path / "back" / name).read_text() == text for name, text in texts.items())
    assert set(checkpoint.read_provenance(out)["files"]) == {
        *texts,
        "config.json",
        "model.safetensors",
    }


def save_tokenizer(folder, tokens, added=()):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=tokens[0])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(list(added))
    tokenizer.save(str(folder / "tokenizer.json"))


def test_token_ids_beyond_the_embedding_are_refused_on_opening(folder, tmp_path):
    tokens = [f"t{i}" for i in range(96)]
    save_tokenizer(folder, tokens)
    good = convert.open_checkpoint(folder, tmp_path / "cache")
    save_tokenizer(folder, tokens, ["<|extra|>"])
    message = r"token '<\|extra\|>' has id 96, but the embedding has 96 rows"
    with pytest.raises(CheckpointError, match=message):
        convert.open_checkpoint(folder, tmp_path / "cache")
    shutil.copy(folder / "tokenizer.json", good / "tokenizer")
    with pytest.raises(CheckpointError, match=message):  # converted by an earlier version
        convert.open_checkpoint(good, tmp_path / "cache")
    save_tokenizer(folder, tokens)
    (folder / "added_tokens.json").write_text('{"<pad>": 97}')
    with pytest.raises(CheckpointError, match="'<pad>' has id 97"):
        convert.open_checkpoint(folder, tmp_path / "cache")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_counted_in_a_warning(folder, tmp_path, dtype):
    def change(state):
        for name in state:
            state[name] = state[name].to(dtype)
        state["model.layers.1.mlp.up_proj.weight"][3, 4:6] = float("nan")
        state["model.layers.2.mlp.up_proj.weight"][0, 0] = float("-inf")

    change_tensors(folder, change)
    with pytest.warns(UserWarning, match=r"3 weights are NaN.*layers.1.mlp.up_proj.weight \(2\)"):
        out = convert.open_checkpoint(folder, tmp_path / "cache")
    assert checkpoint.read_provenance(out)["non_finite"] == {
        "model.layers.1.mlp.up_proj.weight": 2,
        "model.layers.2.mlp.up_proj.weight": 1,
    }


def test_the_cache_is_keyed_by_content(folder, tmp_path):
    first = convert.open_checkpoint(folder, tmp_path / "cache")
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert convert.open_checkpoint(moved, tmp_path / "cache") == first
    change_tensors(moved, lambda state: state["model.embed_tokens.weight"].add_(1))
    other = convert.open_checkpoint(moved, tmp_path / "cache")
    assert checkpoint.read_identity(other).parameters != checkpoint.read_identity(first).parameters
    assert convert.open_checkpoint(first, tmp_path / "cache") == first


def test_out_folder_must_be_new(folder, tmp_path):
    out = convert.open_checkpoint(folder, tmp_path / "cache", out=tmp_path / "out")
    assert out == tmp_path / "out" and resolver.is_converted(out)
    with pytest.raises(AmuroError, match="already there"):
        convert.open_checkpoint(folder, tmp_path / "cache", out=out)


def test_each_byte_of_the_source_is_read_once(olmo_hf, tmp_path, monkeypatch):
    spans, real = [], tensors._read_bytes

    def spy(tensor, offset, count):
        spans.append((tensor.path, offset, offset + count))
        return real(tensor, offset, count)

    monkeypatch.setattr(tensors, "_read_bytes", spy)
    monkeypatch.setattr(importer, "BLOCK", 2000)
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 900)
    importer.convert(olmo_hf, tmp_path / "out")
    spans.sort()
    assert all(a[2] == b[1] for a, b in zip(spans, spans[1:], strict=False))
    assert sum(end - start for _, start, end in spans) == sum(
        t.nbytes for t in containers.read_table(olmo_hf).values()
    )


def test_missing_array_is_named(olmo_converted, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        array_store.open_arrays(olmo_converted / "params", ["layers/nothing"])
    with pytest.raises(CheckpointError, match="no parameters"):
        array_store.open_arrays(tmp_path, ["x"])


def test_one_flipped_byte_of_a_conversion_is_seen_by_every_reader(folder, tmp_path):
    out = convert.open_checkpoint(folder, tmp_path / "cache")
    files = [path for path in (out / "params").rglob("*") if path.is_file()]
    for path in files:
        good = path.read_bytes()
        changed = bytearray(good)
        changed[len(good) // 3] ^= 4
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            checkpoint.load_params(out)
        path.write_bytes(good)
    largest = max(files, key=lambda path: path.stat().st_size)
    changed = bytearray(largest.read_bytes())
    changed[len(changed) // 2] ^= 4
    largest.write_bytes(changed)
    assert {c.name: c.ok for c in verify.verify(out)}["checksums"] is False
    with pytest.raises(CheckpointError, match="not what was written"):
        exporter.export(out, tmp_path / "hf")


def test_identity_does_not_depend_on_the_container_or_on_who_converts(
    folder, olmo_converted, tmp_path, monkeypatch
):
    first = checkpoint.read_identity(olmo_converted)
    (tmp_path / "bin").mkdir()
    torch.save(
        library.load_file(folder / "model.safetensors"), tmp_path / "bin" / "pytorch_model.bin"
    )
    shutil.copy(folder / "config.json", tmp_path / "bin")
    other = convert.open_checkpoint(tmp_path / "bin", tmp_path / "cache")
    assert other != olmo_converted and checkpoint.read_identity(other) == first
    monkeypatch.setattr(importer, "BLOCK", 1700)
    again = convert.open_checkpoint(folder, tmp_path / "other")
    assert checkpoint.read_identity(again) == first
    params = checkpoint.load_params(again)
    checkpoint.save_model(
        tmp_path / "saved", params, checkpoint.read_config(again), again / "tokenizer", {}
    )
    assert checkpoint.read_identity(tmp_path / "saved") == first
    assert (
        checkpoint.read_identity(
            convert.open_checkpoint(
                builders.save("olmo", tmp_path / "half", torch.bfloat16), tmp_path / "cache"
            )
        )
        != first
    )


def test_several_eos_ids_are_kept_and_exported(folder, tmp_path):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "eos_token_id": [5, 2]}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5, 9]}))
    out = convert.open_checkpoint(folder, tmp_path / "cache")
    config = checkpoint.read_config(out)
    assert config.eos_ids == (5, 2, 9) and config.eos_id == 5
    exporter.export(out, tmp_path / "same")  # the source's own files still describe it
    assert json.loads((tmp_path / "same" / "config.json").read_text())["eos_token_id"] == [5, 2]
    (out / "tokenizer" / "config.json").unlink()
    exporter.export(out, tmp_path / "written")
    written = json.loads((tmp_path / "written" / "config.json").read_text())
    assert written["eos_token_id"] == [5, 2, 9]
    for stated, message in (([96], "eos id 96 has no row"), ("</s>", "not an id or a list")):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stated}))
        with pytest.raises(CheckpointError, match=message):
            convert.open_checkpoint(folder, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_says_what_to_set(olmo_hf, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AmuroError, match="cannot write the cache") as caught:
        convert.open_checkpoint(olmo_hf, tmp_path / "file" / "cache")
    assert "AMURO_CACHE" in caught.value.hint
