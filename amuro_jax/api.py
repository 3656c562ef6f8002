"""What other programs call: the library's verbs in a few functions (docs/api.md has examples).

The command line does the same through the same modules; a number has one key, whichever of them
computed it.
"""

import dataclasses

from amuro_jax.config import Recipe, ScoreRun, Scoring, StudyConfig, TrainRun
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.data.registry import get_task
from amuro_jax.evals.run import Evaluator, ScoreJob
from amuro_jax.opened import Checkpoint, open_checkpoint
from amuro_jax.records import ModelRef, ScoreRecord, TrainRecord
from amuro_jax.report.reading import load_results
from amuro_jax.scoring.scorer import Scorer
from amuro_jax.study import executor
from amuro_jax.train import run as training

__all__ = [
    "Model",
    "Scorer",
    "fine_tune",
    "load_model",
    "load_results",
    "open_checkpoint",
    "run_study",
    "score",
]


@dataclasses.dataclass(frozen=True)
class Model:
    """A checkpoint with its parameters on the devices.

    Attributes:
        checkpoint: configuration, tokenizer, identity, provenance.
        params: nested dict of arrays (docs/architecture.md, "Parameters").
    """

    checkpoint: Checkpoint
    params: dict


def load_model(name, *, mesh=None, dtype=None) -> Model:
    """Opens a checkpoint by any name that the command line takes, and reads its parameters.

    Args:
        mesh: of `sharding.make_mesh`; None: one device.
        dtype: cast after reading; None: as stored.

    Raises:
        CheckpointError: no such checkpoint, or a damaged one.
    """
    checkpoint = open_checkpoint(name)
    return Model(checkpoint, checkpoint.load_params(mesh, dtype))


def fine_tune(
    checkpoint: Checkpoint,
    recipe: Recipe,
    workdir,
    *,
    data_root: str = "",
    run: TrainRun = TrainRun(),
) -> TrainRecord:
    """Fine-tunes a checkpoint; the model is `<workdir>/model`, which every verb takes.

    A call that was interrupted resumes from its last saved state.

    Raises:
        ConfigError: a recipe that cannot be carried out.
        DataError: rows that cannot be read.
    """
    model = ModelRef("", str(checkpoint.folder), tuned_on=get_task(recipe.task).name)
    job = training.TrainJob(
        checkpoint, recipe, model, str(workdir), f"{workdir}/model", data_root, run
    )
    evaluator = Evaluator(ScoreRun(mesh=run.mesh))
    return training.train(job, pair_logprobs=evaluator.pair_logprobs).record


def score(
    model: Model,
    task: str,
    *,
    format: str = "default",
    shots: int = 4,
    scoring: Scoring = Scoring(),
    data_root: str = "",
    run: ScoreRun = ScoreRun(),
    evaluator: Evaluator | None = None,
) -> tuple[ScoreRecord, list[dict]]:
    """Scores a model on one set: the record of the number, and one dict per test row.

    Args:
        evaluator: caches compiled programs and prompts between calls; None: a new one.

    Raises:
        DataError: rows that cannot be read.
    """
    opened = model.checkpoint
    reference = ModelRef("", str(opened.folder))
    job = ScoreJob(opened, opened.identity, reference, task, format, shots, scoring, data_root)
    return (evaluator or Evaluator(run)).score(job, model.params)


def run_study(config: StudyConfig, report=print) -> list[str]:
    """Does what is left of a study; returns a line for each cell that failed.

    Args:
        report: gets lines about progress that a reader wants to see.

    Raises:
        ConfigError: a study that cannot be run as written.
        AmuroError: another process is at work in its workdir.
    """
    return executor.run(config, list_revisions(config.suite, config.select), report=report)
