"""What an analysis is: a table, and what the report makes of it. No jax.

The report, its page, the CSV files and the findings all follow from the `Analysis` records in
`registry.py`; a user's own come in by the entry-point group `amuro_jax.analyses`, or by `register`.
"""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping

import pandas as pd

from amuro_jax.analyses.figures import FigureSpec
from amuro_jax.errors import AmuroError
from amuro_jax.results.results import Results

ENTRY_POINTS = "amuro_jax.analyses"


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One finding.

    Attributes:
        text: the finding with its uncertainty.
        clear: whether the rows can tell it from chance.
        effect: its size in units of its standard error, by which findings are ranked; 0 keeps it
            out of the first ones.
    """

    text: str
    clear: bool = True
    effect: float = 0.0


@dataclasses.dataclass(frozen=True)
class Analysis:
    """One question to a study's results.

    Attributes:
        name: of the table's CSV file, and of the section in the page.
        title: of the section.
        table: the numbers, from the results and the other analyses' tables (by name, on demand).
        columns: what each column means (the data dictionary); columns of other names are formats or
            sets.
        question: heading under which its findings are listed.
        figure: what to draw, or None where there is nothing to draw.
        caption: what figure and table show, and how to read them.
        sentences: the findings.
        shown: the columns of the page's table and how they are headed, from the table; None: the
            table is in the CSV file only.
        note: how to read the page's table.
        across: whether the table is over every series of the store (`Results.measurements`,
            `Results.suites`), and not of one.
    """

    name: str
    title: str
    table: Callable[[Results, "Tables"], pd.DataFrame]
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    question: str = ""
    figure: Callable[[Results, "Tables"], FigureSpec | None] | None = None
    caption: str = ""
    sentences: Callable[[Results, "Tables"], Iterable[Sentence]] | None = None
    shown: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    note: str = ""
    across: bool = False


class Tables(Mapping):
    """The tables of some analyses on one study, each made when it is first asked for.

    Raises:
        AmuroError: two analyses need each other, or a table that nobody makes is asked for.
    """

    def __init__(self, results: Results, analyses: Iterable[Analysis]):
        self.results = results
        self.analyses = {analysis.name: analysis for analysis in analyses}
        self._made: dict[str, pd.DataFrame] = {}
        self._making: list[str] = []
        self._others: dict[str, Tables] = {}  # of the store's other series

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name):
        if name not in self.analyses:
            raise AmuroError(
                f"no analysis {name!r}",
                where="analyses",
                hint="one of " + ", ".join(self.analyses),
            )
        if name in self._making:
            cycle = " → ".join([*self._making, name])
            raise AmuroError(f"analyses need each other: {cycle}", where="analyses")
        self._making.append(name)
        try:
            table = self.analyses[name].table(self.results, self)
        finally:
            self._making.pop()
        # Nothing to say is a table with the columns of its dictionary and no line.
        return (
            table if len(table.columns) else pd.DataFrame(columns=list(self.analyses[name].columns))
        )

    def across(self, name: str) -> pd.DataFrame:
        """The table over every series of the store; a column `suite` where there are several."""
        suites = self.results.suites
        if len(suites) < 2 or self.analyses[name].across:
            return self[name]
        tables = {suite: self._of(suite)[name] for suite in suites}
        labelled = [table.assign(suite=suite) for suite, table in tables.items() if len(table)]
        if not labelled:
            return self[name].assign(suite=None)
        joined = pd.concat(labelled, ignore_index=True)
        return joined[["suite", *(column for column in joined.columns if column != "suite")]]

    def _of(self, suite):
        if suite == self.results.suite:
            return self
        if suite not in self._others:
            self._others[suite] = Tables(self.results.suites[suite], self.analyses.values())
        return self._others[suite]

    def __iter__(self) -> Iterator[str]:
        return iter(self.analyses)

    def __len__(self) -> int:
        return len(self.analyses)


_registered: dict[str, Analysis] = {}


def register(analysis: Analysis) -> Analysis:
    """Adds an analysis to every report of this process; one of the same name is replaced."""
    _registered[analysis.name] = analysis
    return analysis


def analysis(name: str, title: str, **fields) -> Callable:
    """Decorator: makes an `Analysis` of a table function and registers it.

    `fields` are those of `Analysis`. The function takes the results and the tables, and returns a
    table.
    """

    def decorate(table):
        return register(Analysis(name, title, table, **fields))

    return decorate


def installed_analyses() -> list[Analysis]:
    """Analyses of other packages (entry points) and those registered in this process.

    Raises:
        AmuroError: an entry point cannot be loaded, or is no analysis.
    """
    analyses = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except Exception as error:
            raise AmuroError(
                f"cannot be loaded: {type(error).__name__}: {error}",
                where=f"entry point {point.name} = {point.value}",
                hint="fix or uninstall the package that declares it",
            ) from error
        if not isinstance(loaded, Analysis):
            raise AmuroError(
                f"is a {type(loaded).__name__}, not an amuro_jax.analyses.Analysis",
                where=f"entry point {point.name} = {point.value}",
            )
        analyses[loaded.name] = loaded
    return list((analyses | _registered).values())
