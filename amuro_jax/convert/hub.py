"""Downloads from the Hugging Face Hub: resumed where they were cut, every file checked against the
Hub's own hash, offline on request.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from amuro_jax import files
from amuro_jax.convert import importer
from amuro_jax.errors import AmuroError, CheckpointError

# In order of preference: what a repository's weight files are called.
WEIGHTS = (("model", ".safetensors"), ("pytorch_model", ".bin"), ("model", ".pt"))

_AGAIN = "try again: the download goes on where it stopped"


@contextlib.contextmanager
def _hub_errors(where, away=_AGAIN):
    """Faults of the Hub as ours; `away` is what to do where it cannot be reached."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise CheckpointError(
            "access to this model must be granted first",
            where=where,
            hint="ask on its Hub page, then set HF_TOKEN",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            "no such model on the Hub",
            where=where,
            hint="check the spelling; a private model needs HF_TOKEN",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(
            "the model has no such revision", where=where, hint="amuro revisions NAME lists them"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            "not downloaded yet, and the Hub cannot be reached",
            where=where,
            hint="run once without --offline",
        ) from error
    except (httpx.HTTPError, errors.HfHubHTTPError) as error:
        raise CheckpointError(
            f"the Hub cannot be reached: {str(error)[:300]}", where=where, hint=away
        ) from error
    except errors.HFValidationError as error:
        raise CheckpointError(f"not a name on the Hub: {error}", where=where) from error
    except OSError as error:
        raise AmuroError(
            f"the download failed: {str(error)[:300]}",
            where=where,
            hint=f"is the disk full? {_AGAIN}",
        ) from error


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None  # read now: the library reads it at its import


def _api(token):
    import huggingface_hub

    return huggingface_hub.HfApi(endpoint=_endpoint(), token=token)


def is_offline() -> bool:
    """Whether the environment asks for no connection to the Hub (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def reach(seconds: float) -> tuple[str, str | None]:
    """(address of the Hub, whom this machine's token belongs to; None without a token).

    Args:
        seconds: to wait for the first answer.

    Raises:
        CheckpointError: no answer, or a token that the Hub does not know; its text is in no error.
    """
    import httpx
    import huggingface_hub
    from huggingface_hub import constants, errors

    address = _endpoint() or constants.ENDPOINT
    token = huggingface_hub.get_token()
    away = "see to the network or its proxy; HF_HUB_OFFLINE=1 works with what is here already"
    with _hub_errors(address, away):
        httpx.head(address, timeout=seconds)
        if token is None:
            return address, None
        try:
            return address, _api(token).whoami()["name"]
        except errors.HfHubHTTPError as error:
            if error.response is None or error.response.status_code not in (401, 403):
                raise
            hint = "`hf auth login`, or another HF_TOKEN"
        raise CheckpointError("the Hub does not know the token", where=address, hint=hint)


def _memory(cache: Path, repository: str, kind: str) -> Path:
    return cache / "hub_index" / f"{repository.replace('/', '--')}.{kind}.json"


def list_names(
    repository: str, cache: Path, *, offline: bool = False, token: str | None = None
) -> list[str]:
    """Branches and tags of a repository; remembered for offline use.

    Raises:
        CheckpointError: no such repository, no connection, or offline with nothing remembered.
    """
    memory = _memory(cache, repository, "refs")
    if offline:
        if not memory.is_file():
            raise CheckpointError(
                "offline, and its revisions were never listed here",
                where=repository,
                hint="run once with a connection",
            )
        return sorted(files.read_json(memory))
    with _hub_errors(repository):
        refs = _api(token).list_repo_refs(repository)
    commits = {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
    files.write_json(memory, commits)
    return sorted(commits)


def resolve(
    repository: str,
    revision: str | None,
    cache: Path,
    *,
    offline: bool = False,
    token: str | None = None,
) -> dict:
    """{"commit", "files": {name: {"size", "sha256" | "sha1"}}} of a revision; remembered for
    offline use.

    Raises:
        CheckpointError: no such repository or revision, no connection, or offline with nothing
            remembered.
    """
    memory = _memory(cache, repository, f"revision.{files.content_key(revision or 'main')}")
    if offline:
        if not memory.is_file():
            raise CheckpointError(
                "offline, and never downloaded here",
                where=f"{repository}@{revision or 'main'}",
                hint="run once without --offline",
            )
        return files.read_json(memory)
    with _hub_errors(f"{repository}@{revision or 'main'}"):
        info = _api(token).model_info(repository, revision=revision, files_metadata=True)
    listing = {sibling.rfilename: _identity(sibling) for sibling in info.siblings or []}
    resolved = {"commit": info.sha, "files": listing}
    files.write_json(memory, resolved)
    return resolved


def _identity(sibling):
    if sibling.lfs:
        return {
            "size": sibling.size,
            "sha256": sibling.lfs["sha256"]
            if isinstance(sibling.lfs, dict)
            else sibling.lfs.sha256,
        }
    return {"size": sibling.size, "sha1": sibling.blob_id}


def wanted_files(names: list[str], where) -> list[str]:
    """Config, tokenizer and the weight files of one container.

    Raises:
        CheckpointError: no weights among them.
    """
    top = [name for name in names if "/" not in name]
    for stem, suffix in WEIGHTS:
        weights = [
            name
            for name in top
            if name.startswith(stem) and name.endswith((suffix, f"{suffix}.index.json"))
        ]
        if weights:
            return sorted(weights + [name for name in top if name in importer.COMPANIONS])
    raise CheckpointError(
        "no weights in this repository", where=where, hint=f"it has: {', '.join(names[:8])}"
    )


def download(
    repository: str,
    listing: dict,
    cache: Path,
    *,
    offline: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Folder with the files of a resolved revision, each checked against the Hub's hash.

    Raises:
        CheckpointError: a file whose bytes are not those that the Hub names; it is deleted. And as
            `resolve`.
    """
    import huggingface_hub

    commit, folder = listing["commit"], None
    for name in wanted_files(list(listing["files"]), f"{repository}@{commit}"):
        with _hub_errors(f"{repository}@{commit}: {name}"):
            path = huggingface_hub.hf_hub_download(
                repository,
                name,
                revision=commit,
                cache_dir=cache / "hub",
                endpoint=_endpoint(),
                token=token,
                local_files_only=offline,
            )
        _check(Path(path), listing["files"][name], f"{repository}@{commit}: {name}", cache)
        folder = Path(path).parent
    return folder


def forget(repository: str, commit: str, cache: Path) -> None:
    """Deletes a downloaded revision; files that other revisions share stay."""
    import huggingface_hub

    if (cache / "hub").is_dir():
        downloads = huggingface_hub.scan_cache_dir(cache / "hub")
        if any(
            revision.commit_hash == commit
            for repo in downloads.repos
            if repo.repo_id == repository
            for revision in repo.revisions
        ):
            downloads.delete_revisions(commit).execute()


def _check(path, identity, where, cache):
    """Compares a file with the Hub's record of it, once per file."""
    blob = path.resolve()
    status = blob.stat()
    marker = (
        cache
        / "hub_index"
        / "checked"
        / files.content_key([str(blob), status.st_mtime_ns, status.st_size, identity])
    )
    if marker.is_file():
        return
    kind = "sha256" if "sha256" in identity else "sha1"
    digest = files.sha256_file(blob) if kind == "sha256" else _git_hash(blob)
    if digest != identity[kind]:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        what = f"the file's {kind} is {digest}, the Hub says {identity[kind]}; the file was deleted"
        raise CheckpointError(
            what,
            where=where,
            hint="download it again; if it comes back the same, the mirror or the network changes "
            "it",
        )
    files.write_text(marker, "")


def _git_hash(path):
    """SHA-1 that git gives a file."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
