"""What a few steps of fine-tuning say of a base model: the gradient on rows of the training set,
and the loss on others before and after. No model is kept.
"""

import dataclasses
import functools
import time

import jax
import optax

from amuro_jax import keys, sharding
from amuro_jax.config import Recipe, TrainRun
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.derived import matrix_scale
from amuro_jax.records import PROBE, TrainRecord
from amuro_jax.train import held_out
from amuro_jax.train.fine_tune import fine_tune
from amuro_jax.train.once import each_once
from amuro_jax.train.run import TrainingData, TrainJob, as_published, place, record_of


def probe_key(job: TrainJob) -> str:
    """Key of a probe's record."""
    return keys.probe_key(job.key())


def probe(
    job: TrainJob,
    params: dict | None = None,
    data: TrainingData | None = None,
    description: str | None = None,
) -> TrainRecord:
    """Does a job with `recipe.held_out_rows` without keeping its model, and measures on the way.

    Its metrics are those of a training, and:
        gradient_norm: of the gradient of the mean loss over the rows that are trained on, with
            respect to all parameters, before the first step.
        held_out_loss_before: mean loss over the held-out rows before the first step.
        weight_scale: root mean square of the base model's matrices (`derived.matrix_scale`).

    Args:
        params, data, description: as of `train.run.train`.

    Raises:
        ConfigError: a recipe that cannot be carried out.
        DataError: rows that cannot be read or encoded.
        TrainingError: a loss or gradient is not finite.
    """
    started, opened, recipe = time.perf_counter(), job.checkpoint, job.recipe
    rows = (data or TrainingData()).of(job)
    mesh = sharding.whole_mesh(job.run.mesh, "config.run.mesh")
    params = place(params, opened, mesh)
    training, kept_out = held_out.split(rows.examples, recipe.held_out_rows)

    published = as_published(recipe)
    how = {"mesh": mesh, "weigh_examples": published["weigh_examples"]}

    def loss(tree, of=recipe):
        return held_out.loss_of(tree, opened.config, kept_out, of, job.run, **how)

    adapter = {name: None for name in vars(recipe) if name.startswith("lora_")}
    base = dataclasses.replace(recipe, **adapter)  # the model has none yet
    before = loss(params, base)
    norm = gradient_norm(params, opened.config, training, base, job.run, **how)
    done = fine_tune(
        params,
        opened.config,
        training,
        recipe,
        dataclasses.replace(job.run, keep_best=None),
        mesh=mesh,
        description=description or f"probe {recipe.task}",
        **published,
    )
    metrics = {
        "loss": done.loss,
        "steps": done.steps,
        "tokens": done.tokens,
        "rows": len(training),
        "truncated": rows.truncated,
        "dropped": rows.dropped,
        "held_out_loss": loss(done.params),
        "held_out_loss_before": before,
        "gradient_norm": norm,
        "weight_scale": matrix_scale(params),
    }
    record = record_of(job, metrics, time.perf_counter() - started)
    return dataclasses.replace(record, key=probe_key(job), kind=PROBE)


def gradient_norm(
    params: dict,
    config: ModelConfig,
    examples: list,
    recipe: Recipe,
    run: TrainRun = TrainRun(),
    *,
    mesh=None,
    weigh_examples: bool = False,
) -> float:
    """Norm of the gradient of the mean loss over examples, with respect to all parameters.

    Args:
        params: fp32 tree, on `mesh`.
    """
    how = {"mesh": mesh, "weigh_examples": weigh_examples, "micro": True}
    total, weight = None, 0.0
    for batch, known in each_once(config, examples, recipe, run, **how):
        part, count = _gradient(params, batch, **known)
        total = part if total is None else optax.tree.add(total, part)
        weight += float(count)
    return float(optax.tree.norm(total)) / weight


@functools.partial(jax.jit, static_argnames=("objective", "config", "compute"))
def _gradient(params, batch, *, objective, config, compute):
    """Gradient of the sum of losses, and the sum of weights."""

    def total(params):
        loss, (weight, _) = objective.sums(params, batch, config=config, compute=compute)
        return loss, weight

    return jax.grad(total, has_aux=True)(params)
