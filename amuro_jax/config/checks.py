"""What the type of a field cannot say: each check raises a `ConfigError` that names the field."""

import math
import re

from amuro_jax.config.blocks import (
    Loss,
    Recipe,
    ScoreConfig,
    ScoreRun,
    Scoring,
    TrainConfig,
    TrainRun,
)
from amuro_jax.errors import ConfigError

SEEDS = 2**32  # of numpy's and jax's generators: 0 to one less

# By which a saved state may be the best; whether more is better.
BEST = {"held_out_loss": False, "loss": False, "accuracy": True}


def require(condition: bool, what: str, *, where: str, hint: str | None = None) -> None:
    """Raises a `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(what, where=where, hint=hint)


def require_fields(config, *names: str) -> None:
    """Raises a `ConfigError` on the first of these fields that is empty."""
    for name in names:
        hint = f"give --config.{name}=…"
        require(bool(getattr(config, name)), f"{name} is empty", where=f"config.{name}", hint=hint)


def require_positive(value, names: list[str], where: str) -> None:
    """Raises a `ConfigError` on the first of these fields that is neither None nor a finite number
    above 0.
    """
    for name in names:
        field = getattr(value, name)
        valid = field is None or 0 < field < math.inf
        require(valid, f"{name} must be positive, got {field}", where=f"{where}.{name}")


def require_seeds(value, names: list[str], where: str) -> None:
    """Raises a `ConfigError` on the first of these fields that is no seed, nor None, nor a tuple of
    seeds.
    """
    for name in names:
        field = getattr(value, name)
        for seed in field if isinstance(field, tuple) else (field,):
            valid = seed is None or 0 <= seed < SEEDS
            require(valid, f"a seed is 0 to {SEEDS - 1}, got {seed}", where=f"{where}.{name}")


def validate_recipe(recipe: Recipe, where: str = "config.recipe") -> None:
    """Raises a `ConfigError` on the first invalid field of a recipe."""
    names = "rows epochs batch_size max_length clip_norm learning_rate lora_rank lora_alpha "
    names += "dpo_beta held_out_rows adam_eps"
    require_positive(recipe, names.split(), where)
    require_seeds(recipe, ["seed", "data_seed"], where)
    for name, most in {"adam_b1": 1.0, "adam_b2": 1.0, "weight_decay": math.inf}.items():
        value = getattr(recipe, name)
        where_field = f"{where}.{name}"
        require(
            0 <= value < most, f"{name} must be in [0, {most:g}), got {value}", where=where_field
        )
    fraction = recipe.warmup_fraction
    require(
        0 <= fraction < 1,
        f"warmup_fraction must be in [0, 1), got {fraction}",
        where=f"{where}.warmup_fraction",
    )
    for name in ("lora_alpha", "lora_targets", "lora_rank_stabilised"):
        require(
            recipe.lora_rank is not None or getattr(recipe, name) is None,
            f"{name} has no effect where all parameters are trained",
            where=f"{where}.{name}",
            hint="set lora_rank",
        )
    for name in ("dpo_beta", "dpo_length_normalised", "dpo_label_smoothing"):
        require(
            recipe.loss == Loss.DPO or getattr(recipe, name) is None,
            f"{name} has no effect where the loss is {recipe.loss or Loss.SFT}",
            where=f"{where}.{name}",
            hint="set loss=dpo",
        )
    require(
        recipe.held_out_rows is None or recipe.rows is None or recipe.held_out_rows < recipe.rows,
        f"{recipe.held_out_rows} of {recipe.rows} rows held out: nothing is left to train on",
        where=f"{where}.held_out_rows",
    )
    smoothing = recipe.dpo_label_smoothing
    require(
        smoothing is None or 0 <= smoothing < 0.5,
        f"dpo_label_smoothing must be in [0, 0.5), got {smoothing}",
        where=f"{where}.dpo_label_smoothing",
    )


def profile_steps(text: str, where: str) -> tuple[int, int]:
    """`"10:12"` → steps 10 to 12; `"10"`: that one. Steps count from 1, as in the metrics.

    Raises:
        ConfigError: neither form, or no such steps.
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < first <= last:
        raise ConfigError(
            f"{text!r} names no steps", where=where, hint="for example 10:12, or 10 for one step"
        )
    return first, last


def validate_train_run(run: TrainRun, recipe: Recipe, where: str = "config.run") -> None:
    """Raises a `ConfigError` where a run does not fit the recipe that it is to carry out."""
    names = "micro_batch_size stack save_every keep_states step_seconds log_every"
    require_positive(run, names.split(), where)
    require(
        recipe.batch_size % (run.micro_batch_size or 1) == 0,
        f"batch_size {recipe.batch_size} is not a multiple of micro_batch_size "
        f"{run.micro_batch_size}",
        where=f"{where}.micro_batch_size",
    )
    require(
        run.keep_best in (None, *BEST),
        f"unknown measure {run.keep_best!r}",
        where=f"{where}.keep_best",
        hint="one of " + ", ".join(BEST),
    )
    require(
        run.keep_best != "held_out_loss" or recipe.held_out_rows is not None,
        "no rows are held out to measure it on",
        where=f"{where}.keep_best",
        hint="set recipe.held_out_rows",
    )
    if run.profile is not None:
        profile_steps(run.profile, f"{where}.profile")
    require(
        not (run.packing and recipe.loss == Loss.DPO),
        "pairs of answers are not packed",
        where=f"{where}.packing",
        hint="leave it out",
    )


def validate_scoring(scoring: Scoring, where: str = "config.scoring") -> None:
    """Raises a `ConfigError` on the first invalid field of how models are scored."""
    for name in ("rows", "max_new_tokens"):
        value = getattr(scoring, name)
        valid = value is None or value > 0
        require(valid, f"{name} must be positive, got {value}", where=f"{where}.{name}")
    require_seeds(scoring, ["shot_seed", "bootstrap_seed"], where)
    require(
        scoring.bootstrap >= 0,
        f"bootstrap must not be negative, got {scoring.bootstrap}",
        where=f"{where}.bootstrap",
    )


def validate_score_run(run: ScoreRun, where: str = "config.run") -> None:
    """Raises a `ConfigError` on the first invalid field of how fast models are scored."""
    require_positive(run, ["batch_tokens", "batch_seconds"], where)


def validate_train(config: TrainConfig) -> None:
    """Raises a `ConfigError` on the first invalid field of a training run."""
    require_fields(config, "checkpoint", "workdir")
    hint = "give --config.recipe.task=…"
    require(bool(config.recipe.task), "task is empty", where="config.recipe.task", hint=hint)
    validate_recipe(config.recipe)
    validate_train_run(config.run, config.recipe)


def validate_score(config: ScoreConfig) -> None:
    """Raises a `ConfigError` on the first invalid field of a scoring run."""
    require_fields(config, "checkpoint", "tasks", "workdir", "shots")
    validate_shots(config.shots, "config.shots")
    validate_scoring(config.scoring)
    validate_score_run(config.run)


def validate_shots(shots: tuple[int, ...], where: str) -> None:
    """Raises a `ConfigError` on a negative number of shots."""
    for count in shots:
        require(count >= 0, f"shots must not be negative, got {count}", where=where)
