"""Fine-tuning in memory: parameters and examples in, parameters out; resumable, exact."""

import dataclasses
import os
import time
from pathlib import Path

import jax
import numpy as np

from amuro_jax import checkpoint, sharding
from amuro_jax.config import TrainConfig
from amuro_jax.data.types import TrainExample
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.logs import MetricsWriter, progress_bar
from amuro_jax.models.config import ModelConfig
from amuro_jax.train.batches import Batches
from amuro_jax.train.optimizer import Optimizer, linear_schedule
from amuro_jax.train.step import State, Step, make_step


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """Result of one run: parameters, optimiser steps, last logged loss, tokens seen (before a
    restart too), seconds of this process.
    """

    params: dict
    steps: int
    loss: float
    tokens: int
    seconds: float


def step_of(recipe: TrainConfig, config: ModelConfig, mesh=None) -> Step:
    """The compiled step of a recipe; the same object for every recipe of the same shape."""
    optimizer = Optimizer(
        recipe.adam_b1, recipe.adam_b2, recipe.adam_eps, recipe.weight_decay, recipe.clip_norm
    )
    micro = recipe.batch_size // recipe.micro_batch_size if recipe.micro_batch_size else 1
    return make_step(config, optimizer, recipe.dtype, recipe.remat, micro, mesh)


def batches_of(
    recipe: TrainConfig, examples: list[TrainExample], mesh=None, weigh_examples: bool = False
) -> Batches:
    """The run's batches; rows divide evenly over micro-batches and the mesh."""
    micro = recipe.batch_size // recipe.micro_batch_size if recipe.micro_batch_size else 1
    shards = sharding.batch_divisor(mesh) if mesh is not None else 1
    return Batches(
        examples, recipe.batch_size, recipe.epochs, recipe.seed, micro * shards, weigh_examples
    )


def fine_tune(
    params: dict,
    config: ModelConfig,
    examples: list[TrainExample],
    recipe: TrainConfig,
    *,
    mesh=None,
    workdir=None,
    weigh_examples: bool = False,
    description: str = "train",
) -> FineTuned:
    """Runs a recipe on one model; `params` are left as they were.

    Args:
        params: fp32 tree, on `mesh` where there is one.
        workdir: where metrics and resumable states go; None keeps nothing, and a killed run starts
            again.
        weigh_examples: the loss is the mean of per-example means (quirk 15), not the mean over
            tokens.

    Raises:
        DataError: no examples, or an example longer than the model's context.
        AmuroError: the loss is not finite.
    """
    _check(examples, config)
    step, batches = (
        step_of(recipe, config, mesh),
        batches_of(recipe, examples, mesh, weigh_examples),
    )
    rate = linear_schedule(recipe.learning_rate, batches.total, recipe.warmup_fraction)
    state, start = _resume(step, params, workdir)
    run = _Run(recipe, batches, workdir, start, description)
    for number in range(start, batches.total):
        batch = batches[number]
        state, metrics = step(state, batch.arrays(), rate(number))
        run.after(number + 1, state, metrics, batch, rate(number))
    return run.finish(state)


def _check(examples, config):
    if not examples:
        raise DataError("no training examples", where="training set")
    if not any(example.loss_mask[1:].any() for example in examples):
        raise DataError(
            "no example has a token to learn",
            where="training set",
            hint="completions are empty, or cut off by max_length",
        )
    longest = max(examples, key=lambda example: len(example.tokens))
    if len(longest.tokens) > config.max_length:
        raise DataError(
            f"{len(longest.tokens)} tokens, the model's context is {config.max_length}",
            where=f"row {longest.row}",
            hint="lower max_length",
        )


def _resume(step: Step, params, workdir) -> tuple[State, int]:
    found = latest_state(workdir) if workdir else None
    if found is None:
        return step.init(params), 0
    path, number = found
    return checkpoint.restore_tree(path, step.abstract_state(), step.state_shardings), number


def latest_state(workdir) -> tuple[Path, int] | None:
    """(path, step) of the newest complete state under `<workdir>/state`, None where there is none."""
    folder = Path(workdir) / "state"
    names = [
        name
        for name in (os.listdir(folder) if folder.is_dir() else [])
        if name.startswith("step_") and name[5:].isdigit()
    ]
    if not names:
        return None
    name = max(names, key=lambda name: int(name[5:]))
    return folder / name, int(name[5:])


class _Run:
    """What happens around the steps of one run: metrics, progress, saved states."""

    def __init__(self, recipe, batches, workdir, start, description):
        self.recipe, self.batches, self.workdir, self.start = recipe, batches, workdir, start
        self.metrics = MetricsWriter(workdir, start) if workdir else None
        self.bar = progress_bar(
            batches.total, description, initial=start, leave=workdir is not None
        )
        self.tokens, self.loss, self.began = 0, float("nan"), time.perf_counter()
        self.save_every = recipe.save_every or batches.per_epoch

    def after(self, number, state, metrics, batch, rate):
        self.tokens += int((batch.enter >= 0).sum())
        self.bar.update(1)
        if number % self.recipe.log_every == 0 or number == self.batches.total:
            self._log(number, metrics, rate)
        if self.workdir and number % self.save_every == 0 and number < self.batches.total:
            save_state(self.workdir, state, number)

    def _log(self, number, metrics, rate):
        values = {name: float(value) for name, value in metrics.items()}
        self.loss = values["loss"]
        if not np.isfinite(self.loss):
            raise ConfigError(
                f"the loss is {self.loss} at step {number}",
                where="training",
                hint="lower the learning rate, or clip gradients",
            )
        speed = self.tokens / (time.perf_counter() - self.began)
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, {speed:,.0f} tokens/s")
        if self.metrics:
            self.metrics.write(
                number,
                **values,
                learning_rate=rate,
                epoch=number / self.batches.per_epoch,
                tokens_per_second=speed,
            )

    def finish(self, state):
        jax.block_until_ready(state.params)
        self.bar.close()
        if self.metrics:
            self.metrics.close()
        tokens = self.batches.tokens_before(self.start) + self.tokens
        return FineTuned(
            state.params, self.batches.total, self.loss, tokens, time.perf_counter() - self.began
        )


def save_state(workdir, state: State, number: int) -> None:
    """Writes a state and removes the one before; a kill in between leaves both."""
    folder = Path(workdir) / "state"
    checkpoint.save_tree(folder / f"step_{number}", state)
    for path in folder.iterdir():
        if path.name.startswith("step_") and path.name != f"step_{number}":
            checkpoint.remove(path)
