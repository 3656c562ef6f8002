"""What a study would meet, told before anything is computed: data that is not there, downloads,
checkpoints with the same weights, and checkpoints that are not what they are called.
"""

import dataclasses

from amuro_jax.config import StudyConfig
from amuro_jax.convert import fingerprints
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.convert.series_audit import Fault, FaultKind, SeriesAudit, audit_series, holes
from amuro_jax.data import protocols, sources
from amuro_jax.data.registry import get_task
from amuro_jax.data.sources import Problem
from amuro_jax.errors import CheckpointError
from amuro_jax.study import grid, plan


@dataclasses.dataclass(frozen=True)
class Preflight:
    """What a study would meet.

    Attributes:
        problems: of the data sets' rows, each said once.
        duplicates: checkpoint → an earlier one with the same weights.
        unknown: checkpoints whose weights nothing tells without a download.
        series: the audit of the study's checkpoints.
        holes: steps that the whole series lacks, the study's selection aside.
    """

    problems: tuple[Problem, ...]
    duplicates: dict[str, str]
    unknown: tuple[str, ...]
    series: SeriesAudit
    holes: tuple[Fault, ...] = ()

    @property
    def faults(self) -> list[Problem]:
        """What of the data would make a cell fail."""
        return [problem for problem in self.problems if problem.is_fault]

    def lines(self) -> list[str]:
        """A line for each thing to say; none where there is nothing."""
        lines = [
            f"{name} has the same weights as {first}: it counts as one checkpoint"
            for name, first in self.duplicates.items()
        ]
        faults = [one for one in self.series.faults if one.kind != FaultKind.DUPLICATE]
        lines += [f"{'fault' if one in self.series.errors else 'note'}: {one}" for one in faults]
        lines += [f"note: {one}" for one in self.holes if one not in faults]
        for problem in self.problems:
            kind = "fault" if problem.is_fault else "note"
            hint = f" ({problem.hint})" if problem.hint else ""
            lines.append(f"{kind}: {problem.where}: {problem.what}{hint}")
        return lines


def check(config: StudyConfig, revisions, cache_dir=None) -> Preflight:
    """Looks at the first rows of every set that the study trains on or scores, at the hashes of the
    checkpoints' files, and at samples of the weights that are on this machine. Nothing is
    downloaded but the Hub's listings.
    """
    names = {one.name: one.revision for one in revisions}
    same, unknown = fingerprints.duplicates(list(names), cache_dir)
    known = plan.make_plan(config, revisions).duplicates  # by content, in an earlier run
    return Preflight(
        tuple(dict.fromkeys(_data_problems(config))),
        known | {names[name]: names[first] for name, first in same.items()},
        tuple(names[name] for name in unknown),
        audit_series(revisions),
        tuple(holes(list_revisions(config.suite))),
    )


def require_sound_series(revisions) -> None:
    """Refuses a series of checkpoints that are not what they are called.

    Raises:
        CheckpointError: with what is wrong with which checkpoint.
    """
    errors = audit_series(revisions).errors
    if errors:
        what = f"{len(errors)} faults in the series:\n  " + "\n  ".join(map(str, errors))
        hint = "download them again or leave them out of --config.select; or --accept_series"
        raise CheckpointError(what, where=revisions[0].name, hint=hint)


def _data_problems(config):
    for entry in config.fine_tunes:
        recipe = grid.recipe_of(config, entry)
        protocol = protocols.resolve(recipe.protocol, recipe.quirks)
        yield from sources.check(get_task(entry.task), protocol, config.data_root, train=True)
    protocol = protocols.resolve(config.scoring.protocol, config.scoring.quirks)
    for entry in config.evals:
        shots = max(config.shots if entry.shots is None else entry.shots, default=0)
        yield from sources.check(get_task(entry.task), protocol, config.data_root, shots=shots)
