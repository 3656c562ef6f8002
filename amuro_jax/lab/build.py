"""Builds the laboratory in stages, each complete or absent, so that a killed build resumes where it
stood: `amuro lab`.
"""

import io
import itertools
import json

import numpy as np
from etils import epath

from amuro_jax import checkpoint, files, logs
from amuro_jax import config as run_config
from amuro_jax.config import LabConfig, require, require_seeds
from amuro_jax.errors import ConfigError
from amuro_jax.lab import pretrain, sets, tokenizer, truth
from amuro_jax.lab.corpus import Kind, make_corpus, make_documents
from amuro_jax.lab.late import (
    FEWEST,
    LATE_SET,
    Late,
    late_words,
    make_late,
    make_lines,
    times_read,
)
from amuro_jax.lab.publish import read_record
from amuro_jax.lab.world import World, make_world
from amuro_jax.storage import Storage

MANIFEST, SETTINGS = "lab.json", "config.json"
TOKENS, LATE_LINES = "tokens.npy", "late.npy"
TOKENIZER_DOCUMENTS = 20000  # as many documents as the tokenizer learns from


def build(config: LabConfig, say=print) -> epath.Path:
    """Builds what is missing of the laboratory at `config.out` and gives back the manifest's path.

    Raises:
        ConfigError: a field that cannot be meant, or a folder built with other settings.
    """
    validate(config)
    out = Storage.open(config.out).epath()
    if (out / MANIFEST).exists() and _settings(config) == files.read_json(out / MANIFEST)["config"]:
        say(f"the laboratory is complete: {out / MANIFEST}")
        return out / MANIFEST
    _claim(config, out)
    world = make_world(config.seed, config.creatures)
    late = _late(config, world)
    _stage(out / "data", say, "data sets", lambda: _write_sets(config, world, late, out / "data"))
    _stage(
        out / "tokenizer",
        say,
        "tokenizer",
        lambda: _write_tokenizer(config, world, late, out / "tokenizer"),
    )
    _stage(out / "corpus", say, "corpus", lambda: _write_corpus(config, world, late, out))
    tokens = _read_array(out / "corpus" / TOKENS)
    lines = None if late is None else _read_array(out / "corpus" / LATE_LINES)
    _stage(
        out / "truth", say, "truth", lambda: _write_truth(config, world, tokens, late, lines, out)
    )
    vocabulary = tokenizer.read_tokenizer(out / "tokenizer").get_vocab_size()
    say(
        f"pre-training: {config.steps} steps of {config.batch_size * config.sequence_length} tokens"
    )
    pretrain.pretrain(config, tokens, vocabulary, out, lines)
    _write_manifest(config, out, world, len(tokens), vocabulary)
    checkpoint.remove(out / "pretraining" / "state")
    say(f"done: {out / MANIFEST}")
    return out / MANIFEST


def validate(config: LabConfig) -> None:
    """Raises a `ConfigError` on the first invalid field."""
    run_config.checked(config)
    require(bool(config.out), "out is empty", where="config.out", hint="give --config.out=FOLDER")
    for name in (
        "creatures",
        "corpus_documents",
        "train_rows",
        "test_rows",
        "steps",
        "batch_size",
        "sequence_length",
        "save_every",
    ):
        require(
            getattr(config, name) > 0,
            f"{name} must be positive, got {getattr(config, name)}",
            where=f"config.{name}",
        )
    require_seeds(config, ["seed", "pretraining_seed"], "config")
    require(
        0 < config.first_checkpoint <= config.steps,
        "first_checkpoint must lie in [1, steps]",
        where="config.first_checkpoint",
    )
    _validate_late(config)
    joined = pretrain.JOINED
    require(
        config.batch_size % joined == 0,
        f"batch_size must be a multiple of {joined}, got {config.batch_size}",
        where="config.batch_size",
    )
    size = config.model
    require(
        size.hidden_size % (2 * size.num_heads) == 0,
        f"hidden_size {size.hidden_size} does not split into {size.num_heads} heads of even width",
        where="config.model.num_heads",
    )
    require(
        config.sequence_length <= size.max_length,
        f"sequence_length {config.sequence_length} is longer than the model's context, "
        f"{size.max_length}",
        where="config.sequence_length",
    )


def _validate_late(config):
    count, published = config.late_creatures, len(pretrain.published_steps(config))
    if count is None:
        return
    require(count > 0, f"must be positive, got {count}", where="config.late_creatures")
    require(
        published >= FEWEST,
        f"late creatures need {FEWEST} published checkpoints, there are {published}",
        where="config.checkpoints",
    )


def _late(config, world):
    """The late creatures, where the configuration has some."""
    if not config.late_creatures:
        return None
    return make_late(world, config.late_creatures, pretrain.published_steps(config))


def _settings(config):
    """The configuration without what does not change the result: its folder, and how often
    state is saved. Fields that are None are left out, so that a new one leaves folders valid.
    """
    return {
        name: value
        for name, value in run_config.to_dict(config).items()
        if name not in ("out", "save_every", "mesh") and value is not None
    }


def _claim(config, out):
    path, settings = out / SETTINGS, _settings(config)
    if not path.exists():
        files.write_json(path, settings)
        return
    before = files.read_json(path)
    if before != settings:
        names = (*settings, *before)
        name = next(name for name in names if before.get(name) != settings.get(name))
        raise ConfigError(
            f"{name} was {before.get(name)!r} when this folder was started, now it is "
            f"{settings.get(name)!r}",
            where=out,
            hint="choose another --config.out, or remove the folder",
        )


def _stage(path, say, name, work):
    if path.exists():
        say(f"{name}: there already")
        return
    work()
    say(f"{name}: {path}")


def _write_sets(config, world: World, late: Late | None, folder):
    tables = sets.make_sets(world, config.train_rows, config.test_rows)
    if late is not None:
        tables[LATE_SET] = sets.late_set(late)
    with files.atomic_folder(folder) as scratch:
        for name, splits in tables.items():
            for split, rows in splits.items():
                files.write_text(
                    scratch / name / f"{split}.jsonl",
                    _lines(rows),
                )


def _write_tokenizer(config, world, late, folder):
    documents = itertools.islice(make_corpus(world, config.corpus_documents), TOKENIZER_DOCUMENTS)
    names = () if late is None else late_words(late)
    trained = tokenizer.train_tokenizer(documents, config.model.vocab_size, names=names)
    tokenizer.write_tokenizer(trained, folder, config.model.max_length)


def _write_corpus(config, world, late, out):
    """tokens.npy, int32: the documents with eos after each; late.npy: the late lines of each step;
    sample.txt: the first few documents, to read.
    """
    trained = tokenizer.read_tokenizer(out / "tokenizer")
    source, parts, sample = make_corpus(world, config.corpus_documents), [], []
    with logs.progress_bar(config.corpus_documents, "corpus", unit="document") as bar:
        while documents := list(itertools.islice(source, 5000)):
            sample += documents[: 200 - len(sample)]
            parts += [
                encoding.ids + [tokenizer.EOS_ID] for encoding in trained.encode_batch(documents)
            ]
            bar.update(len(documents))
    arrays = {TOKENS: np.concatenate([np.asarray(part, np.int32) for part in parts])}
    if late is not None:
        arrays[LATE_LINES] = make_lines(late, config, trained)
    with files.atomic_folder(out / "corpus") as scratch:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            files.write_bytes(scratch / name, buffer.getvalue())
        files.write_text(scratch / "sample.txt", "\n---\n".join(sample) + "\n")


def _read_array(path):
    return np.load(io.BytesIO(path.read_bytes()))


def _write_truth(config, world, tokens, late, lines, out):
    """What the corpus taught, and when (`truth.py`)."""
    documents = make_documents(world, config.corpus_documents)
    steps = pretrain.published_steps(config)
    seen = pretrain.times_seen(config, tokens, steps)
    facts = truth.count_facts(world, documents, seen)
    if late is not None:
        read = times_read(lines, steps)
        texts = tokenizer.read_tokenizer(out / "tokenizer").decode_batch(list(read))
        pages = ((Kind.CREATURE, text) for text in texts)
        facts |= truth.count_facts(late.world, pages, np.array(list(read.values())))
        world = World(world.seed, world.creatures | late.world.creatures)
    sets_there = {
        (name.name, path.stem): [json.loads(line) for line in path.read_text().splitlines()]
        for name in sorted((out / "data").iterdir())
        for path in sorted(name.iterdir())
    }
    with files.atomic_folder(out / "truth") as scratch:
        files.write_text(scratch / "facts.jsonl", _lines(truth.fact_lines(facts, steps)))
        files.write_text(scratch / "rows.jsonl", _lines(truth.row_lines(world, sets_there)))
        if late is not None:
            files.write_text(scratch / "late.jsonl", _lines(truth.late_lines(late)))


def _lines(values):
    return "".join(json.dumps(value) + "\n" for value in values)


def _write_manifest(config, out, world, tokens, vocabulary):
    names = [pretrain.checkpoint_name(config, step) for step in pretrain.published_steps(config)]
    files.write_json(
        out / MANIFEST,
        {
            "config": _settings(config),
            "world": {"seed": world.seed, "creatures": len(world.creatures)},
            "corpus": {"documents": config.corpus_documents, "tokens": tokens},
            "tokenizer": {"vocabulary": vocabulary},
            "model": {"parameters": pretrain.model_config(config, vocabulary).num_parameters},
            "sets": sorted(path.name for path in (out / "data").iterdir()),
            "checkpoints": [
                {"name": name, **read_record(out / "checkpoints" / name)} for name in names
            ],
        },
    )
