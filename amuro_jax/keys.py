"""What determines a number: the content keys of fine-tuned models and of scores. No jax.

Where and how fast the work is done (`TrainRun`, `ScoreRun`, folders) is no part of a key, nor is
the verb that did it. Fields that are None are not hashed, so that a new optional field leaves the
keys of whatever does not use it unchanged.
"""

import dataclasses

from amuro_jax import files
from amuro_jax.config import Loss, Recipe, Scoring, to_dict
from amuro_jax.data import protocols, sources
from amuro_jax.data.registry import get_task, is_task_file
from amuro_jax.variants import Noise

TRAIN_RULES = 2  # raised when the same recipe would give other parameters
SCORE_RULES = 2  # raised when the same model would get another number
AVERAGE_RULES = 1  # raised when an average would have other parameters
PROBE_RULES = 1  # raised when the same probe would measure something else
NOISE_RULES = 1  # raised when the same noise would give other parameters


def train_key(model: str, recipe: Recipe, tokenizer: str, data_root: str = "") -> str:
    """Identity of a fine-tuned model.

    Args:
        model: identity of the checkpoint that it starts from.
        tokenizer: fingerprint.
    """
    task = get_task(recipe.task)
    split = sources.train_split(task, data_root)
    return files.content_key(
        {
            "train": TRAIN_RULES,
            "model": model,
            "recipe": _values(recipe),
            "task": _definition(recipe.task),
            "data": sources.dataset_checksum(task, split),
            "tokenizer": tokenizer,
        }
    )


def probe_key(training: str) -> str:
    """Key of what is measured while a training with this identity is done (`train/probe.py`)."""
    return files.content_key({"probe": PROBE_RULES, "training": training})


def score_key(
    model: str,
    task: str,
    format: str,
    shots: int,
    scoring: Scoring,
    tokenizer: str,
    data_root: str = "",
) -> str:
    """Key of one score of the model with identity `model`."""
    return files.content_key(
        {
            "score": SCORE_RULES,
            "model": model,
            "task": _definition(task),
            "format": format,
            "shots": shots,
            "scoring": _values(scoring),
            "data": data_checksums(task, scoring, data_root),
            "tokenizer": tokenizer,
        }
    )


def average_key(models: list[str]) -> str:
    """Identity of the average of models, by their identities."""
    return files.content_key({"average": AVERAGE_RULES, "models": models})


def noise_key(model: str, noise: Noise) -> str:
    """Identity of a model with noise on its weights."""
    values = {"noise": NOISE_RULES, "model": model, **dataclasses.asdict(noise)}
    return files.content_key(values)


def _values(block) -> dict:
    """Fields of a recipe or scoring that are set; the protocol by the quirks that are on."""
    values = {name: value for name, value in to_dict(block).items() if value is not None}
    protocol = protocols.resolve(values.pop("protocol"), tuple(values.pop("quirks")))
    if values.get("loss") == Loss.SFT:  # what it is where nothing is said
        del values["loss"]
    values.pop("task", None)  # by what it says, not by its name: `_definition`
    return values | {"quirks": sorted(name for name, on in protocol.switches().items() if on)}


def _definition(name: str):
    """A registered set by its name (the rules' numbers stand for its definition); a task file by
    what it says, whatever the file is called.
    """
    task = get_task(name)
    return dataclasses.asdict(task) if is_task_file(name) else task.name


def data_checksums(name: str, scoring: Scoring, data_root: str = "") -> dict[str, str]:
    """Split → SHA-256 of the rows that are scored, and of those that give the shots where they are
    another file.
    """
    task, protocol = get_task(name), protocols.resolve(scoring.protocol, scoring.quirks)
    test = sources.test_split(task, protocol, data_root)
    checksums = {test.name: sources.dataset_checksum(task, test)}
    owner = get_task(task.source.shots_from) if task.source.shots_from else task
    train = owner.source.train
    if train and (not data_root or sources.split_path(owner, train, data_root)):
        split = sources.train_split(owner, data_root)
        checksums[f"{owner.name}:{split.name}"] = sources.dataset_checksum(owner, split)
    return checksums
