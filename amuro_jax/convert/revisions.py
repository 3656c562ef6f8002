"""The pre-training checkpoints of a model: what each revision's name says, in order of tokens seen,
and how to select some.
"""

import dataclasses
import math
import re
from pathlib import Path

from amuro_jax.convert.suites import LOCAL, UNITS, Suite, find_suite
from amuro_jax.errors import CheckpointError, ConfigError

SELECTIONS = (
    "a list of revisions or steps (1000,18000,main), all, every:K, log:N or tokens:N, after "
    "filters such as `stage=1;`"
)


@dataclasses.dataclass(frozen=True)
class Revision:
    """One checkpoint of a series.

    Attributes:
        name: what `open_checkpoint` takes.
        revision: the name within the series.
        step: optimiser steps, None where unknown (a `main` that is no pre-training checkpoint).
        tokens: tokens seen in all, earlier stages included; None where unknown.
        stage, ingredient, seed: where the suite has them.
    """

    name: str
    revision: str
    step: int | None = None
    tokens: int | None = None
    stage: int | None = None
    ingredient: int | None = None
    seed: str | None = None


def list_revisions(
    suite, select: str = "all", cache_dir=None, *, offline: bool = False, token: str | None = None
) -> list[Revision]:
    """Checkpoints of a Hub name or of a folder of checkpoint folders, selected, ordered by tokens
    seen.

    Raises:
        CheckpointError: no such name or folder, or no checkpoint in it.
        ConfigError: a selection that cannot be read, or that names what is not there.
    """
    folder = Path(str(suite)).expanduser()
    if folder.is_dir():
        listed = local_revisions(folder)
    else:
        listed = hub_revisions(str(suite), cache_dir, offline=offline, token=token)
    return select_revisions(listed, select)


def local_revisions(folder) -> list[Revision]:
    """The checkpoint folders of a folder; those whose names say no step are left out, but for
    `main`.

    Raises:
        CheckpointError: none there.
    """
    folder = Path(folder)
    members = [
        path
        for path in folder.iterdir()
        if any((path / mark).is_file() for mark in ("config.json", "config.yaml", "model.json"))
    ]
    listed = [parse(path.name, LOCAL, str(path)) for path in members]
    listed = [
        revision
        for revision in listed
        if revision and (revision.step is not None or revision.revision == "main")
    ]
    if not listed:
        raise CheckpointError(
            f"no checkpoints in this folder ({len(members)} with a model, none with a step in its "
            "name)",
            where=folder,
            hint="one folder per checkpoint, named like step1000-tokens4M",
        )
    return ordered(listed)


def hub_revisions(
    repository: str, cache_dir=None, *, offline: bool = False, token: str | None = None
) -> list[Revision]:
    """The checkpoints that the Hub lists for a repository (or that its suite is known to have,
    offline).

    Raises:
        CheckpointError: a suite that is not in the table, no such repository, or offline with
            nothing remembered.
    """
    suite = find_suite(repository)
    if suite is None:
        raise CheckpointError(
            "no suite of checkpoints of this name is known",
            where=repository,
            hint="add it to convert/suites.py, or give a folder",
        )
    if suite.members:
        listed = [parse(member, suite, member) for member in suite.members]
    else:
        listed = [
            parse(name, suite, f"{repository}@{name}")
            for name in _names(repository, suite, cache_dir, offline, token)
        ]
    seed = re.fullmatch(suite.repositories, repository).groupdict().get("seed")
    listed = [
        dataclasses.replace(revision, seed=revision.seed or seed) for revision in listed if revision
    ]
    if not listed:
        raise CheckpointError(
            f"no revision is named as those of {suite.name} are", where=repository
        )
    return ordered(listed, cumulative=suite.cumulative)


def _names(repository, suite, cache_dir, offline, token):
    from amuro_jax.convert import hub, resolver

    try:
        return hub.list_names(
            repository,
            Path(cache_dir) if cache_dir else resolver.default_cache(),
            offline=offline,
            token=token,
        )
    except CheckpointError:
        if offline and suite.known:
            return [*suite.known, "main"]
        raise


def parse(text: str, suite: Suite, name: str) -> Revision | None:
    """What a revision's name says; None where it is not one of the suite's."""
    if text == "main":
        step, tokens = suite.main or (None, None)
        return Revision(name, text, step, tokens)
    if text in suite.phases:
        return Revision(name, text, stage=suite.phases.index(text) + 1)
    for pattern in suite.patterns:
        if match := re.fullmatch(pattern, text):
            return _from_groups(match.groupdict(), text, suite, name)
    return None


def _from_groups(groups, text, suite, name):
    step = (int(groups["step"]) + suite.first) * suite.step_unit
    tokens = None
    if groups.get("tokens"):
        tokens = round(float(groups["tokens"]) * _unit(groups, text))
    elif suite.tokens_per_step:
        tokens = round(step * suite.tokens_per_step)
    numbers = {key: int(groups[key]) for key in ("stage", "ingredient") if groups.get(key)}
    return Revision(name, text, step, tokens, seed=groups.get("seed"), **numbers)


def _unit(groups, text):
    """`4B` and the laboratory's `4M` name the unit; a bare number counts tokens."""
    unit = (groups.get("unit") or "").upper()
    return UNITS["B" if not unit and text.endswith("B") else unit]


def ordered(revisions: list[Revision], *, cumulative: bool = False) -> list[Revision]:
    """By tokens seen (earlier stages added, unless they are counted in), else by step; what has
    neither comes last, by stage.
    """
    if cumulative:
        return sorted(revisions, key=_order)
    ends: dict[int, int] = {}
    for revision in revisions:
        if revision.tokens is not None:
            ends[revision.stage or 1] = max(ends.get(revision.stage or 1, 0), revision.tokens)
    before = {
        stage: sum(end for other, end in ends.items() if other < stage)
        for stage in {r.stage or 1 for r in revisions}
    }
    total = [
        dataclasses.replace(r, tokens=r.tokens + before[r.stage or 1])
        if r.tokens is not None and r.revision != "main"
        else r
        for r in revisions
    ]
    stages = {revision.stage or 1 for revision in total}
    some_unknown = any(r.tokens is None for r in total if r.revision != "main")
    # Steps begin anew in each stage: without tokens the stage comes first.
    return sorted(total, key=_order_by_stage if some_unknown and len(stages) > 1 else _order)


def _order_by_stage(revision):
    unknown = revision.step is None and revision.stage is None
    return (unknown, revision.revision == "main", revision.stage or 1, *_order(revision)[3:])


def _order(revision):
    unknown = revision.step is None and revision.tokens is None
    seen = revision.tokens if revision.tokens is not None else revision.step or 0
    # Of two with the same tokens, the earlier step; `main` after the branch that it closes.
    return (
        unknown,
        seen,
        revision.revision == "main",
        revision.step or 0,
        revision.stage or 1,
        revision.ingredient or 0,
        revision.seed or "",
    )


def select_revisions(revisions: list[Revision], select: str) -> list[Revision]:
    """Those that `select` names: see SELECTIONS. `every`, `log` and `tokens` always keep the last
    known step.

    Raises:
        ConfigError: not a selection, or nothing is left.
    """
    *filters, kind = [part.strip() for part in select.split(";")]
    for text in filters:
        revisions = _filter(revisions, text)
    if not revisions:
        raise ConfigError("the filters leave no checkpoint", where=f"select={select}")
    if kind in ("all", ""):
        return _without_twin(revisions)
    name, colon, number = kind.partition(":")
    if colon and name in ("every", "log", "tokens"):
        if not number.isdigit() or int(number) < 1:
            raise ConfigError(
                f"{name} needs a whole number, got {number!r}", where=f"select={select}"
            )
        return _spaced(_without_twin(revisions), name, int(number))
    return _listed(revisions, kind)


def _without_twin(revisions):
    """Without `main` where the last checkpoint is there under its own name too.

    A list can still ask for it.
    """
    steps = {revision.step for revision in revisions if revision.revision != "main"}
    return [
        revision
        for revision in revisions
        if revision.revision != "main" or revision.step is None or revision.step not in steps
    ]


def _filter(revisions, text):
    field, equals, value = text.partition("=")
    if not equals or field not in ("stage", "ingredient", "seed", "revision"):
        raise ConfigError(
            f"cannot read the filter {text!r}",
            where="select",
            hint="filters: stage=, ingredient=, seed=, revision=",
        )
    return [revision for revision in revisions if str(getattr(revision, field)) == value]


def _listed(revisions, text):
    items, chosen = [part.strip() for part in text.split(",") if part.strip()], set()
    for item in items:
        hits = [
            index
            for index, revision in enumerate(revisions)
            if item in (revision.revision, revision.name)
        ]
        if not hits and item.isdigit():
            hits = [
                index
                for index, revision in enumerate(revisions)
                if revision.step == int(item) and revision.revision != "main"
            ]
        if not hits:
            shown = ", ".join(revision.revision for revision in revisions[:6])
            raise ConfigError(
                f"no checkpoint {item!r}",
                where=f"select={text}",
                hint=f"{SELECTIONS}; there are {len(revisions)}, first {shown}",
            )
        chosen.update(hits)
    return [revisions[index] for index in sorted(chosen)]


def _spaced(revisions, kind, number):
    known = [
        revision
        for revision in revisions
        if revision.step is not None or revision.tokens is not None
    ]
    if not known:
        raise ConfigError("no checkpoint says its step or tokens", where=f"select={kind}:{number}")
    if kind == "every":
        chosen = set(range(0, len(known), number)) | {len(known) - 1}
        return [known[index] for index in sorted(chosen)]
    seen = [
        revision.tokens if all(r.tokens is not None for r in known) else revision.step
        for revision in known
    ]
    return [known[index] for index in _nearest(seen, number, math.log if kind == "log" else float)]


def _nearest(seen, number, scale):
    """Indices of up to `number` entries, evenly spaced on the scale between the first (above 0) and
    the last.
    """
    start = (
        0
        if scale is float
        else next((index for index, value in enumerate(seen) if value > 0), None)
    )
    if start is None or number >= len(seen) - start:
        return list(range(start or 0, len(seen)))
    low, high = scale(seen[start]), scale(seen[-1])
    marks = (
        [high] if number == 1 else [low + (high - low) * i / (number - 1) for i in range(number)]
    )
    return _distinct([scale(value) for value in seen[start:]], marks, start)


def _distinct(values, marks, start):
    """For each mark its nearest value that is not yet taken, so that `number` checkpoints come out
    even where the series is sparse.
    """
    chosen: set[int] = {len(values) - 1}
    for mark in [marks[0]] * (len(marks) > 1) + marks[1:-1]:
        free = (index for index in range(len(values)) if index not in chosen)
        chosen.add(min(free, key=lambda index: abs(values[index] - mark)))
    return [start + index for index in sorted(chosen)]
