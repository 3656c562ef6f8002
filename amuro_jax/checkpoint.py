"""Checkpoints on disk: model folders and training states. The only importer of orbax.

A model folder holds `params/` (Orbax, OCDBT), `model.json`, `tokenizer/` and `provenance.json`
(docs/architecture.md). It appears whole
or not at all. Reading is strict: names, shapes and dtypes must be those asked for; nothing is
filled in, skipped or cast silently.
"""

import os
import shutil
import warnings

import jax
import jax.numpy as jnp
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
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(_absolute(path), _placed(target, placement))


def _placed(target, placement):
    if placement is None:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placement = jax.tree.map(lambda _: device, target)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        target,
        placement,
    )


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


class TrainingStates:
    """The newest resumable states of a training run, in one folder; written in the background.

    A state that a kill cut off is never seen. One whose bytes changed on disk is skipped with a
    warning, and the one before it is used.
    """

    def __init__(self, folder, keep: int = 2):
        """`keep`: how many of the newest states stay."""
        self.folder = epath.Path(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, step_prefix="step", cleanup_tmp_directories=True
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "contents": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            _absolute(folder), options=options, item_handlers=handlers
        )

    def newest(self) -> int | None:
        """Step of the newest state, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, tree) -> None:
        """Writes a state: returns when its arrays are read from the devices."""
        save_args = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree, save_args),
                contents=ocp.args.JsonSave(_contents(tree)),
            ),
            force=True,
        )

    def restore_newest(self, target, placement=None):
        """(tree, step) of the newest state that holds what was written, None where there is none.

        Newer ones that do not are deleted: the run is about to write their steps again.

        Args:
            target, placement: as in `restore_tree`.

        Raises:
            CheckpointError: the newest state is of another tree than `target`.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                contents = self._read(step, "contents", ocp.args.JsonRestore())
                self._check_same(step, contents, target)
                tree = self._read(
                    step, "state", ocp.args.StandardRestore(_placed(target, placement))
                )
                if _contents(tree) != contents:
                    raise DamagedState("its bytes are not those that were written")
            except DamagedState as fault:
                warnings.warn(
                    f"the state of step {step} in {self.folder} is skipped: {fault}", stacklevel=2
                )
                self._manager.delete(step)
                continue
            return tree, step
        return None

    def _read(self, step, item, arguments):
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: arguments}))[item]
        except Exception as error:  # orbax raises bare exceptions for what tensorstore cannot read
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DamagedState(f"it cannot be read ({first})") from error

    def _check_same(self, step, contents, target):
        for name, leaf in _named(target).items():
            stored, mine = contents.get(name, [])[:2], [list(leaf.shape), str(leaf.dtype)]
            if stored != mine:
                raise CheckpointError(
                    f"{name}: the run has {mine}, the state of step {step} has {stored or 'none'}",
                    where=self.folder,
                    hint="the folder holds another run; choose another workdir",
                )

    def wait(self) -> None:
        """Returns when all states are on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the states that are being written."""
        self._manager.close()


class DamagedState(Exception):
    """A state on disk that is not what was written; never leaves this module."""


def _named(tree) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _contents(tree) -> dict[str, list]:
    """Name → [shape, dtype, digest] of each array."""
    named = _named(tree)
    digests = jax.device_get(_digests(list(named.values())))
    return {
        name: [list(leaf.shape), str(leaf.dtype), int(digest)]
        for (name, leaf), digest in zip(named.items(), digests, strict=True)
    }


@jax.jit
def _digests(leaves):
    """uint32 of each array: the sum of its words, each times an odd number that its place gives.

    Computed where the array lies, exactly, on any mesh; a change within one word always shows,
    since a number that is not 0 stays so under a product with an odd one (modulo 2 ** 32).
    """

    def digest(leaf):
        size = leaf.dtype.itemsize * 8
        words = jax.lax.bitcast_convert_type(leaf, f"uint{size}").astype(jnp.uint32)
        place = jnp.zeros(leaf.shape, jnp.uint32)
        for axis, count in enumerate(leaf.shape):
            place = place * jnp.uint32(count) + jax.lax.broadcasted_iota(
                jnp.uint32, leaf.shape, axis
            )
        return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)

    return [digest(leaf) for leaf in leaves]
