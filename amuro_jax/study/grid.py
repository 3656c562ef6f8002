"""From a StudyConfig to its cells: which models there are, and on what each is scored."""

import dataclasses

from amuro_jax import config as configuration
from amuro_jax import files, variants
from amuro_jax.config import FineTune, Loss, ProtocolName, Recipe, Role, StudyConfig, require
from amuro_jax.data import formats, protocols
from amuro_jax.data.registry import TASKS, get_task, is_task_file
from amuro_jax.data.task import Kind
from amuro_jax.errors import ConfigError
from amuro_jax.records import Cell, ModelRef
from amuro_jax.variants import Noise

DECLARED = (Role.IN_DOMAIN, Role.OUT_OF_DOMAIN, Role.MULTIPLE_CHOICE)  # roles a study may give
BEST_RATE = "best rate"  # variant of models whose learning rate is chosen for each checkpoint


def recipe_of(
    config: StudyConfig, fine_tune: FineTune, seed: int | None = None, rate: float | None = None
) -> Recipe:
    """The recipe of one fine-tuning set: the study's `recipe` with what the set changes.

    Args:
        seed: of `config.seeds`; None: the recipe's own.
        rate: of the set's `learning_rates`; None: the recipe's own.
    """
    changes = {name: value for name, value in vars(fine_tune).items() if value is not None}
    del changes["variant"]
    changes.pop("learning_rates", None)
    if changes.pop("all_rows"):
        changes["rows"] = None
    changes |= {} if seed is None else {"seed": seed}
    changes |= {} if rate is None else {"learning_rate": rate}
    return dataclasses.replace(config.recipe, **changes)


def probed(config: StudyConfig) -> list[FineTune]:
    """The entries that base models are probed on: of each set the first that is no training on
    preference pairs.
    """
    entries = {}
    for entry in config.fine_tunes if config.probe.steps else ():
        if recipe_of(config, entry).loss != Loss.DPO:
            entries.setdefault(_name(entry.task), entry)
    return list(entries.values())


def probe_recipe(config: StudyConfig, entry: FineTune) -> Recipe:
    """What a probe trains: one pass over as many rows as its steps take, at a rate that goes down
    to zero without a warm-up.
    """
    recipe, probe = recipe_of(config, entry), config.probe
    changes = {
        "rows": probe.steps * recipe.batch_size + probe.held_out_rows,
        "held_out_rows": probe.held_out_rows,
        "epochs": 1,
        "warmup_fraction": 0.0,
    }
    if probe.learning_rate is not None:
        changes["learning_rate"] = probe.learning_rate
    if probe.lora_rank is not None:
        changes["lora_rank"] = probe.lora_rank
    return dataclasses.replace(recipe, **changes)


def fine_tune_of(config: StudyConfig, model: ModelRef) -> FineTune:
    """The entry of a fine-tuned model."""
    return next(
        entry
        for entry in config.fine_tunes
        if _name(entry.task) == model.tuned_on
        and variants.without_average(model.variant) in (entry.variant, best_rate_variant(entry))
    )


def best_rate_variant(entry: FineTune) -> str:
    """Name of the variant that has the best of the entry's rates, chosen for each checkpoint."""
    return f"{entry.variant}, {BEST_RATE}" if entry.variant else BEST_RATE


def rates_of(config: StudyConfig, model: ModelRef) -> tuple[float, ...]:
    """The rates among which the one of a model is chosen; empty: it has one rate."""
    if not model.tuned_on:
        return ()
    entry = fine_tune_of(config, model)
    chosen = model.variant == best_rate_variant(entry) and entry.learning_rates
    return entry.learning_rates if chosen else ()


def models_of(config: StudyConfig, revisions) -> list[ModelRef]:
    """Per checkpoint the base model, what is made of it (noise, averages), then its fine-tuned
    ones, in the order of training.
    """
    models = []
    for place, revision in enumerate(revisions):
        base = ModelRef(config.suite, revision.revision, revision.step, revision.tokens)
        averages = [count for count in config.averages if count <= place + 1]
        made = [*(one.variant for one in noises(config)), *map(variants.average_variant, averages)]
        models += [base, *(dataclasses.replace(base, variant=variant) for variant in made)]
        for entry in config.fine_tunes:
            tuned = dataclasses.replace(base, tuned_on=_name(entry.task), variant=entry.variant)
            ways = [entry.variant] + [best_rate_variant(entry)] * bool(entry.learning_rates)
            whole = recipe_of(config, entry).lora_rank is None  # an adapter's base is a folder, and
            if whole:  # the product of averaged adapters is not the average of their products
                ways += [variants.average_variant(count, entry.variant) for count in averages]
            for way in ways:
                models += [
                    dataclasses.replace(tuned, variant=way, seed=seed)
                    for seed in config.seeds or (None,)
                ]
                if (
                    config.average_seeds and whole and way == entry.variant
                ):  # while its models are there
                    together = variants.seeds_variant(len(config.seeds), way)
                    models.append(dataclasses.replace(tuned, variant=together))
    return models


def noises(config: StudyConfig) -> list[Noise]:
    """The noises that each base model is scored with."""
    seeds = range(config.noise.seed, config.noise.seed + config.noise.draws)
    return [Noise(sigma, seed) for sigma in config.noise.sigmas for seed in seeds]


def cells_of(config: StudyConfig, model: ModelRef) -> list[Cell]:
    """What a model is scored on.

    A fine-tuned model meets its own in-domain sets in every format of theirs, its out-of-domain
    sets and the multiple choice as the plan says, and the other tasks' fine-tuning sets as
    cross-task sets in one format. In and out of domain are compared in the same format: the study's
    first. A model with noise meets the sets of `noise.tasks` in their main view.
    """
    if variants.noise_of(model.variant):
        return _noise_cells(config, model)
    cells = []
    for entry in config.evals:
        role, formats_of_entry = entry.role, _formats(config, entry)
        owners = tuple(map(_name, entry.of))
        if model.tuned_on and owners and model.tuned_on not in owners:
            if role != Role.IN_DOMAIN or not _may_be_crossed(config, entry.task):
                continue
            role, formats_of_entry = Role.CROSS_TASK, formats_of_entry[:1]
        for shots in config.shots if entry.shots is None else entry.shots:
            cells += [
                Cell(model, _name(entry.task), role, name, shots, owners, entry.group)
                for name in formats_of_entry
            ]
    return list(dict.fromkeys(cells))


def _noise_cells(config, model):
    cells = []
    for entry in config.evals:
        name, wanted = _name(entry.task), config.noise.tasks
        if entry.task in wanted or (not wanted and entry.role == Role.MULTIPLE_CHOICE):
            owners = tuple(map(_name, entry.of))
            shots = (config.shots if entry.shots is None else entry.shots)[0]
            view = _formats(config, entry)[0], shots
            cells.append(Cell(model, name, entry.role, *view, owners, entry.group))
    return list(dict.fromkeys(cells))


def _formats(config, entry):
    if entry.formats is not None:
        return entry.formats
    if entry.role == Role.IN_DOMAIN:
        return config.formats
    return ("default",) if entry.role == Role.MULTIPLE_CHOICE else config.formats[:1]


def _may_be_crossed(config, task):
    """A fine-tuning set of the study, unless its own roles say otherwise."""
    tuned = {_name(entry.task) for entry in config.fine_tunes}
    registered = task in TASKS  # its roles are the published study's, whatever is tuned on
    return Role.CROSS_TASK in get_task(task).roles and (registered or _name(task) in tuned)


def task_of(config: StudyConfig, name: str) -> str:
    """What `get_task` takes for a set that a cell names: the name, or the path of its YAML file."""
    entries = (*config.evals, *config.fine_tunes)
    return next(entry.task for entry in entries if _name(entry.task) == name)


def task_files(config: StudyConfig) -> dict[str, str]:
    """Name → text of each set that the configuration names by a YAML file."""
    named = {entry.task for entry in (*config.evals, *config.fine_tunes)}
    texts = {path: files.read_text(path) for path in sorted(named) if is_task_file(path)}
    return {_name(path): text for path, text in texts.items()}


def _name(task: str) -> str:
    """The name of a set; a YAML file goes by the name that it gives."""
    return get_task(task).name


def validate(config: StudyConfig) -> None:
    """Refuses a study that cannot be run, before anything is computed.

    Raises:
        ConfigError: unknown task, format, role or quirk; a set that cannot be trained on; two
            protocols in one study; nothing to do.
    """
    configuration.require_fields(config, "workdir", "suite", "evals", "formats", "shots")
    configuration.validate_scoring(config.scoring)
    configuration.validate_score_run(config.score_run, "config.score_run")
    configuration.validate_recipe(config.recipe)
    configuration.validate_train_run(config.train_run, config.recipe, "config.train_run")
    require(
        not config.recipe.task,
        f"the recipe of a study has no task of its own, got {config.recipe.task!r}",
        where="config.recipe.task",
        hint="name the sets in config.fine_tunes",
    )
    for block in (config.scoring, config.recipe):
        protocols.resolve(block.protocol, block.quirks)
    _validate_protocols(config)
    names = _validate_fine_tunes(config)
    for index, entry in enumerate(config.evals):
        _validate_entry(config, entry, f"config.evals[{index}]", names)
    configuration.require_seeds(config, ["seeds"], "config")
    require(
        config.ray.max_retries >= -1,
        f"max_retries must be -1 (without end) or more, got {config.ray.max_retries}",
        where="config.ray.max_retries",
    )
    require(
        len(set(config.seeds)) == len(config.seeds),
        f"a seed is named twice: {', '.join(map(str, config.seeds))}",
        where="config.seeds",
    )
    configuration.validate_shots(config.shots, "config.shots")
    _validate_derived(config)
    _validate_probe(config)
    budget = config.disk_budget_gb
    require(
        budget is None or budget > 0,
        f"disk_budget_gb must be positive, got {budget}",
        where="config.disk_budget_gb",
    )


def _validate_derived(config):
    """Averages and noise: counts, sizes, sets."""
    require(
        len(set(config.averages)) == len(config.averages) and min(config.averages, default=2) > 1,
        f"expected different numbers of checkpoints, 2 or more, got {config.averages}",
        where="config.averages",
    )
    require(
        not config.average_seeds or len(config.seeds) > 1,
        "no average over fewer than two seeds",
        where="config.average_seeds",
        hint="name several in config.seeds",
    )
    noise = config.noise
    require(
        len(set(noise.sigmas)) == len(noise.sigmas) and min(noise.sigmas, default=1) > 0,
        f"expected different positive sizes, got {noise.sigmas}",
        where="config.noise.sigmas",
    )
    configuration.require_positive(noise, ["draws"], "config.noise")
    configuration.require_seeds(noise, ["seed"], "config.noise")
    scored = {entry.task for entry in config.evals}
    for task in noise.tasks:
        require(
            task in scored,
            f"{task!r} is not a set of config.evals",
            where="config.noise.tasks",
            hint="one of " + ", ".join(sorted(scored)),
        )
    multiple_choice = any(entry.role == Role.MULTIPLE_CHOICE for entry in config.evals)
    require(
        not noise.sigmas or bool(noise.tasks) or multiple_choice,
        "no set is scored with noise: config.evals has no multiple choice",
        where="config.noise.tasks",
        hint="name sets of config.evals",
    )


def _validate_probe(config):
    """A probe's own fields, and the recipe that it makes of each set's."""
    configuration.require_positive(config.probe, ["steps"], "config.probe")
    require(
        config.probe.steps is None or bool(probed(config)),
        "no fine-tuning set to probe",
        where="config.probe.steps",
        hint="name some in config.fine_tunes; preference pairs are not probed",
    )
    for entry in probed(config):
        configuration.validate_recipe(probe_recipe(config, entry), "config.probe")


def _validate_fine_tunes(config) -> list[str]:
    """Names of the fine-tuning sets."""
    tuned = []
    for index, entry in enumerate(config.fine_tunes):
        where = f"config.fine_tunes[{index}]"
        name = _name(entry.task)
        require(
            bool(get_task(entry.task).source.train),
            f"{name} has no training split",
            where=f"{where}.task",
        )
        require(
            (name, entry.variant) not in tuned,
            f"{configuration.entry_name(entry)} is named twice",
            where=f"{where}.task",
            hint="give one of them a variant, for example variant='lora'",
        )
        require(
            not variants.is_derived(entry.variant),
            f"{entry.variant!r} is how the study calls averages and noise",
            where=f"{where}.variant",
            hint="choose another name",
        )
        require(
            not (entry.all_rows and entry.rows),
            f"rows is {entry.rows} and all_rows is set",
            where=f"{where}.rows",
        )
        recipe = recipe_of(config, entry)
        configuration.validate_recipe(recipe, where)
        protocols.resolve(recipe.protocol, recipe.quirks)
        configuration.validate_train_run(config.train_run, recipe, "config.train_run")
        own = f"{where}.format" if entry.format else "config.recipe.format"
        _validate_format(formats.parse_format, own, recipe.format, get_task(entry.task))
        _validate_rates(entry, recipe, where)
        tuned.append((name, entry.variant))
    return list(dict.fromkeys(name for name, _ in tuned))


def _validate_rates(entry, recipe, where):
    """A choice among rates needs some, and rows to choose by."""
    if entry.learning_rates is None:
        return
    rates, where = entry.learning_rates, f"{where}.learning_rates"
    require(
        len(set(rates)) == len(rates) >= 2 and min(rates) > 0,
        f"expected two or more different positive rates, got {', '.join(map(str, rates))}",
        where=where,
    )
    require(
        recipe.held_out_rows is not None,
        "nothing to choose a rate by",
        where=where,
        hint="set held_out_rows: rows of the training set that are kept out of training",
    )


def _validate_protocols(config):
    train, score = config.recipe.protocol, config.scoring.protocol
    require(
        train == score or config.mixed_protocols or not config.fine_tunes,
        f"models are trained under {train} and scored under {score}",
        where="config.recipe.protocol",
        hint=f"use one of {', '.join(ProtocolName)} for both, or say --config.mixed_protocols=true",
    )


def _validate_format(known, where, *arguments):
    try:
        known(*arguments)
    except ConfigError as error:
        raise ConfigError(error.what, where=where, hint=error.hint) from error


def _validate_entry(config, entry, where, tuned):
    task = get_task(entry.task)
    require(
        entry.role in DECLARED,
        f"a set cannot be declared {entry.role}",
        where=f"{where}.role",
        hint="one of " + ", ".join(DECLARED),
    )
    protocol = protocols.resolve(config.scoring.protocol, config.scoring.quirks)
    for name in _formats(config, entry):
        own = "config.formats" if entry.formats is None else f"{where}.formats"
        if task.kind == Kind.MULTIPLE_CHOICE:  # its prompts are of `data.choices`
            _validate_format(formats.parse_format, own, name, task)
        else:
            _validate_format(formats.template_of, own, task, name, protocol)
    configuration.validate_shots(entry.shots or (), f"{where}.shots")
    for owner in map(_name, entry.of):
        require(
            owner in tuned,
            f"{owner!r} is not a fine-tuning set of this study",
            where=f"{where}.of",
            hint="one of " + ", ".join(tuned),
        )
