"""The resolver: any name or folder of a checkpoint → a converted folder, converted when it is not
yet, cached by content.
"""

import concurrent.futures
import contextlib
import fcntl
import os
from pathlib import Path

from amuro_jax import checkpoint, files
from amuro_jax.convert import containers, importer
from amuro_jax.convert.token_ids import check_token_ids
from amuro_jax.errors import AmuroError, CheckpointError, ConfigError

# Bytes of a converted folder besides the parameters: index and versions of the store, tokenizer.
BESIDE = 512 << 10
LAYOUT = 3  # raised when the same source would be written otherwise


def default_cache() -> Path:
    """`$AMURO_CACHE`, or `~/.cache/amuro_jax`."""
    return Path(os.environ.get("AMURO_CACHE") or Path.home() / ".cache" / "amuro_jax")


def split_name(name: str) -> tuple[str, str | None]:
    """`"org/model@revision"` → ("org/model", "revision"); no revision gives None."""
    head, at, tail = str(name).rpartition("@")
    return (head, tail) if at and head else (str(name), None)


def open_checkpoint(
    name,
    cache_dir=None,
    *,
    offline: bool = False,
    token: str | None = None,
    tokenizer=None,
    progress=None,
    out=None,
    base: str = "",
) -> Path:
    """A converted folder of the checkpoint `name`.

    Args:
        name: Hub name with optional `@revision`; an HF, native OLMo or converted folder; a folder
            of checkpoints with `@name`; an adapter's folder, PEFT's too.
        cache_dir: folder of conversions and their keys; default `default_cache()`.
        offline: use only what is already downloaded.
        tokenizer: folder of tokenizer files, for a source that has none.
        progress: called with bytes read and bytes in all.
        out: write this folder instead of one in the cache; it must not be there yet.
        base: of an adapter: name of its base, where it is not the one that the adapter names.

    Raises:
        CheckpointError: nothing of that name, or a checkpoint that is damaged or not covered.
    """
    cache = Path(cache_dir) if cache_dir else default_cache()
    if out and Path(out).exists():
        raise ConfigError(
            "this folder is already there", where=out, hint="choose another, or remove it first"
        )
    folder = find_folder(name)
    options = {"tokenizer": tokenizer, "progress": progress, "out": out}
    if folder is not None and (_is_peft(folder) or base):
        return _adapter(folder, base, out, cache)
    if folder is None:
        return _from_hub(name, cache, offline, token, options)
    if not is_converted(folder):
        return _converted(folder, {"source": str(name)}, cache, **options)
    check_token_ids(folder / "tokenizer", checkpoint.read_config(folder))
    if out:
        raise ConfigError(
            "this checkpoint is converted already", where=name, hint="copy the folder"
        )
    return folder


def _is_peft(folder):
    from amuro_jax.convert import peft

    return peft.is_peft(folder)


def _adapter(folder, base, out, cache) -> Path:
    """The adapter folder of a PEFT adapter, or of one whose base is elsewhere now."""
    from amuro_jax.convert import adapters

    if _is_peft(folder):
        if not out:
            key = [str(folder.resolve()), adapters.peft_hashes(folder), base]
            out = cache / "converted" / files.content_key(key)
        if not is_converted(out):
            adapters.convert_peft(folder, out, base, cache)
    elif not checkpoint.is_adapter(folder):
        raise ConfigError("only an adapter has a base", where="--base", hint="leave it out")
    elif not out:
        raise ConfigError("no folder to write", where="--out", hint="give --out=FOLDER")
    else:
        adapters.move(folder, base, out, cache)
    return Path(out)


def is_converted(folder) -> bool:
    """Whether a folder is a converted checkpoint, and finished."""
    return checkpoint.is_model(folder)


def find_folder(name) -> Path | None:
    """The local folder that a name means; None for a name on the Hub.

    Raises:
        CheckpointError: neither a folder nor a name on the Hub.
    """
    path = Path(str(name)).expanduser()
    if path.is_dir():
        return path
    base, revision = split_name(name)
    parent = Path(base).expanduser()
    if revision and parent.is_dir():
        return _member(parent, revision)
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise CheckpointError("no such folder, and not a name on the Hub (owner/model)", where=name)
    return None


def _from_hub(name, cache, offline, token, options):
    """A conversion of files with the same hashes is found without a download, under whichever
    revision or repository it was made.
    """
    from amuro_jax.convert import hub

    base, revision = split_name(name)
    listing = hub.resolve(base, revision, cache, offline=offline, token=token)
    pointer = _pointer(cache, listing, options["tokenizer"], name)
    if not options["out"] and (done := _pointed(pointer, cache)):
        return done
    folder = hub.download(base, listing, cache, offline=offline, token=token)
    origin = {"source": base, "revision": revision or "main", "commit": listing["commit"]}
    converted = _converted(folder, origin, cache, **options)
    if not options["out"]:
        files.write_text(pointer, converted.name)
    return converted


def _pointer(cache, listing, tokenizer, name) -> Path:
    """File that names the conversion of the Hub's files with these hashes."""
    from amuro_jax.convert import hub

    hashes = {
        file: listing["files"][file].get("sha256") or listing["files"][file]["sha1"]
        for file in hub.wanted_files(list(listing["files"]), name)
    }
    extra = hash_files(tokenizer, cache, weights=False) if tokenizer else {}
    return cache / "hub_index" / "converted" / files.content_key([hashes, extra, LAYOUT])


def _pointed(pointer, cache) -> Path | None:
    folder = cache / "converted" / pointer.read_text() if pointer.is_file() else None
    return folder if folder and is_converted(folder) else None


def find_converted(
    name, cache, *, offline: bool = False, token=None, tokenizer=None
) -> Path | None:
    """The converted folder of a name, if there is one already; converts and downloads nothing."""
    folder = find_folder(name)
    if folder is None:
        from amuro_jax.convert import hub

        base, revision = split_name(name)
        listing = hub.resolve(base, revision, cache, offline=offline, token=token)
        return _pointed(_pointer(cache, listing, tokenizer, name), cache)
    if is_converted(folder):
        return folder
    converted = cache / "converted" / _key(_hashes(folder, tokenizer, cache))
    return converted if is_converted(converted) else None


def disk_needed(name, cache, *, offline: bool = False, token=None, tokenizer=None) -> int:
    """Bytes that fetching and converting a name will take at most: its weights and what lies beside
    them, and again for a download.
    """
    folder = find_folder(name)
    if folder is not None:
        return BESIDE + sum(path.stat().st_size for path in containers.weight_files(folder))
    from amuro_jax.convert import hub

    base, revision = split_name(name)
    listing = hub.resolve(base, revision, cache, offline=offline, token=token)
    return BESIDE + 2 * sum(
        listing["files"][file]["size"] or 0
        for file in hub.wanted_files(list(listing["files"]), name)
    )


def forget_download(name, cache, *, offline: bool = False, token=None, tokenizer=None) -> None:
    """Deletes the download of a Hub name; its conversion stays, and is still found by the name."""
    if find_folder(name) is None:
        from amuro_jax.convert import hub

        base, revision = split_name(name)
        hub.forget(
            base, hub.resolve(base, revision, cache, offline=offline, token=token)["commit"], cache
        )


def _member(parent, revision):
    if (parent / revision).is_dir():
        return parent / revision
    members = sorted(path.name for path in parent.iterdir() if path.is_dir())
    shown = ", ".join(members[:8]) + (f", … ({len(members)} in all)" if len(members) > 8 else "")
    raise CheckpointError(
        f"no checkpoint {revision!r} in this folder",
        where=parent,
        hint=f"there are: {shown}" if members else None,
    )


def _converted(folder, origin, cache, tokenizer, progress, out):
    hashes = _hashes(folder, tokenizer, cache)
    key = _key(hashes)
    out = Path(out) if out else cache / "converted" / key
    with _lock(cache / "converted" / f".{key}.lock"):
        if not is_converted(out):
            record = {**origin, "path": str(folder), "files": hashes}
            importer.convert(folder, out, provenance=record, tokenizer=tokenizer, progress=progress)
    return out


def _key(hashes) -> str:
    return files.content_key({"files": hashes, "layout": LAYOUT})


def _hashes(folder, tokenizer, cache):
    extra = hash_files(tokenizer, cache, weights=False) if tokenizer else {}
    return hash_files(folder, cache) | {f"tokenizer/{name}": value for name, value in extra.items()}


@contextlib.contextmanager
def _lock(path):
    """One conversion of a checkpoint at a time; the others wait and find it done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "w")
    except OSError as error:
        hint = "set AMURO_CACHE (or --cache) to a folder that can be written"
        raise AmuroError(f"cannot write the cache: {error}", where=path, hint=hint) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def hash_files(folder, cache: Path, *, weights: bool = True) -> dict[str, str]:
    """SHA-256 of each file that a conversion reads.

    Remembered by path, size and time of change, so that a second look is free.
    """
    folder = Path(folder)
    paths = [folder / name for name in importer.COMPANIONS if (folder / name).is_file()]
    if weights:
        paths += containers.weight_files(folder)
    paths.sort()
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        return {
            path.name: value
            for path, value in zip(
                paths,
                pool.map(lambda path: _remembered_hash(path.resolve(), cache), paths),
                strict=True,
            )
        }


def _remembered_hash(path, cache):
    stat = path.stat()
    stamp = [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino]
    memory = cache / "hashes" / f"{files.content_key(stamp)}.json"
    if memory.is_file():
        return files.read_json(memory)["sha256"]
    digest = files.sha256_file(path)
    if stat.st_size > 1 << 20:  # small files are hashed faster than looked up
        files.write_json(memory, {"file": stamp, "sha256": digest})
    return digest
