"""Model folders on disk.

A model folder holds `params/` (Orbax, OCDBT, a checksum for every chunk), `model.json`,
`tokenizer/`, `provenance.json` (where it comes from) and, written last, `identity.json` (what it
is); see docs/checkpoints.md. Reading is strict: names, shapes and dtypes must be the expected ones,
bytes those that were written; nothing is filled in, skipped or cast silently.
"""

import contextlib
import dataclasses
import math
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from amuro_jax import array_store, files, sharding
from amuro_jax.errors import AmuroError, CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params, flatten, logical_axes, unflatten

CHUNK_BYTES = 8 << 20  # of a stored chunk: a reader of one layer or shard reads little else
MARKER = "identity.json"  # written last: a folder without it is not finished
ADAPTER = "adapter.json"  # of a folder that holds an adapter, not a whole model
# Files of a tokenizer that decide what a text becomes; the vocabularies of older forms count where
# there is no tokenizer.json.
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_TOKENIZER += ("added_tokens.json", "chat_template.jinja", "chat_template.json")
_OLDER_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.model")


@dataclasses.dataclass(frozen=True)
class ModelIdentity:
    """What a model is, wherever it came from: the same for the same bytes of a local folder, of the
    Hub, and of the Hub under another revision.

    Attributes:
        parameters: digest of names, shapes, dtypes and values; of a fine-tuned model the key of its
            training (base, recipe, data, tokenizer), which determines them.
        config: digest of the ModelConfig.
        tokenizer: digest of the tokenizer's files.
        key: digest of the three, or the key of the training; what results are filed under.
    """

    parameters: str
    config: str
    tokenizer: str
    key: str = ""

    def __post_init__(self):
        if not self.key:
            values = dataclasses.asdict(self)
            object.__setattr__(self, "key", files.content_key(values))


def identify(
    parameters: str, config: ModelConfig, tokenizer_folder, key: str = ""
) -> ModelIdentity:
    """Identity of a model with the digest `parameters`, or of a training with the key `key`."""
    return ModelIdentity(
        parameters, files.content_key(config.to_json()), tokenizer_digest(tokenizer_folder), key
    )


def tokenizer_digest(folder) -> str:
    """Content key of the tokenizer's files in a folder."""
    folder = epath.Path(folder)
    names = _TOKENIZER + (() if (folder / "tokenizer.json").exists() else _OLDER_TOKENIZER)
    return files.content_key(
        {name: files.sha256_file(folder / name) for name in names if (folder / name).exists()}
    )


def parameters_digest(checksums: dict[str, array_store.Checksums]) -> str:
    """Content key of parameters, from the checksums of the chunks that `chunk_shapes` gives."""
    return files.content_key({name: sums.to_json() for name, sums in checksums.items()})


def chunk_shapes(config: ModelConfig, dtypes: dict) -> dict[str, tuple[int, ...]]:
    """Flat name → chunk shape: one layer, and the axes a mesh may split halved in turn until a
    chunk is small enough. A process that needs one shard, on whichever axis, reads little more.

    Args:
        dtypes: flat name → dtype of the parameter.
    """
    axes, shapes = flatten(logical_axes(config)), {}
    for name, leaf in flatten(abstract_params(config)).items():
        itemsize = jnp.dtype(dtypes[name]).itemsize
        chunk = [
            1 if axis == "layers" else size
            for axis, size in zip(axes[name], leaf.shape, strict=True)
        ]
        free = [i for i, axis in enumerate(axes[name]) if axis not in ("layers", "head_dim")]
        while math.prod(chunk) * itemsize > CHUNK_BYTES and any(chunk[i] > 1 for i in free):
            axis = min(
                (i for i in free if chunk[i] > 1), key=lambda i: math.ceil(leaf.shape[i] / chunk[i])
            )
            chunk[axis] = math.ceil(chunk[axis] / 2)
        shapes[name] = tuple(chunk)
    return shapes


def save_model(
    folder,
    params: dict,
    config: ModelConfig,
    tokenizer_folder,
    provenance: dict,
    identity: str = "",
    adapter: dict | None = None,
) -> None:
    """Writes a model folder; `tokenizer_folder` is copied file by file. Every process of a job
    calls it; an existing folder is replaced.

    Args:
        provenance: where the model comes from; never part of its identity.
        identity: key of its training; empty: the identity follows from its content.
        adapter: of an adapter folder (`convert/adapters.py`): settings and base, written to
            `adapter.json`; `params` are then the adapter's and `identity` is needed.

    Raises:
        CheckpointError: the tree is not the one that `config` declares, or no tokenizer folder.
        AmuroError: the disk is full.
    """
    if adapter is None:
        _check_tree(params, abstract_params(config), where=folder)
    if not epath.Path(tokenizer_folder).is_dir():
        raise CheckpointError("no tokenizer folder there", where=tokenizer_folder)
    writes, key = jax.process_index() == 0, identity
    folder = epath.Path(folder)
    with new_folder(folder) if writes else contextlib.nullcontext():
        _meet("model folder")
        save_tree(folder / "params", params)
        _meet("parameters")
        if writes:
            files.write_json(folder / "model.json", config.to_json())
            copy_files(tokenizer_folder, folder / "tokenizer")
            files.write_json(folder / "provenance.json", provenance)
            if adapter is not None:
                files.write_json(folder / ADAPTER, adapter)
            parameters = f"training {key}" if key else _content_digest(folder, params, config)
            write_marker(folder, identify(parameters, config, folder / "tokenizer", key))
    _meet("identity")


def _content_digest(folder, params, config):
    """Digest of parameters in memory; of those that no process holds alone, from the chunks as they
    are stored, which depend on the mesh.
    """
    flat = flatten(params)
    if not all(getattr(leaf, "is_fully_addressable", True) for leaf in flat.values()):
        return parameters_digest(array_store.read_checksums(folder / "params"))
    chunks, checksums = chunk_shapes(config, {name: leaf.dtype for name, leaf in flat.items()}), {}
    for name, leaf in flat.items():
        checksums[name] = array_store.Checksums(leaf.shape, leaf.dtype.name, chunks[name])
        checksums[name].add(np.asarray(leaf), (0,) * leaf.ndim)
    return parameters_digest(checksums)


def _meet(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"amuro_jax checkpoint: {what}")


@contextlib.contextmanager
def new_folder(path):
    """Replaces a folder by an empty one; removes it when the block raises.

    Nothing is renamed, so that it works in an object store: the folder is finished when the block
    has written its marker, as its last act.

    Raises:
        AmuroError: the disk is full or the folder cannot be written.
    """
    path = epath.Path(path)
    try:
        (path / MARKER).unlink(missing_ok=True)
        remove(path)
        path.mkdir(parents=True, exist_ok=True)
        yield path
    except BaseException as error:
        remove(path)
        if isinstance(error, OSError):
            raise AmuroError(
                f"cannot write: {error}",
                where=path,
                hint="free some disk space or choose another folder",
            ) from error
        raise


def write_marker(folder, identity: ModelIdentity) -> None:
    """Says that a model folder is finished, and what it holds."""
    files.write_json(epath.Path(folder) / MARKER, dataclasses.asdict(identity))


def is_model(folder) -> bool:
    """Whether a finished model folder is there."""
    return (epath.Path(folder) / MARKER).exists()


def is_adapter(folder) -> bool:
    """Whether a model folder holds an adapter beside another model (`convert/adapters.py`)."""
    return (epath.Path(folder) / ADAPTER).exists()


def read_identity(folder) -> ModelIdentity:
    """What the model in a folder is.

    Raises:
        CheckpointError: not a finished model folder.
    """
    path = epath.Path(folder) / MARKER
    if not path.exists():
        raise CheckpointError(
            f"not a finished model folder: {MARKER} is missing",
            where=folder,
            hint="it was interrupted, or is of an earlier version: convert or train it again",
        )
    try:
        return ModelIdentity(**files.read_json(path))
    except TypeError as error:
        raise CheckpointError(f"damaged identity: {error}", where=path) from error


def model_hash(folder) -> str:
    """Key of the model's identity: what results are filed under."""
    return read_identity(folder).key


def copy_files(source, target) -> None:
    """Copies the plain files of a folder."""
    target = epath.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for path in epath.Path(source).iterdir():
        if path.is_file():
            path.copy(target / path.name)


def load_params(folder, config: ModelConfig | None = None, mesh=None, dtype=None) -> dict:
    """Parameters of a model folder, sharded onto `mesh` where there is one; each chunk that is read
    is compared with its checksum.

    Args:
        dtype: cast after reading; None keeps what is stored.

    Raises:
        CheckpointError: missing folder, another tree than `config` (by default the folder's own)
            declares, or bytes that are not those that were written.
    """
    config = config or read_config(folder)
    read_identity(folder)  # else the folder is not finished
    if is_adapter(folder):
        raise CheckpointError(
            "an adapter, not a whole model",
            where=folder,
            hint="merge it first: amuro export --to=model",
        )
    path = epath.Path(folder) / "params"
    checksums = array_store.read_checksums(path)
    target = abstract_params(config)
    stored = {
        name: jax.ShapeDtypeStruct(sums.shape, jnp.dtype(sums.dtype))
        for name, sums in checksums.items()
    }
    _check_tree(unflatten(stored), target, where=folder)
    target = unflatten({name: stored[name] for name in flatten(target)})
    placement = None if mesh is None else sharding.shardings(logical_axes(config), target, mesh)
    params = restore_tree(path, target, placement)
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
    """Where a model folder comes from: source, revision, commit, hashes of the files, when, how."""
    return files.read_json(epath.Path(folder) / "provenance.json")


def save_tree(path, tree) -> None:
    """Writes a tree of arrays in chunks of some MB, then the checksums of the chunks."""
    with ocp.StandardCheckpointer() as writer:
        arguments = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
        writer.save(absolute(path), tree, save_args=arguments)
    array_store.record_checksums(path, named_leaves(tree))


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
            metadata = reader.metadata(absolute(path))
        tree = metadata.item_metadata.tree
    except (ValueError, KeyError, AttributeError, FileNotFoundError) as error:
        raise CheckpointError(f"cannot be read as a checkpoint: {error}", where=path) from error
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def restore_tree(path, target, placement=None):
    """Reads a tree of the names, shapes and dtypes of `target` (ShapeDtypeStruct), onto the
    shardings of `placement`; each chunk that is read is compared with its checksum.

    Raises:
        CheckpointError: another tree, or bytes that are not those that were written.
    """
    specs = placed(target, placement)
    named, checksums = named_leaves(specs), array_store.read_checksums(path)
    for name, leaf in named.items():
        stored = checksums.get(name)
        if stored is None or (stored.shape, stored.dtype) != (tuple(leaf.shape), leaf.dtype.name):
            has = f"{stored.dtype} {stored.shape}" if stored else "none of that name"
            raise CheckpointError(
                f"{name} is {leaf.dtype.name} {tuple(leaf.shape)}, stored is {has}", where=path
            )
    read = array_store.read_arrays(path, named, {n: leaf.sharding for n, leaf in named.items()})
    return jax.tree.unflatten(jax.tree.structure(specs), list(read.values()))


def placed(target, placement):
    """`target` (ShapeDtypeStruct) with the shardings of `placement`; None: on the first device."""
    if placement is None:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placement = jax.tree.map(lambda _: device, target)
    return jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec),
        target,
        placement,
    )


def absolute(path) -> str:
    """The path as orbax takes it: absolute, or a URL."""
    return os.fspath(path) if "://" in os.fspath(path) else os.path.abspath(path)


def _check_tree(stored, expected, *, where) -> None:
    stored, expected = flatten(stored), flatten(expected)
    if missing := sorted(set(expected) - set(stored)):
        raise CheckpointError(
            f"{len(missing)} parameters are missing, first {missing[0]} "
            f"{expected[missing[0]].shape}",
            where=where,
        )
    if extra := sorted(set(stored) - set(expected)):
        raise CheckpointError(
            f"{len(extra)} parameters are not in the model, first {extra[0]} "
            f"{stored[extra[0]].shape}",
            where=where,
        )
    for name, leaf in expected.items():
        if tuple(stored[name].shape) != tuple(leaf.shape):
            raise CheckpointError(
                f"{name} has shape {tuple(stored[name].shape)}, the model wants "
                f"{tuple(leaf.shape)}",
                where=where,
            )


def remove(path) -> None:
    """Deletes a checkpoint folder if it is there."""
    if "://" not in os.fspath(path):
        shutil.rmtree(os.fspath(path), ignore_errors=True)
    elif epath.Path(path).exists():
        epath.Path(path).rmtree()


def named_leaves(tree) -> dict:
    """Flat name (`layers/mlp/up/kernel`) → leaf, for any tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
