"""What determines a number: the content key of each cell.

Where the work is done (mesh, folders) is no part of it.
"""

import dataclasses

from amuro_jax import files
from amuro_jax.config import StudyConfig, TrainConfig
from amuro_jax.data import protocols, sources
from amuro_jax.data.registry import get_task
from amuro_jax.study.grid import ScoreSpec

TRAIN_RULES = 1  # raised when the same recipe would give other parameters
SCORE_RULES = 1  # raised when the same model would get another number

_RECIPE = (
    "task",
    "protocol",
    "quirks",
    "format",
    "rows",
    "data_seed",
    "epochs",
    "batch_size",
    "micro_batch_size",
    "learning_rate",
    "warmup_fraction",
    "weight_decay",
    "adam_b1",
    "adam_b2",
    "adam_eps",
    "clip_norm",
    "max_length",
    "seed",
    "dtype",
)


def train_key(model_hash: str, recipe: TrainConfig, tokenizer: str) -> str:
    """Key of one fine-tuned model: base, recipe, training rows, tokenizer fingerprint."""
    task = get_task(recipe.task)
    data = sources.dataset_checksum(task, sources.train_split(task, recipe.data_root))
    chosen = {name: getattr(recipe, name) for name in _RECIPE} | _definition(recipe.task)
    return files.content_key(
        {
            "train": TRAIN_RULES,
            "model": model_hash,
            "recipe": chosen,
            "data": data,
            "tokenizer": tokenizer,
        }
    )


def score_key(model_key: str, spec: ScoreSpec, config: StudyConfig, tokenizer: str) -> str:
    """Key of one score: model, set with its checksum, format, shots, protocol with switches,
    method, bootstrap.
    """
    score = config.score
    asked = {
        name: getattr(score, name)
        for name in (
            "method",
            "rows",
            "shot_seed",
            "max_new_tokens",
            "bootstrap",
            "bootstrap_seed",
            "dtype",
        )
    }
    where = {"task": spec.task, "format": spec.format, "shots": spec.shots} | _definition(spec.task)
    protocol = protocols.resolve(score.protocol, score.quirks)
    return files.content_key(
        {
            "score": SCORE_RULES,
            "model": model_key,
            **where,
            **asked,
            "protocol": protocol.switches(),
            "data": data_checksums(spec.task, config),
            "tokenizer": tokenizer,
        }
    )


def _definition(name):
    """What a user's task file says: another text is another set, whatever the file is called.

    Registered sets go by TRAIN_RULES and SCORE_RULES.
    """
    task = get_task(name)
    return {"task": dataclasses.asdict(task)} if task.name != name else {}


def data_checksums(name: str, config: StudyConfig) -> dict[str, str]:
    """Split → SHA-256 of the rows that are scored, and of those that give the shots where they are
    another file.
    """
    task, protocol = get_task(name), protocols.resolve(config.score.protocol, config.score.quirks)
    test = sources.test_split(task, protocol, config.data_root)
    found = {test.name: sources.dataset_checksum(task, test)}
    owner = get_task(task.source.shots_from) if task.source.shots_from else task
    train = owner.source.train
    if train and (not config.data_root or sources.split_path(owner, train, config.data_root)):
        split = sources.train_split(owner, config.data_root)
        found[f"{owner.name}:{split.name}"] = sources.dataset_checksum(owner, split)
    return found
