"""Fine-tuning in memory: parameters and examples in, parameters out; resumable, exact."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from amuro_jax.config import Loss, Recipe, Remat, TrainRun
from amuro_jax.data.streamed import Streamed
from amuro_jax.data.types import TrainExample
from amuro_jax.errors import TrainingError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.lora import Lora
from amuro_jax.train import memory
from amuro_jax.train.batches import (
    PACKING_GAIN,
    PACKING_STEPS,
    Batches,
    packing_saves,
    steps_per_epoch,
)
from amuro_jax.train.meters import Logging
from amuro_jax.train.objective import LanguageModelling, Objective
from amuro_jax.train.optimizer import Optimizer, linear_schedule, warmup_steps
from amuro_jax.train.preference import Preference
from amuro_jax.train.step import Step, make_stacked_step, make_step
from amuro_jax.train.trainable import AllParameters, Trainable
from amuro_jax.train.training import SavePolicy, Trained, run_stacked, run_training

DPO_BETA = 0.1  # Rafailov et al., section 6


def step_of(
    recipe: Recipe,
    run: TrainRun,
    config: ModelConfig,
    mesh=None,
    objective: Objective = LanguageModelling(),
    trainable: Trainable = AllParameters(),
    examples: list | None = None,
    members: int = 1,
) -> Step:
    """The compiled step of a recipe; the same object for every recipe of the same shape.

    Args:
        examples: what it will train on, needed where the run's remat is `auto`.
        members: trainings that are done in one program.

    Raises:
        ConfigError: `auto`, and the step does not fit the devices' memory.
    """
    optimizer = Optimizer(
        recipe.adam_b1,
        recipe.adam_b2,
        recipe.adam_eps,
        recipe.weight_decay,
        recipe.clip_norm,
        recipe.moment_dtype,
    )
    micro = recipe.batch_size // (run.micro_batch_size or recipe.batch_size)

    def step(remat):
        return make_step(config, optimizer, recipe.dtype, remat, micro, mesh, objective, trainable)

    if run.remat != Remat.AUTO:
        return step(run.remat)
    largest = largest_batch(examples, recipe.batch_size, objective)
    return memory.fitting(step, *largest, members)


def largest_batch(examples: list, batch_size: int, objective: Objective) -> tuple[int, int, int]:
    """(rows, tokens of a row, predicted ones) of the batch of the longest examples."""
    if isinstance(examples, Streamed):  # which is not encoded yet: as long as they may be
        whole = np.ones(examples.max_length, np.int32)
        longest = [TrainExample(whole, whole > 0, 0)] * batch_size
    else:
        longest = sorted(examples, key=lambda example: -len(example.tokens))[:batch_size]
    batch = objective.collator(longest)(longest, batch_size)
    *rows, length = batch.tokens.shape
    return math.prod(rows), length, batch.target.shape[-1]


def trainable_of(recipe: Recipe) -> Trainable:
    """All parameters, or the adapter of a recipe with `lora_rank`."""
    if recipe.lora_rank is None:
        return AllParameters()
    alpha = 2.0 * recipe.lora_rank if recipe.lora_alpha is None else recipe.lora_alpha
    return Lora(recipe.lora_rank, alpha, recipe.lora_targets, bool(recipe.lora_rank_stabilised))


def objective_of(recipe: Recipe) -> Objective:
    """What a recipe minimises."""
    if recipe.loss != Loss.DPO:
        return LanguageModelling()
    return Preference(
        DPO_BETA if recipe.dpo_beta is None else recipe.dpo_beta,
        recipe.dpo_label_smoothing or 0.0,
        bool(recipe.dpo_length_normalised),
    )


def fine_tune(
    params: dict,
    config: ModelConfig,
    examples: list[TrainExample],
    recipe: Recipe,
    run: TrainRun = TrainRun(),
    *,
    mesh=None,
    workdir=None,
    weigh_examples: bool = False,
    warmup_rounded_down: bool = False,
    objective: Objective | None = None,
    trainable: Trainable | None = None,
    description: str = "train",
    held_out_loss: Callable[[dict], float] | None = None,
) -> Trained:
    """Runs a recipe on one model; `params` are left as they were.

    The result's `params` are the tuned model's, an adapter beside its kernels (models/lora.py).

    Args:
        params: fp32 tree, on `mesh` where there is one.
        workdir: where metrics and resumable states go; None keeps nothing, and a killed run starts
            again.
        weigh_examples: the loss is the mean of per-example means (quirk 15), not the mean over
            tokens.
        warmup_rounded_down: see `optimizer.warmup_steps`.
        objective, trainable: what is minimised and what is trained; None: what the recipe says.
        held_out_loss: of a tuned model's parameters, where `run.keep_best` asks for it.

    Raises:
        DataError: no examples, or an example longer than the model's context.
        TrainingError: a loss or gradient is not finite.
        Preempted: SIGTERM came; the state is saved.
    """
    trainable, objective = trainable or trainable_of(recipe), objective or objective_of(recipe)
    step = step_of(recipe, run, config, mesh, objective, trainable, examples)
    batches = _batches(examples, recipe, run, step, config, weigh_examples, objective)
    warmup = warmup_steps(batches.total, recipe.warmup_fraction, warmup_rounded_down)

    def tuned(tree):
        return trainable.join(tree, step.frozen(params))

    value = held_out_loss and (lambda tree: held_out_loss(tuned(tree)))
    done = run_training(
        step,
        batches,
        linear_schedule(recipe.learning_rate, batches.total, warmup),
        params,
        workdir=workdir,
        save=_with_best(_saving(run), run, batches, value),
        log=Logging(run.log_every, run.wandb, run.profile),
        seed=recipe.seed,
        description=description,
    )
    best = done.best and dataclasses.replace(done.best, params=tuned(done.best.trained))
    return dataclasses.replace(done, params=tuned(done.trained), best=best)


def _with_best(save, run, batches, value):
    """The best of all states, that of the last step among them."""
    if run.keep_best is None:
        return save
    value = value if run.keep_best == "held_out_loss" else None
    return dataclasses.replace(save, at=frozenset([batches.total]), best=run.keep_best, value=value)


def fine_tune_stacked(
    members: dict[str, dict],
    config: ModelConfig,
    examples: list[TrainExample],
    recipe: Recipe,
    run: TrainRun = TrainRun(),
    *,
    learning_rates: dict[str, float] | None = None,
    mesh=None,
    workdir=None,
    weigh_examples: bool = False,
    warmup_rounded_down: bool = False,
    objective: Objective | None = None,
    trainable: Trainable | None = None,
    description: str = "train",
) -> dict[str, Trained | TrainingError]:
    """Runs one recipe on several models of one shape in one program (see `run_stacked`).

    Args:
        members: name → fp32 tree: checkpoints, or the same one under several names.
        learning_rates: of single members, where they differ from the recipe's.
    """
    trainable, objective = trainable or trainable_of(recipe), objective or objective_of(recipe)
    step = step_of(recipe, run, config, mesh, objective, trainable, examples, len(members))
    stacked = make_stacked_step(step, len(members))
    batches = _batches(examples, recipe, run, stacked, config, weigh_examples, objective)
    warmup = warmup_steps(batches.total, recipe.warmup_fraction, warmup_rounded_down)
    rates = {name: recipe.learning_rate for name in members} | (learning_rates or {})
    done = run_stacked(
        stacked,
        batches,
        [linear_schedule(rates[name], batches.total, warmup) for name in members],
        members,
        workdir=workdir,
        save=_saving(run),
        log=Logging(run.log_every, run.wandb, run.profile),
        seed=recipe.seed,
        description=description,
    )
    return {
        name: one
        if isinstance(one, TrainingError)
        else dataclasses.replace(
            one, params=trainable.join(one.trained, step.frozen(members[name]))
        )
        for name, one in done.items()
    }


def _saving(run):
    return SavePolicy(run.save_every, keep=run.keep_states, step_seconds=run.step_seconds)


def packs(examples, recipe: Recipe, run: TrainRun, objective: Objective, multiple: int, steps: int):
    """Whether several examples of a step share a row: what the run says, else where it pays
    (docs/training.md).

    Args:
        multiple: rows of a batch are a multiple of it.
        steps: of the run.
    """
    if run.packing is not None:
        return run.packing
    if not objective.packs or steps < PACKING_STEPS:
        return False
    return packing_saves(examples, recipe.batch_size, recipe.seed, multiple) >= PACKING_GAIN


def _batches(examples, recipe, run, step, config, weigh_examples, objective):
    objective.check(examples, config)
    multiple = step.row_multiple
    steps = steps_per_epoch(len(examples), recipe.batch_size) * recipe.epochs
    packed = packs(examples, recipe, run, objective, multiple, steps)
    return Batches(
        examples,
        recipe.batch_size,
        recipe.epochs,
        recipe.seed,
        multiple,
        objective.collator(examples, weigh_examples, multiple if packed else None),
    )
