"""Which checkpoints of a series have the same weights, told without a download."""

import hashlib
from pathlib import Path

from amuro_jax import checkpoint, files
from amuro_jax.convert import containers, resolver
from amuro_jax.errors import AmuroError

# Two different checkpoints differ nearly everywhere; a few pieces of each file tell them apart, and
# files that agree in all of them are hashed whole.
SAMPLES, SAMPLE_BYTES = 16, 4096


def duplicates(names: list[str], cache_dir=None) -> tuple[dict[str, str], list[str]]:
    """({name: earlier name with the same weights}, names of which nothing tells).

    A folder that is not converted is read in a few places only, unless another one agrees with it
    there. A name that cannot be looked up is among the names of which nothing tells.
    """
    firsts, sampled, unknown, same = {}, {}, [], {}
    for name in names:
        try:
            folder = resolver.find_folder(name)
            if folder is not None and not resolver.is_converted(folder):
                key = _sample(folder)
                first = sampled.setdefault(key, name)
                if first == name:
                    continue
                firsts.setdefault(weight_fingerprint(first, cache_dir), first)
            fingerprint = weight_fingerprint(name, cache_dir)
        except (AmuroError, OSError):
            fingerprint = None
        if fingerprint is None:
            unknown.append(name)
            continue
        first = firsts.setdefault(fingerprint, name)
        if first != name:
            same[name] = first
    return same, unknown


def _sample(folder: Path) -> str:
    """A digest of the sizes and of a few pieces of a folder's weight files."""
    digest = hashlib.sha256()
    for path in containers.weight_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as stream:
            for index in range(SAMPLES):
                stream.seek(size * index // SAMPLES)
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def weight_fingerprint(
    name, cache_dir=None, *, offline: bool = False, token: str | None = None
) -> str | None:
    """A digest of a checkpoint's weight files, without a download: two checkpoints with the same
    one have the same weights. None where nothing tells it.

    Of a Hub name it follows from the hashes that the Hub lists, of a folder from those of its
    files, of a converted folder from those of the files that it was converted from, of a
    fine-tuned one from its identity.

    Raises:
        CheckpointError: nothing of that name.
    """
    cache = Path(cache_dir) if cache_dir else resolver.default_cache()
    folder = resolver.find_folder(name)
    if folder is None:
        from amuro_jax.convert import hub

        base, revision = resolver.split_name(name)
        listing = hub.resolve(base, revision, cache, offline=offline, token=token)["files"]
        hashes = {file: listing[file].get("sha256") for file in hub.wanted_files(listing, name)}
    elif resolver.is_converted(folder):
        hashes = checkpoint.read_provenance(folder).get("files") or {}
        if not any(map(is_weights, hashes)):
            return checkpoint.read_identity(folder).parameters
    else:
        hashes = resolver.hash_files(folder, cache)
    weights = sorted(str(value) for file, value in hashes.items() if is_weights(file) and value)
    return files.content_key(weights) if weights else None


def is_weights(file: str) -> bool:
    """Whether a file of a checkpoint holds weights."""
    return file.endswith((".safetensors", ".bin", ".pt"))
