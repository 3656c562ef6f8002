"""A study's results from Python: tables, findings and figures by name. No jax."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from amuro_jax.analyses import axes
from amuro_jax.analyses.analysis import Sentence, Tables
from amuro_jax.analyses.figures import FigureSpec
from amuro_jax.analyses.registry import tables_of
from amuro_jax.errors import AmuroError
from amuro_jax.report.training import with_training
from amuro_jax.results import conditions, loading
from amuro_jax.results.loading import Suites
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """A study's results.

    Attributes:
        results: its finished cells with their bootstrap draws, and what is missing.
        tables: every analysis's table by name, made when it is first asked for.
    """

    results: Results
    tables: Tables

    @property
    def cells(self) -> pd.DataFrame:
        """The finished scores of the series, a line each: the headline metric of each set."""
        return self.results.cells

    @property
    def missing(self) -> pd.DataFrame:
        """The scores that are wanted and not finished, and why."""
        return self.results.missing

    @property
    def measurements(self) -> pd.DataFrame:
        """Every score of the store: all series and metrics."""
        return self.results.measurements

    @property
    def suites(self) -> list[str]:
        """Names of the store's series."""
        return list(self.results.suites)

    def rows(self, key: str) -> pd.DataFrame | None:
        """The rows of a score, from its key (`cells["key"]`); None where it has none."""
        return self.results.rows(key)

    def analysis(self, name: str) -> pd.DataFrame:
        """The table of an analysis.

        Raises:
            AmuroError: there is no such analysis; it lists those there are.
        """
        return self.tables[name]

    def columns(self, name: str) -> dict[str, str]:
        """What the columns of an analysis's table mean."""
        self._known(name)
        return dict(self.tables.analyses[name].columns)

    def findings(self) -> Iterator[tuple[str, Sentence]]:
        """(analysis, sentence) in the order of the report."""
        for name, analysis in self.tables.analyses.items():
            for sentence in (
                analysis.sentences(self.results, self.tables) if analysis.sentences else ()
            ):
                yield name, sentence

    def figures(self) -> dict[str, str]:
        """The analyses that have something to draw, and their titles."""
        drawn = {name: one for name, one in self.tables.analyses.items() if one.figure}
        specs = {name: one.figure(self.results, self.tables) for name, one in drawn.items()}
        return {name: drawn[name].title for name, spec in specs.items() if spec and spec.panels}

    def figure(self, name: str, *, where: str = "", axis: str = "steps") -> FigureSpec:
        """The figure of an analysis as data.

        Args:
            where: condition on scores (`amuro results`); the analysis is made of those that fit.
            axis: of figures over checkpoints, one of `analyses.axes.AXES`.

        Raises:
            AmuroError: there is no such analysis or axis, or there is nothing to draw.
            ConfigError: not a condition.
        """
        self._known(name)
        shown = restricted(self.results, where) if where else self.results
        tables = tables_of(shown) if where else self.tables
        make = tables.analyses[name].figure
        spec = make(shown, tables) if make else None
        if spec is None or not spec.panels:
            hint = "with a figure: " + ", ".join(self.figures())
            raise AmuroError("has nothing to draw", where=f"analysis {name}", hint=hint)
        return spec if axis == "steps" else axes.on_track(spec, axes.track_on(shown, axis))

    def plot(self, name: str, *, style: str = "web", where: str = "", axis: str = "steps"):
        """The figure of an analysis, drawn by matplotlib: `web` or, smaller, `paper`."""
        from amuro_jax.report import plots

        return plots.figure(self.figure(name, where=where, axis=axis), style)

    def _known(self, name):
        self.tables[name]  # an unknown name is refused there, with those that are known


def restricted(results: Results, where: str) -> Results:
    """The results whose scores fit a condition, missing ones too as far as it can be told of them,
    and likewise those of the store's other series; a set's main view is the first that is left.

    Raises:
        AmuroError: no score fits.
        ConfigError: not a condition.
    """
    own = _restricted(results, where)
    if not results.suites:
        return own
    suites = Suites(results.suites.store)
    known = pa.Table.from_pandas(results.measurements.drop(columns="of"), preserve_index=False)
    suites.measurements = conditions.select(known, where).to_pandas()
    for name, of_suite in results.suites.items():
        with contextlib.suppress(AmuroError):  # nothing of that series fits
            fitting = own if name == results.suite else _restricted(of_suite, where)
            suites.add(name, lambda fitting=fitting: fitting)
    return suites[results.suite]


def _restricted(results, where):
    both = pd.concat([results.cells, results.missing], ignore_index=True)
    plain = both.drop(columns=["of", "why"], errors="ignore").assign(line=both.index)
    fitting = conditions.select(pa.Table.from_pandas(plain, preserve_index=False), where)
    lines, done = np.array(fitting["line"].to_pylist(), int), len(results.cells)
    cells = results.cells.iloc[lines[lines < done]]
    missing = results.missing.iloc[lines[lines >= done] - done]
    if cells.empty:
        raise AmuroError("no score fits", where=f"--where={where}")
    left = pd.concat([cells, missing])
    views = left.drop_duplicates(["task", "format", "shots"])
    main = {}
    for task, usual in results.main.items():
        own = list(views[views["task"] == task][["format", "shots"]].itertuples(index=False))
        if own:
            main[task] = usual if usual in own else tuple(own[0])
    names = set(left["checkpoint"])
    return dataclasses.replace(
        results,
        checkpoints=[name for name in results.checkpoints if name in names],
        cells=cells.reset_index(drop=True),
        missing=missing.reset_index(drop=True),
        main=main,
        derived={},
    )


def load_results(workdir, resamples: int = 3000, suite: str = "") -> StudyResults:
    """Reads a work folder, local or in an object store: of a study, or of imported scores.

    Nothing but the index is read before it is asked for.

    Args:
        suite: the series that tables and figures are of; "": the study's, or the first one.

    Raises:
        AmuroError: nothing finished there, or no such series.
    """
    loaded = loading.load(workdir, resamples, suite)
    return StudyResults(loaded, with_training(loaded, Store.open(workdir)))
