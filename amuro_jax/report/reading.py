"""A study's results from Python: tables, findings and figures by name. No jax."""

import dataclasses
from collections.abc import Iterator

import pandas as pd

from amuro_jax.analyses.analysis import Sentence, Tables
from amuro_jax.analyses.figures import FigureSpec
from amuro_jax.analyses.registry import tables_of
from amuro_jax.errors import AmuroError
from amuro_jax.results import results


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """A study's results.

    Attributes:
        results: its finished cells with their bootstrap draws, and what is missing.
        tables: every analysis's table by name, made when it is first asked for.
    """

    results: results.Results
    tables: Tables

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

    def figure(self, name: str) -> FigureSpec:
        """The figure of an analysis as data.

        Raises:
            AmuroError: there is no such analysis, or it has nothing to draw.
        """
        self._known(name)
        make = self.tables.analyses[name].figure
        spec = make(self.results, self.tables) if make else None
        if spec is None or not spec.panels:
            raise AmuroError("has nothing to draw", where=f"analysis {name}")
        return spec

    def plot(self, name: str):
        """The figure of an analysis, drawn by matplotlib."""
        from amuro_jax.report import plots

        return plots.figure(self.figure(name))

    def _known(self, name):
        self.tables[name]  # an unknown name is refused there, with those that are known


def load_results(workdir, resamples: int = 3000) -> StudyResults:
    """Reads a study's folder, local or in an object store.

    Raises:
        AmuroError: no study there, or no finished cell.
    """
    found = results.load(workdir, resamples)
    return StudyResults(found, tables_of(found))
