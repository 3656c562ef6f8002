"""Finds the tensors of a checkpoint folder, whatever container holds them: one table of names for
all its files.
"""

from pathlib import Path

from amuro_jax import files
from amuro_jax.convert import safetensors, torch_zip
from amuro_jax.convert.bounds import MAX_INDEX, check_size, short
from amuro_jax.convert.tensors import StoredTensor
from amuro_jax.errors import CheckpointError

# In order of preference: the single file, the index of the sharded form, the reader of one file.
CONTAINERS = (
    ("model.safetensors", "model.safetensors.index.json", safetensors.read_header),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", torch_zip.read_table),
    ("model.pt", "model.pt.index.json", torch_zip.read_table),
)


def _locate(folder):
    """(reader, single file or None, index or None) of the first container that is there."""
    for single, index, reader in CONTAINERS:
        if (folder / single).is_file():
            return reader, folder / single, None
        if (folder / index).is_file():
            return reader, None, folder / index
    known = ", ".join(single for single, _, _ in CONTAINERS)
    raise CheckpointError(
        "no weights in this folder",
        where=folder,
        hint=f"expected one of {known}, or an index of shards",
    )


def weight_files(folder) -> list[Path]:
    """The files that hold the tensors of a folder, sorted.

    Raises:
        CheckpointError: no known container, an index that is no index, or a shard that is not
            there.
    """
    _, single, index = _locate(Path(folder))
    return (
        [single]
        if single
        else [index.parent / name for name in sorted(set(_weight_map(index).values()))]
    )


def read_table(folder) -> dict[str, StoredTensor]:
    """Name → stored tensor, for every tensor in a folder.

    Raises:
        CheckpointError: as `weight_files` and the readers; a shard that lacks a tensor the index
            promises, or has one it does not.
    """
    reader, single, index = _locate(Path(folder))
    return reader(single) if single else _read_shards(index, reader)


def _read_shards(index, reader):
    promised, tensors = {}, {}
    for name, file in _weight_map(index).items():
        promised.setdefault(file, set()).add(name)
    for shard, expected in sorted(promised.items()):
        stored = reader(index.parent / shard)
        if missing := sorted(expected - set(stored)):
            raise CheckpointError(
                f"{len(missing)} tensors are missing that {index.name} promises, first "
                f"{missing[0][:200]}",
                where=index.parent / shard,
            )
        if extra := sorted(set(stored) - expected):
            raise CheckpointError(
                f"{len(extra)} tensors are not in {index.name}, first {extra[0][:200]}",
                where=index.parent / shard,
            )
        tensors.update(stored)
    return tensors


def _weight_map(index) -> dict[str, str]:
    check_size(index, MAX_INDEX)
    values = files.read_json(index)
    mapping = values.get("weight_map") if isinstance(values, dict) else None
    if (
        not isinstance(mapping, dict)
        or not mapping
        or not all(isinstance(file, str) for file in mapping.values())
    ):
        raise CheckpointError("no weight_map from tensor names to files", where=index)
    checked = set()
    for name, file in mapping.items():
        if file in checked:
            continue
        checked.add(file)
        if Path(file).name != file or file in ("", ".", ".."):
            raise CheckpointError(
                f"the index names {short(file)} for tensor {name[:200]}: not a file of this folder",
                where=index,
            )
        if not (index.parent / file).is_file():
            raise CheckpointError(
                f"shard {file} is missing (it should hold {name[:200]})",
                where=index.parent,
                hint="download the rest of the checkpoint",
            )
    return mapping
