"""Adapter folders: a checkpoint kind of its own, of a few MB, beside the model that it belongs to.

An adapter folder is a model folder (docs/checkpoints.md) whose `params/` holds the adapter alone,
and whose `adapter.json` says how it is read and which model is its base: by identity, and by the
names under which it is looked for. The configuration and the tokenizer are the base's.
"""

import dataclasses
import os
from pathlib import Path

import jax
from etils import epath

from amuro_jax import checkpoint, files, sharding
from amuro_jax.convert import peft, resolver
from amuro_jax.errors import AmuroError, CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.lora import Lora, merged
from amuro_jax.models.parameters import flatten, logical_axes


@dataclasses.dataclass(frozen=True)
class Base:
    """The model that an adapter belongs to.

    Attributes:
        identity: key of what it is.
        folder: of its parameters, where the adapter was made.
        name: as `open_checkpoint` takes it, where that folder is gone; "": none is known.
    """

    identity: str
    folder: str
    name: str = ""

    @classmethod
    def of(cls, folder) -> "Base":
        """The base in a model folder, by the names that its provenance gives."""
        source = checkpoint.read_provenance(folder)
        name, revision = source.get("source", ""), source.get("revision")
        name = f"{name}@{revision}" if name and revision else str(name)
        return cls(checkpoint.model_hash(folder), os.path.abspath(folder), name)


def save(
    folder,
    lora: Lora,
    trained: dict,
    base,
    provenance: dict,
    identity: str,
) -> None:
    """Writes an adapter folder; every process of a job calls it.

    Args:
        base: folder of the model that the adapter belongs to.
        identity: key of the training that made it, or of its content.
    """
    config = checkpoint.read_config(base)
    settings = dataclasses.asdict(lora) | {"base": dataclasses.asdict(Base.of(base))}
    tokenizer = epath.Path(base) / "tokenizer"
    checkpoint.save_model(
        folder, trained, config, tokenizer, provenance, identity=identity, adapter=settings
    )


def read_settings(folder) -> tuple[Lora, Base]:
    """How an adapter is read, and the model that it belongs to.

    Raises:
        CheckpointError: not an adapter folder, or a damaged one.
    """
    path = epath.Path(folder) / checkpoint.ADAPTER
    if not path.exists():
        raise CheckpointError(f"not an adapter: {checkpoint.ADAPTER} is missing", where=folder)
    values = files.read_json(path)
    try:
        base, targets = Base(**values.pop("base")), values.pop("targets")
        return Lora(**values, targets=targets and tuple(targets)), base
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"damaged settings: {error}", where=path) from error


def find_base(folder, cache_dir=None) -> Path:
    """Folder of the model that an adapter belongs to: where it was, else by its name.

    Raises:
        CheckpointError: it is not there, or is another model now; both identities are named.
    """
    _, base = read_settings(folder)
    hint = "say where it is: amuro convert --checkpoint=ADAPTER --base=NAME --out=FOLDER"
    tried = []
    if checkpoint.is_model(base.folder):
        identity = checkpoint.model_hash(base.folder)
        if identity == base.identity:
            return Path(base.folder)
        tried.append(f"{base.folder} is the model {identity}")
    try:
        base_folder = resolver.open_checkpoint(base.name, cache_dir) if base.name else None
    except AmuroError as error:
        tried.append(f"{base.name}: {error.what}")
        base_folder = None
    if base_folder is not None:
        identity = checkpoint.model_hash(base_folder)
        if identity == base.identity:
            return base_folder
        tried.append(f"{base.name} is the model {identity}")
    what = "; ".join(tried) or f"nothing is at {base.folder}"
    raise CheckpointError(
        f"the adapter belongs to the model {base.identity}, which is not there: {what}",
        where=folder,
        hint=hint,
    )


def read(folder, config: ModelConfig | None = None, mesh=None) -> tuple[Lora, dict]:
    """(settings, adapter's tree in fp32) of an adapter folder; each chunk is compared with its
    checksum.

    Args:
        config: of the model that it is to be used with; None: the folder's own.

    Raises:
        CheckpointError: not an adapter, or one of other shapes than the model's.
    """
    lora, _ = read_settings(folder)
    path = epath.Path(folder) / "params"
    config = config or checkpoint.read_config(folder)
    expected = lora.abstract(config)
    _check_shapes(flatten(checkpoint.stored_tree(path)), flatten(expected), folder)
    placement = None if mesh is None else sharding.shardings(lora.axes(config), expected, mesh)
    return lora, checkpoint.restore_tree(path, expected, placement)


def load_params(folder, config: ModelConfig | None = None, mesh=None, dtype=None, merge=False):
    """Parameters of a model folder of either kind: `checkpoint.load_params`, or those of the base
    with the adapter beside its kernels.

    Args:
        merge: an adapter is multiplied out, in fp32: a plain tree.

    Raises:
        CheckpointError: as `checkpoint.load_params`, `find_base` and `read`.
    """
    if not checkpoint.is_adapter(folder):
        return checkpoint.load_params(folder, config, mesh=mesh, dtype=dtype)
    base = find_base(folder)
    params = load_params(base, config, mesh, dtype, merge=True)  # it may be an adapter itself
    lora, trained = read(folder, config, mesh)
    joined = lora.join(trained, params)
    if not merge:
        return joined if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), joined)
    merged_params = merged(joined)
    if mesh is None:
        return merged_params
    axes = logical_axes(config or checkpoint.read_config(folder))
    return jax.device_put(merged_params, sharding.shardings(axes, merged_params, mesh))


def merge_into(folder, out) -> None:
    """Writes the model that an adapter makes of its base as a model folder of its own, in the
    base's dtypes. Its identity follows from its content: the sum is rounded.
    """
    provenance = checkpoint.read_provenance(folder)
    provenance |= {"form": "merged", "parents": [checkpoint.model_hash(folder)]}
    checkpoint.save_model(
        out,
        load_params(folder, merge=True),
        checkpoint.read_config(folder),
        epath.Path(folder) / "tokenizer",
        provenance,
    )


def convert_peft(folder, out, base: str = "", cache_dir=None) -> None:
    """Writes a PEFT adapter as an adapter folder.

    Args:
        base: name of its base; "": the one that the adapter's settings name.

    Raises:
        CheckpointError: the base is not there, or the adapter does not fit it.
    """
    name = base or peft.read_base_name(folder)
    if not name:
        raise CheckpointError(
            "the adapter does not say which model it belongs to",
            where=epath.Path(folder) / peft.CONFIG,
            hint="say it: amuro convert --base=NAME",
        )
    folder_of_base = resolver.open_checkpoint(name, cache_dir)
    lora, trained = peft.read(folder, checkpoint.read_config(folder_of_base))
    sources = peft_hashes(folder)
    provenance = {"form": "peft", "source": str(folder), "files": sources, "base": name}
    save(out, lora, trained, folder_of_base, provenance, content_identity(folder_of_base, sources))


def peft_hashes(folder) -> dict[str, str]:
    """SHA-256 of the files of a PEFT adapter."""
    names = (peft.CONFIG, peft.WEIGHTS)
    return {name: files.sha256_file(epath.Path(folder) / name) for name in names}


def content_identity(base, sources: dict[str, str]) -> str:
    """Key of an adapter by its base and the hashes of its files."""
    return files.content_key({"base": checkpoint.model_hash(base), "adapter": sources})


def move(folder, base: str, out, cache_dir=None) -> None:
    """Writes an adapter folder again for a base that is elsewhere now.

    Raises:
        CheckpointError: it is not the adapter's base; both identities are named.
    """
    _, base_of_adapter = read_settings(folder)
    folder_of_base = resolver.open_checkpoint(base, cache_dir)
    identity = checkpoint.model_hash(folder_of_base)
    if identity != base_of_adapter.identity:
        raise CheckpointError(
            f"the adapter belongs to the model {base_of_adapter.identity}, {base} is {identity}",
            where=folder,
        )
    lora, trained = read(folder)
    provenance, key = checkpoint.read_provenance(folder), checkpoint.model_hash(folder)
    save(out, lora, trained, folder_of_base, provenance, key)


def export_peft(folder, out) -> None:
    """Writes an adapter folder in PEFT's format; PEFT loads the base by the name that is known
    here.
    """
    lora, trained = read(folder)
    _, base = read_settings(folder)
    name = resolver.split_name(base.name)[0] or base.folder
    peft.write(out, lora, trained, checkpoint.read_config(folder), name)


def _check_shapes(stored, expected, where):
    for name in sorted(set(stored) | set(expected)):
        theirs = tuple(stored[name].shape) if name in stored else "nothing"
        mine = tuple(expected[name].shape) if name in expected else "nothing"
        if theirs != mine:
            raise CheckpointError(f"{name}: stored {theirs}, the model wants {mine}", where=where)
