"""Source folder → converted folder, block by block: a few tens of MB in memory, however large the
model is.
"""

import datetime
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from amuro_jax import __version__, array_store, checkpoint, files
from amuro_jax.convert import rules, tensors
from amuro_jax.convert.source import CheckpointSource, open_source
from amuro_jax.convert.token_ids import check_token_ids
from amuro_jax.errors import CheckpointError
from amuro_jax.models.parameters import abstract_params, flatten

BLOCK = 32 << 20  # bytes of source read at once
# What travels with a model besides its weights; everything else of a source folder stays behind.
COMPANIONS = (
    "config.json",
    "config.yaml",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)


def convert(folder, out, *, provenance: dict | None = None, tokenizer=None, progress=None) -> None:
    """Writes the converted folder `out`; it is finished when its marker is there.

    Args:
        folder: HF or native OLMo folder.
        provenance: fields to record besides the form, tensor dtypes and code version (source,
            revision, commit, files).
        tokenizer: folder of tokenizer files, where the source has none.
        progress: called with the bytes read so far and in all.

    Raises:
        CheckpointError: see `open_source`.
        AmuroError: the disk is full.
    """
    source, started = open_source(folder), time.perf_counter()
    if progress:
        progress(0, sum(tensor.nbytes for tensor in source.table.values()))
    with checkpoint.new_folder(out) as target:
        copy_companions([folder] + [tokenizer] * bool(tokenizer), target / "tokenizer")
        check_token_ids(target / "tokenizer", source.config)
        checksums, bad = write_params(source, target / "params", progress=progress)
        if bad:
            warnings.warn(
                f"{folder}: {sum(bad.values())} weights are NaN or infinite, first in "
                f"{next(iter(bad))} ({next(iter(bad.values()))}); "
                "scores of this model mean nothing",
                stacklevel=2,
            )
        files.write_json(target / "model.json", source.config.to_json())
        record = {
            "form": source.form,
            "dtypes": stored_dtypes(source),
            "non_finite": bad,
            **(provenance or {}),
            "code": __version__,
        }
        record |= {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - started, 3),
        }
        files.write_json(target / "provenance.json", record)
        parameters = checkpoint.parameters_digest(checksums)
        checkpoint.write_marker(
            target, checkpoint.identify(parameters, source.config, target / "tokenizer")
        )


def copy_companions(folders, target) -> None:
    """Copies config, tokenizer and generation files; a later folder's replace an earlier one's."""
    Path(target).mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for name in COMPANIONS:
            if (Path(folder) / name).is_file():
                shutil.copyfile(Path(folder) / name, Path(target) / name)


def stored_dtypes(source: CheckpointSource) -> dict:
    """{"default": the commonest dtype, source tensor name: its dtype where it differs}: what an
    export restores.
    """
    names = {name: tensor.dtype.name for name, tensor in source.table.items()}
    counts = sorted(set(names.values()), key=list(names.values()).count)
    return {
        "default": counts[-1],
        **{name: dtype for name, dtype in names.items() if dtype != counts[-1]},
    }


def parameter_dtypes(source: CheckpointSource) -> dict[str, np.dtype]:
    """Flat name → dtype in the converted tree: as stored.

    Fp32 where the layers of one parameter differ.
    """
    stored: dict[str, set] = {}
    for name, tensor in source.expected.items():
        for rule in tensor.rules:
            stored.setdefault(rule.target, set()).add(source.table[name].dtype)
    return {
        target: dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
        for target, dtypes in stored.items()
    }


def count_non_finite(values: np.ndarray) -> int:
    """How many floats are NaN or infinite: those whose exponent has every bit set."""
    exponent = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}[values.dtype.name]
    bits = values.view(f"u{values.dtype.itemsize}")
    return int(np.count_nonzero((bits & bits.dtype.type(exponent)) == exponent))


def write_params(source: CheckpointSource, path, *, progress=None) -> tuple[dict, dict[str, int]]:
    """Streams every tensor of the source into the `params/` folder `path`; each is read once.

    Returns:
        Parameter → checksums of its chunks, and source tensor → number of NaN and infinite values,
        where there are any.
    """
    dtypes, arrays, bad = parameter_dtypes(source), {}, {}
    if missing := set(flatten(abstract_params(source.config))) ^ set(dtypes):
        raise CheckpointError(
            f"the rules of {source.config.family} and its model disagree: {sorted(missing)[:4]}",
            where=source.folder,
        )
    chunks = checkpoint.chunk_shapes(source.config, dtypes)
    for rule in source.rules:
        shape = rules.target_shape(rule, source.config)
        arrays[rule.target] = (shape, dtypes[rule.target], chunks[rule.target])
    _check_complete(arrays, source)
    total, done = sum(tensor.nbytes for tensor in source.table.values()), 0
    with array_store.open_writer(path, arrays) as writer:
        for name in sorted(
            source.expected, key=lambda name: (source.table[name].path, source.table[name].offset)
        ):
            for target, index, values in blocks(source, source.expected[name], chunks):
                if count := count_non_finite(values):
                    bad[name] = bad.get(name, 0) + count
                writer.put(target, index, values.astype(dtypes[target], copy=False))
            done += source.table[name].nbytes
            if progress:
                progress(done, total)
    return writer.checksums, bad


def _check_complete(arrays, source):
    expected = {name: leaf.shape for name, leaf in flatten(abstract_params(source.config)).items()}
    declared = {name: shape for name, (shape, _, _) in arrays.items()}
    if expected != declared:
        differing = sorted(set(expected.items()) ^ set(declared.items()))
        raise CheckpointError(
            f"the rules of {source.config.family} and its model disagree: {differing[:4]}",
            where=source.folder,
        )


def _step(rule, source, chunks) -> int:
    """Steps of the rule's leading letter that are read at once: a whole number of chunks."""
    size, stored = rules.sizes(source.config), source.table[rule.source.format(i=0)]
    row_bytes = stored.nbytes // max(1, stored.shape[0])
    most = BLOCK // max(1, row_bytes * rules.rows_per_step(rule, size))
    chunk = chunks[rule.target][rule.stacked + rule.letters.index(rule.lead)]
    return max(chunk, most // chunk * chunk)


def blocks(
    source: CheckpointSource, tensor: rules.Tensor, chunks: dict[str, tuple[int, ...]]
) -> Iterator[tuple[str, tuple, np.ndarray]]:
    """(parameter, index, values) of one source tensor, each byte of it read once, in whole chunks
    of the shapes `chunks`.
    """
    size, stored = rules.sizes(source.config), source.table[tensor.name]
    parts: dict = {}
    for rule in tensor.rules:
        parts.setdefault(rule.rows or (0, stored.shape[0]), []).append(rule)
    for (first, _), sharing in parts.items():
        lead = sharing[0]
        rows, steps, step = (
            rules.rows_per_step(lead, size),
            size[lead.lead],
            _step(lead, source, chunks),
        )
        for start in range(0, steps, step):
            stop = min(start + step, steps)
            block = tensors.read(stored, first + start * rows, first + stop * rows)
            for rule in sharing:
                inside = tuple(
                    slice(start, stop) if letter == rule.lead else slice(None)
                    for letter in rule.letters
                )
                index = inside if tensor.layer is None else (tensor.layer, *inside)
                yield rule.target, index, rules.view(rule, block, size)
