"""Converted or fine-tuned folder → Hugging Face folder, one tensor at a time, on the CPU. Needs
neither torch nor transformers.
"""

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from amuro_jax import array_store, checkpoint, files
from amuro_jax.convert import adapters, families, rules, safetensors
from amuro_jax.convert.source import read_generation_config
from amuro_jax.errors import CheckpointError, ConfigError
from amuro_jax.models.config import ModelConfig

FORMS = ("hf", "peft", "model")
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def write(folder, out, to: str = "hf", **options) -> list[str]:
    """Writes a checkpoint in one of the FORMS; returns the names of what was written, the folder's
    own where it is one unit.

    Args:
        to: hf: see `export`; of an adapter also peft, PEFT's format, and model, a model folder with
            the adapter merged.
        options: of `export`.

    Raises:
        ConfigError: not an adapter, or `out` is there already.
    """
    if to == "hf":
        return export(folder, out, **options)
    if not checkpoint.is_adapter(folder):
        raise ConfigError(f"only an adapter can be written as {to}", where="--to")
    if Path(out).exists():
        raise ConfigError(f"{out} is already there", where="--out", hint="choose another folder")
    {"peft": adapters.export_peft, "model": adapters.merge_into}[to](folder, out)
    return [str(out)]


def export(folder, out, *, dtype: str = "", shard_bytes: int = 5 * 10**9) -> list[str]:
    """Writes `folder` (converted, or fine-tuned) as an HF folder `out`: config, sharded
    safetensors, tokenizer, chat template.

    Args:
        dtype: float32 | float16 | bfloat16; empty: that of each tensor of the source, or as stored
            where the model was trained since.
        shard_bytes: largest weight file; one tensor is never cut.

    Returns:
        Names of the weight files.

    Raises:
        CheckpointError: not a converted folder, bytes that are not those that were written, or a
            model that HF's architecture cannot express.
        AmuroError: the disk is full; `out` is then not there.
    """
    if dtype and dtype not in DTYPES:
        raise ConfigError(
            f"unknown dtype {dtype!r}", where="--dtype", hint="one of " + ", ".join(DTYPES)
        )
    if checkpoint.is_adapter(folder):
        return _export_merged(folder, out, dtype, shard_bytes)
    folder = Path(folder)
    config = checkpoint.read_config(folder)
    table = families.get_family(config.family).rules(config)
    expected = rules.expected_tensors(table, config)
    array_store.verify_arrays(folder / "params", [rule.target for rule in table])
    arrays = array_store.open_arrays(folder / "params", [rule.target for rule in table])
    dtypes = _dtypes(folder, expected, arrays, dtype)
    with files.atomic_folder(out) as scratch:
        names = _write_shards(scratch, expected, arrays, dtypes, config, shard_bytes)
        _write_companions(folder / "tokenizer", scratch, config, dtypes)
    return names


def _export_merged(folder, out, dtype, shard_bytes):
    """The model that an adapter makes of its base, merged beside `out` first."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        merged = Path(scratch) / "model"
        adapters.merge_into(folder, merged)
        return export(merged, out, dtype=dtype, shard_bytes=shard_bytes)


def _dtypes(folder, expected, arrays, override):
    """Source tensor name → dtype to write."""
    provenance = checkpoint.read_provenance(folder)
    original = provenance.get("dtypes", {}) if provenance.get("form") == "hf" else {}
    dtypes = {}
    for name, tensor in expected.items():
        stored = arrays[tensor.rules[0].target].dtype.numpy_dtype
        dtypes[name] = DTYPES[
            override or original.get(name) or original.get("default") or stored.name
        ]
    return dtypes


def _write_shards(out, expected, arrays, dtypes, config, limit):
    shapes = {name: (tensor.shape, dtypes[name]) for name, tensor in expected.items()}
    shards = _split(shapes, limit)
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    names = names if len(shards) > 1 else ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        values = assemble_all([expected[tensor] for tensor in shard], arrays, config)
        content = (
            value.astype(dtypes[tensor], copy=False)
            for tensor, value in zip(shard, values, strict=True)
        )
        safetensors.write(out / name, shard, content)
    if len(shards) > 1:
        total = sum(_nbytes(*spec) for spec in shapes.values())
        mapping = {
            tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard
        }
        files.write_json(
            out / "model.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": dict(sorted(mapping.items()))},
        )
    return names


def _nbytes(shape, dtype):
    return math.prod(shape) * dtype.itemsize


def _split(shapes, limit):
    shards, room = [{}], limit
    for name, spec in shapes.items():
        size = _nbytes(*spec)
        if size > room and shards[-1]:
            shards.append({})
            room = limit
        shards[-1][name], room = spec, room - size
    return shards


def assemble_all(
    expected: list[rules.Tensor], arrays: dict, config: ModelConfig
) -> Iterator[np.ndarray]:
    """Source tensors, each put together from the parameters that its rules name.

    The next is read while one is in use.
    """
    size, reads = rules.sizes(config), {}
    for number, tensor in enumerate(expected):
        for upcoming in range(number, min(number + 2, len(expected))):
            if upcoming not in reads:
                reads[upcoming] = [
                    _part(rule, expected[upcoming].layer, arrays).read()
                    for rule in expected[upcoming].rules
                ]
        out = np.empty(tensor.shape, arrays[tensor.rules[0].target].dtype.numpy_dtype)
        for rule, values in zip(tensor.rules, reads.pop(number), strict=True):
            first, last = rule.rows or (0, tensor.shape[0])
            rules.view(rule, out[first:last], size)[...] = values.result()
        yield out


def _part(rule, layer, arrays):
    return arrays[rule.target] if layer is None else arrays[rule.target][layer]


def read_tensors(folder) -> Iterator[tuple[str, np.ndarray]]:
    """(HF tensor name, values) of a converted folder, one at a time, as stored."""
    config = checkpoint.read_config(folder)
    table = families.get_family(config.family).rules(config)
    arrays = array_store.open_arrays(Path(folder) / "params", [rule.target for rule in table])
    expected = rules.expected_tensors(table, config)
    yield from zip(expected, assemble_all(list(expected.values()), arrays, config), strict=True)


def _write_companions(tokenizer, out, config, dtypes):
    """Config and tokenizer files: the source's own where they still describe this model."""
    for path in sorted(tokenizer.iterdir()) if tokenizer.is_dir() else []:
        if path.name not in ("config.json", "config.yaml"):
            shutil.copyfile(path, out / path.name)
    hf = _original_config(tokenizer / "config.json", config) or families.config_to_hf(config)
    kinds = [dtype.name for dtype in dtypes.values()]
    name = max(set(kinds), key=kinds.count)
    key = "dtype" if "dtype" in hf else "torch_dtype"
    files.write_json(out / "config.json", {**hf, key: name})


def _original_config(path, config):
    if not path.is_file():
        return None
    hf = files.read_json(path)
    try:
        read = families.config_from_hf(hf, read_generation_config(path.parent))
        return hf if read == config else None
    except CheckpointError:
        return None
