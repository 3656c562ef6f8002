"""What a run or a study comes to: fine-tunings and scores, each with how often it is done."""

import collections
import dataclasses
import re
from pathlib import Path

from amuro_jax.config import (
    Dtype,
    Loss,
    Recipe,
    Role,
    ScoreConfig,
    StudyConfig,
    TrainConfig,
    TrainRun,
)
from amuro_jax.convert import resolver
from amuro_jax.convert.revisions import Revision, list_revisions
from amuro_jax.convert.suites import find_suite
from amuro_jax.data.preferences import require_pairs
from amuro_jax.data.registry import get_task
from amuro_jax.data.task import Kind
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.planning.models import model_config
from amuro_jax.planning.sets import ScoredRows, Sets, TrainingRows
from amuro_jax.study import grid
from amuro_jax.variants import seeds_of

# The published study's own account (arXiv 2408.06663, section 3.5), in A100-hours; the rest of
# 1,067 was preliminary work.
PUBLISHED_HOURS = {
    "instruction tuning": 370,
    "fine-tuning": 28,
    "in-domain": 18,
    "out-of-domain": 165,
    "cross-task": 28,
    "formats": 39,
}
PUBLISHED_TOTAL = 1067
PARTS = {
    Role.IN_DOMAIN: "in-domain",
    Role.OUT_OF_DOMAIN: "out-of-domain",
    Role.CROSS_TASK: "cross-task",
    Role.MULTIPLE_CHOICE: "multiple choice",
    Role.EXTRA: "other sets",
}


@dataclasses.dataclass(frozen=True)
class Training:
    """One fine-tuning, `count` times.

    Attributes:
        stack: so many at most may be done in one program.
    """

    part: str
    label: str
    recipe: Recipe
    run: TrainRun
    rows: TrainingRows
    count: int
    stack: int = 1

    @property
    def steps(self) -> int:
        """Optimiser steps of one."""
        return -(-self.rows.rows // self.recipe.batch_size) * self.recipe.epochs


@dataclasses.dataclass(frozen=True)
class Score:
    """One score, `count` times."""

    part: str
    label: str
    dtype: Dtype
    rows: ScoredRows
    count: int


@dataclasses.dataclass(frozen=True)
class Workload:
    """All that is to be done with models of one shape.

    Attributes:
        what: shown to people.
        mesh, score_mesh: as configured.
        checkpoints: that are opened; `tuned`: models that stay on disk.
    """

    what: str
    model: ModelConfig
    trainings: tuple[Training, ...]
    scores: tuple[Score, ...]
    mesh: str
    score_mesh: str
    checkpoints: int
    tuned: int


def workload_of(config, tokenizer: str = "") -> Workload:
    """The work of a `TrainConfig`, `ScoreConfig` or `StudyConfig`.

    Args:
        tokenizer: checkpoint folder, tokenizer folder or tokenizer.json, to measure the rows under
            `data_root` with; "": that of the checkpoint, where it is at hand.

    Raises:
        ConfigError: an invalid configuration, or a model or set whose size is not known.
    """
    name = config.suite if isinstance(config, StudyConfig) else config.checkpoint
    model = model_config(name)
    sets = Sets(config.data_root, _tokenizer(tokenizer, name), model.max_length)
    if isinstance(config, TrainConfig):
        return _of_training(config, model, sets)
    return (_of_scores if isinstance(config, ScoreConfig) else _of_study)(config, model, sets)


def _tokenizer(path, name):
    if path.endswith(".json"):
        return Tokenizer.from_file(path)
    try:
        folder = Path(path) if path else resolver.find_folder(name)
    except CheckpointError:
        return None
    members = sorted(folder.iterdir()) if folder else []  # of a folder of checkpoints the first
    for candidate in (*((folder / "tokenizer", folder) if folder else ()), *members):
        if (candidate / "tokenizer.json").is_file():
            return Tokenizer.load(candidate)
    return None


def _training(recipe, run, sets, count, stack=1):
    task = get_task(recipe.task)
    if recipe.loss == Loss.DPO:
        require_pairs(task)
    part = "instruction tuning" if task.kind == Kind.CHAT else "fine-tuning"
    return Training(part, task.name, recipe, run, sets.training(recipe), count, stack)


def _of_training(config, model, sets):
    one = _training(config.recipe, config.run, sets, 1)
    what = f"fine-tuning of {config.checkpoint} on {one.label}"
    return Workload(what, model, (one,), (), config.run.mesh, "data:-1", 1, 1)


def _of_scores(config, model, sets):
    cells = [
        (task, name, shots)
        for task in config.tasks
        for name in config.formats or ("default",)
        for shots in config.shots
    ]
    scores = tuple(
        Score(
            "scores",
            f"{get_task(task).name} {name} {shots}-shot",
            config.scoring.dtype,
            sets.scored(task, name, shots, config.scoring),
            1,
        )
        for task, name, shots in cells
    )
    what = f"{len(scores)} scores of {config.checkpoint}"
    return Workload(what, model, (), scores, "data:-1", config.run.mesh, 1, 0)


def _of_study(config, model, sets):
    revisions = _revisions(config)
    models = grid.models_of(config, revisions)
    recipes = collections.Counter(
        grid.recipe_of(config, grid.fine_tune_of(config, one), rate=rate)
        for one in models
        if one.tuned_on and seeds_of(one.variant) is None
        for rate in grid.rates_of(config, one) or (None,)
    )
    trainings = tuple(
        _training(recipe, config.train_run, sets, count, _most_stacked(config, recipe, count))
        for recipe, count in recipes.items()
    )
    counts = collections.Counter(
        (_part(config, cell), cell.task, cell.format, cell.shots)
        for one in models
        for cell in grid.cells_of(config, one)
    )
    scores = tuple(
        Score(
            part,
            f"{task} {name} {shots}-shot",
            config.scoring.dtype,
            sets.scored(grid.task_of(config, task), name, shots, config.scoring),
            count,
        )
        for (part, task, name, shots), count in counts.items()
    )
    tuned, probed = recipes.total(), grid.probed(config)
    what = f"study {config.name}: {len(revisions)} checkpoints, {tuned} fine-tunings, "
    what += f"{sum(counts.values())} scores"
    if probed:
        what += f", {len(probed) * len(revisions)} probes"
        trainings += tuple(_probe(config, entry, sets, len(revisions)) for entry in probed)
    stored = tuned if config.keep_models else 1
    mesh, score_mesh = config.train_run.mesh, config.score_run.mesh
    return Workload(what, model, trainings, scores, mesh, score_mesh, len(revisions), stored)


def _probe(config, entry, sets, count):
    """The steps of a probe; the rows whose loss is taken twice are left out."""
    recipe = grid.probe_recipe(config, entry)
    recipe = dataclasses.replace(recipe, rows=recipe.rows - recipe.held_out_rows)
    one = _training(recipe, config.train_run, sets, count)
    return dataclasses.replace(one, part="probes", label=f"{one.label}, a few steps")


def _most_stacked(config, recipe, count):
    """As many trainings of one recipe as may be done in one program (docs/training.md)."""
    if config.disk_budget_gb or recipe.loss == Loss.DPO:
        return 1
    return min(count, config.train_run.stack or count)


def _part(config, cell):
    """Further formats are a part of their own, as in the published account."""
    if cell.role == Role.IN_DOMAIN and cell.format != config.formats[0]:
        return "formats"
    return PARTS[cell.role]


def _revisions(config):
    """The checkpoints of a study; of a Hub name those that a list names or a `log:N` counts, since
    a plan needs their number alone: the Hub is not asked.
    """
    names = [part.strip() for part in config.select.split(",")]
    listed = ":" not in config.select and "=" not in config.select and config.select != "all"
    if Path(config.suite).expanduser().is_dir():
        return list_revisions(config.suite, config.select)
    if listed and (find_suite(config.suite) or names == ["main"]):
        steps = (int(name) if name.isdigit() else None for name in names)
        return [
            Revision(f"{config.suite}@{name}", name, step)
            for name, step in zip(names, steps, strict=True)
        ]
    if counted := _COUNTED.search(config.select):
        names = [f"{number} of {counted[1]}" for number in range(1, int(counted[1]) + 1)]
        return [Revision(f"{config.suite}@{name}", name, None) for name in names]
    return list_revisions(config.suite, config.select)


_COUNTED = re.compile(r"(?:^|;)log:([1-9]\d*)$")
