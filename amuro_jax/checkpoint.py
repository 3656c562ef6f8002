"""Checkpoints on disk: model folders and training states. The only importer of orbax.

A model folder holds `params/` (Orbax, OCDBT), `model.json`, `tokenizer/` and `provenance.json`
(docs/architecture.md). It appears whole
or not at all. Reading is strict: names, shapes and dtypes must be those asked for; nothing is
filled in, skipped or cast silently.
"""

import os
import shutil

import jax
import orbax.checkpoint as ocp
from etils import epath

from amuro_jax import files, sharding
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params, flatten, logical_axes

CHUNK_BYTES = 32 << 20  # so that a reader of one layer or one shard does not read the whole stack
_NOT_CONTENT = (
    "created",
    "seconds",
    "path",
    "source",
    "code",
)  # of provenance: same bytes, same hash, wherever they lay


def save_model(
    folder, params: dict, config: ModelConfig, tokenizer_folder, provenance: dict
) -> None:
    """Writes a model folder; `tokenizer_folder` is copied file by file.

    Raises:
        CheckpointError: the tree is not the one that `config` declares.
    """
    _check_tree(params, abstract_params(config), where=folder)
    with files.atomic_folder(folder) as scratch:
        save_tree(scratch / "params", params)
        files.write_json(scratch / "model.json", config.to_json())
        copy_files(tokenizer_folder, scratch / "tokenizer")
        files.write_json(scratch / "provenance.json", provenance)


def copy_files(source, target) -> None:
    """Copies the plain files of a folder.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not epath.Path(source).is_dir():
        raise CheckpointError("no tokenizer folder there", where=source)
    target = epath.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for path in epath.Path(source).iterdir():
        if path.is_file():
            path.copy(target / path.name)


def load_params(folder, config: ModelConfig | None = None, mesh=None, dtype=None) -> dict:
    """Parameters of a model folder, sharded onto `mesh` where there is one.

    Args:
        dtype: cast after reading; None keeps what is stored.

    Raises:
        CheckpointError: missing folder, or another tree than `config` (by default the folder's own)
            declares.
    """
    config = config or read_config(folder)
    target = abstract_params(config)
    stored = stored_tree(epath.Path(folder) / "params")
    _check_tree(stored, target, where=folder)
    target = jax.tree.map(
        lambda leaf, on_disk: jax.ShapeDtypeStruct(leaf.shape, on_disk.dtype), target, stored
    )
    placement = None if mesh is None else sharding.shardings(logical_axes(config), target, mesh)
    params = restore_tree(epath.Path(folder) / "params", target, placement)
    return params if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def read_config(folder) -> ModelConfig:
    """ModelConfig of a model folder."""
    path = epath.Path(folder) / "model.json"
    if not path.exists():
        raise CheckpointError(
            "not a converted checkpoint: model.json is missing",
            where=folder,
            hint="convert it first: amuro convert",
        )
    return ModelConfig.from_json(files.read_json(path))


def read_provenance(folder) -> dict:
    """Where a model folder comes from."""
    return files.read_json(epath.Path(folder) / "provenance.json")


def model_hash(folder) -> str:
    """Content key of a model folder: its configuration and provenance (source hashes, parents,
    recipe).
    """
    provenance = {k: v for k, v in read_provenance(folder).items() if k not in _NOT_CONTENT}
    return files.content_key({"config": read_config(folder).to_json(), "provenance": provenance})


def save_tree(path, tree) -> None:
    """Writes a tree of arrays in chunks of some MB; the folder appears when it is complete."""
    with ocp.StandardCheckpointer() as writer:
        arguments = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
        writer.save(_absolute(path), tree, save_args=arguments)


def stored_tree(path):
    """Tree of ShapeDtypeStruct of what is stored.

    Raises:
        CheckpointError: nothing there, or not a checkpoint.
    """
    path = epath.Path(path)
    if not path.exists():
        raise CheckpointError("no checkpoint there", where=path)
    try:
        with ocp.StandardCheckpointer() as reader:
            metadata = reader.metadata(_absolute(path))
        tree = metadata.item_metadata.tree
    except (ValueError, KeyError, AttributeError, FileNotFoundError) as error:
        raise CheckpointError(f"cannot be read as a checkpoint: {error}", where=path) from error
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def restore_tree(path, target, placement=None):
    """Reads a tree of the names, shapes and dtypes of `target` (ShapeDtypeStruct), onto the
    shardings of `placement`.
    """
    if placement is None:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placement = jax.tree.map(lambda _: device, target)
    wanted = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        target,
        placement,
    )
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(_absolute(path), wanted)


def _absolute(path) -> str:
    return os.fspath(path) if "://" in os.fspath(path) else os.path.abspath(path)


def _check_tree(found, wanted, *, where) -> None:
    found, wanted = flatten(found), flatten(wanted)
    if missing := sorted(set(wanted) - set(found)):
        raise CheckpointError(
            f"{len(missing)} parameters are missing, first {missing[0]} {wanted[missing[0]].shape}",
            where=where,
        )
    if extra := sorted(set(found) - set(wanted)):
        raise CheckpointError(
            f"{len(extra)} parameters are not in the model, first {extra[0]} {found[extra[0]].shape}",
            where=where,
        )
    for name, leaf in wanted.items():
        if tuple(found[name].shape) != tuple(leaf.shape):
            raise CheckpointError(
                f"{name} has shape {tuple(found[name].shape)}, the model wants {tuple(leaf.shape)}",
                where=where,
            )


def remove(path) -> None:
    """Deletes a checkpoint folder if it is there."""
    shutil.rmtree(os.fspath(path), ignore_errors=True)
