"""The work of a study as values: its jobs with what each needs, and what is left."""

import collections
import dataclasses
import enum

from amuro_jax import variants
from amuro_jax.config import Recipe, StudyConfig
from amuro_jax.data.registry import get_task
from amuro_jax.records import PROBE, Cell, ModelRef
from amuro_jax.results.plan import Plan, asked, read_plan
from amuro_jax.results.probes import probes_of
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import grid


def make_plan(config: StudyConfig, revisions) -> Plan:
    """The plan of a study, with the keys that the last run of the same study found out."""
    models = grid.models_of(config, revisions)
    cells = tuple(cell for model in models for cell in grid.cells_of(config, model))
    plan = Plan(config.name, config, tuple(one.revision for one in revisions), cells)
    before = read_plan(Storage.open(config.workdir))
    if before is None or asked(before.config) != asked(config):
        return plan
    plan = dataclasses.replace(plan, duplicates=before.duplicates)
    return plan.with_keys({cell.identity: cell.key for cell in before.cells})


class JobKind(enum.StrEnum):
    """What a job does."""

    TRAIN = "train"
    SCORE = "score"
    PROBE = PROBE


@dataclasses.dataclass(frozen=True)
class Job:
    """A piece of a study that one process does: a model to be trained, or the scores of a model.

    Attributes:
        checkpoint: name that `open_checkpoint` takes; jobs of one checkpoint belong together.
        recipe: of a training.
        cells: of a scoring.
        needs: names of the jobs that must be done before.
        averaged_with: names of the checkpoints before, of an average that ends at `checkpoint`.
    """

    kind: JobKind
    checkpoint: str
    model: ModelRef
    recipe: Recipe | None = None
    cells: tuple[Cell, ...] = ()
    needs: tuple[str, ...] = ()
    averaged_with: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`train step1000 + paws`, `score step1000 base`."""
        return f"{self.kind} {self.model.label()}"


def jobs_of(config: StudyConfig, revisions) -> list[Job]:
    """Every job of a study, checkpoint by checkpoint, each after what it needs."""
    order = [one.revision for one in revisions]
    names, jobs = [one.name for one in revisions], []
    for model in grid.models_of(config, revisions):
        place, needs = order.index(model.checkpoint), ()
        before = tuple(names[place + 1 - (variants.average_of(model.variant) or 1) : place])
        if variants.seeds_of(model.variant):
            way = variants.without_average(model.variant)
            seeds = (dataclasses.replace(model, variant=way, seed=seed) for seed in config.seeds)
            needs = tuple(Job(JobKind.TRAIN, names[place], one).name for one in seeds)
        elif model.tuned_on:
            trainings = _trainings(config, names[place], model, before)
            jobs += trainings
            needs = tuple(job.name for job in trainings)
        cells = tuple(grid.cells_of(config, model))
        jobs.append(Job(JobKind.SCORE, names[place], model, None, cells, needs, before))
        if not (model.tuned_on or model.variant):
            jobs += _probes(config, names[place], model)
    return jobs


def _probes(config, name, base):
    """The probes of a base model."""
    return [
        Job(
            JobKind.PROBE,
            name,
            dataclasses.replace(base, tuned_on=get_task(entry.task).name, variant=PROBE),
            grid.probe_recipe(config, entry),
        )
        for entry in grid.probed(config)
    ]


def _trainings(config, name, model, before):
    """The training of a model, or one for each rate among which its own is chosen."""
    entry, rates = grid.fine_tune_of(config, model), grid.rates_of(config, model)
    if not rates:
        recipe = grid.recipe_of(config, entry, model.seed)
        return [Job(JobKind.TRAIN, name, model, recipe, averaged_with=before)]
    jobs = []
    for rate in rates:
        way = ", ".join(filter(None, (entry.variant, f"rate {rate:g}")))
        recipe = grid.recipe_of(config, entry, model.seed, rate)
        jobs.append(Job(JobKind.TRAIN, name, dataclasses.replace(model, variant=way), recipe))
    return jobs


def share(revisions, index: int, count: int) -> set[str]:
    """Names of the checkpoints in part `index` of `count`: every `count`-th, so that each part has
    early and late ones.
    """
    return {one.revision for one in list(revisions)[index::count]}


def describe(config: StudyConfig, revisions) -> str:
    """What `--dry_run` prints: every job with its state, counts, and an estimate from the finished
    cells' times.
    """
    storage = Storage.open(config.workdir)
    plan, store = make_plan(config, revisions), Store(storage)
    done = {cell.identity for cell in plan.cells if cell.key and store.is_done(cell.key)}
    reused = {identity for url in config.reuse for identity in _reusable(config, plan, url)} - done
    done |= reused
    lines, left = [], {kind: collections.Counter() for kind in JobKind}
    jobs = jobs_of(config, revisions)
    scores = [job for job in jobs if job.kind == JobKind.SCORE]
    cells_by = collections.defaultdict(list)  # a training may be needed by several scores
    for job in scores:
        for name in (job.name, *job.needs):
            cells_by[name] += job.cells
    known = probes_of(store, config)
    probes = set(zip(known["checkpoint"], known["tuned_on"], strict=True))
    for job in jobs:
        if job.kind == JobKind.PROBE:
            new = (job.model.checkpoint, job.model.tuned_on) not in probes
            left[JobKind.PROBE].update([job.model.tuned_on] * new)
            lines.append(f"  {'to do' if new else 'done':<6} probe  {job.model.label()}")
            continue
        todo = [cell for cell in cells_by[job.name] if cell.identity not in done]
        if job.kind == JobKind.TRAIN:
            left[JobKind.TRAIN].update([job.model.tuned_on] if todo else [])
            lines.append(f"  {'to do' if todo else 'done':<6} train  {job.model.label()}")
            continue
        left[JobKind.SCORE].update(cell.task for cell in todo)
        lines += [
            f"  {'to do' if cell in todo else 'done':<6} score  {job.model.label():<40} "
            f"{cell.role:<16} {cell.what()}"
            for cell in job.cells
        ]
    head = (
        f"{len(revisions)} checkpoints × {len(scores) // max(1, len(revisions))} models, "
        f"{len(plan.cells)} scores; to do: {left[JobKind.TRAIN].total()} fine-tunings, "
        f"{left[JobKind.SCORE].total()} scores"
    )
    if probed := left[JobKind.PROBE].total():
        head += f", {probed} probes"
    if reused:
        head += f"; taken over from other workdirs: {len(reused)} scores"
    before = read_plan(storage)
    if before is not None and asked(before.config) != asked(config):
        head += (
            "\n(the last run in this folder had another configuration; cells that it shares with "
            "this one are found when checkpoints are opened)"
        )
    return "\n".join([head, *lines, _estimate(config, left, store)])


def _reusable(config, plan, url):
    """Identities of the cells that another workdir has finished, where its study asked for the same
    number. That the weights and the data are the same too is known when a checkpoint is opened.
    """
    other, store = read_plan(Storage.open(url)), Store.open(url)
    if other is None:
        return
    same = ("suite", "data_root", "scoring")
    if any(getattr(other.config, name) != getattr(config, name) for name in same):
        return
    keys = {cell.identity: cell.key for cell in other.cells if cell.key}
    for cell in plan.cells:
        key = keys.get(cell.identity)
        if key and _same_recipe(config, other.config, cell.model) and store.is_done(key):
            yield cell.identity


def _same_recipe(config, other, model):
    if not model.tuned_on:
        return True
    ours, theirs = (
        grid.recipe_of(one, grid.fine_tune_of(one, model), model.seed) for one in (config, other)
    )
    return ours == theirs


def _estimate(config, left, store):
    """Seconds of finished cells times what is left of each set; while either kind has none, how
    many rows there are to train on and to score.
    """
    if not any(left.values()):
        return "estimate: nothing is left to do"
    seconds = _seconds(store)
    if all(seconds[kind] for kind in left if left[kind]):
        rest = sum(
            count * _mean(seconds[kind], task)
            for kind in left
            for task, count in left[kind].items()
        )
        return (
            f"estimate: {rest / 60:.1f} minutes, from the finished cells' mean times "
            "(no compilation counted)"
        )
    rows, unlimited = 0, ""
    for entry in config.fine_tunes:
        recipe = grid.recipe_of(config, entry)
        if recipe.rows is None:
            unlimited = ", and all rows of the sets without a limit"
        entries = sum(other.task == entry.task for other in config.fine_tunes)
        jobs = left[JobKind.TRAIN][get_task(entry.task).name] / entries
        rows += round(jobs * (recipe.rows or 0) * recipe.epochs)
    limit = config.scoring.rows
    each = f"{limit:,} rows at most" if limit else "all rows of its set"
    wait = " and a fine-tuning" if left[JobKind.TRAIN] else ""
    return (
        f"estimate: {rows:,} rows to train on{unlimited}, {left[JobKind.SCORE].total()} scores of "
        f"{each} each; a time follows after the first finished score{wait}"
    )


def _seconds(store: Store) -> dict:
    """{kind: {set: [seconds of each finished cell]}}, without what was spent on compilation."""
    compiled = {
        line["key"]: line["compiles"]["seconds"] for line in store.read_log() if "compiles" in line
    }
    seconds = {kind: collections.defaultdict(list) for kind in JobKind}
    for kind, by_task in seconds.items():
        for record in store.records(kind):
            task = record.task if kind == JobKind.SCORE else record.model.tuned_on
            by_task[task].append(max(0.0, record.seconds - compiled.get(record.key, 0.0)))
    return seconds


def _mean(by_task, task):
    """Of the set's own cells, else of all."""
    seconds = by_task.get(task) or [value for values in by_task.values() for value in values]
    return sum(seconds) / len(seconds)
