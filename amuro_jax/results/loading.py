"""Reads a store's finished cells as results: the study's series, and imported ones. No jax."""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from amuro_jax.config import Role
from amuro_jax.data import protocols
from amuro_jax.errors import AmuroError
from amuro_jax.results import plan, pooled
from amuro_jax.results.draws import PairedDraws
from amuro_jax.results.parts import Parts
from amuro_jax.results.probes import probes_of
from amuro_jax.results.rates import rates_of
from amuro_jax.results.results import WANTED, Results
from amuro_jax.results.store import Store
from amuro_jax.results.tunings import tunings_of
from amuro_jax.storage import Storage
from amuro_jax.variants import noise_of

MEASURED = (
    "suite",
    "protocol",
    "method",
    "metric",
    "value",
    "stderr",
    "low",
    "high",
    "n",
    "majority",
    "chance",
    "seconds",
    "imported",
    "weights",
)


def load(workdir, resamples: int = 3000, suite: str = "", *, check_rows: bool = False) -> Results:
    """Reads a store: the finished cells of its study, or all of them where there is no study.
    Imported scores are series of their own (`Results.suites`).

    Rows are read when an analysis needs them. A cell that is damaged counts as missing, with the
    reason.

    Args:
        suite: the series that the results are of; "": the study's, or the first one.
        check_rows: compares the rows of every cell with their checksum first, so that damaged ones
            are missing; else one raises a DataError when it is read.

    Raises:
        AmuroError: nothing finished there, or no such series.
    """
    storage = Storage.open(workdir)
    study_plan, store = plan.read_plan(storage), Store(storage)
    frame = store.frame().rename(columns={"identity": "weights"})
    damaged = store.verify() if check_rows else store.damaged
    frame = frame[~frame["key"].isin(damaged)]
    scores = _Scores(store, frame)
    loose = frame if study_plan is None else frame[frame["imported"].fillna("") != ""]
    suites = Suites(store)
    if study_plan is not None:
        name = study_plan.config.suite or study_plan.name
        suites.add(name, lambda: _planned(study_plan, store, frame, damaged, scores, resamples))
    by_suite = dict(iter(loose.groupby("suite", sort=False)))
    for name, lines in sorted(by_suite.items(), key=lambda item: _first_line(item[1])):
        name = f"{name} (imported)" if name in suites else name
        suites.add(name, functools.partial(_unplanned, name, lines, scores, resamples))
    chosen = _chosen(suites, suite, storage, study_plan)
    planned = frame[:0] if study_plan is None else frame[frame["key"].isin(_keys(study_plan))]
    suites.measurements = pd.concat([planned, loose], ignore_index=True) if study_plan else loose
    return chosen


def load_several(workdirs: Sequence[str]) -> Results:
    """Reads several stores as if one had the series of all: `load` of the first, whose
    `Results.suites` names the series of each. A name that several have gets the folder's beside it.

    Raises:
        AmuroError: nothing finished in one of them.
    """
    stores = {workdir: load(workdir) for workdir in dict.fromkeys(map(str, workdirs))}
    names = collections.Counter(name for one in stores.values() for name in one.suites)
    together, first, measured = Suites(next(iter(stores.values())).suites.store), "", []
    for workdir, loaded in stores.items():
        called = {
            name: f"{name} ({workdir})" if names[name] > 1 else name for name in loaded.suites
        }
        for name, label in called.items():
            together.add(label, functools.partial(loaded.suites.__getitem__, name))
        first = first or called[loaded.suite]
        known = loaded.measurements
        measured.append(known.assign(suite=known["suite"].replace(called)))
    together.measurements = pd.concat(measured, ignore_index=True)
    return together[first]


def _first_line(lines):
    """Series come in the order of their files."""
    return lines["imported"].fillna("").min(), lines["line"].fillna(0).min()


def _chosen(suites, suite, storage, planned):
    if suite and suite not in suites:
        hint = "series there: " + ", ".join(suites)
        raise AmuroError(f"no series {suite!r}", where=storage.url, hint=hint)
    if not suites:
        raise AmuroError(
            "no results here",
            where=storage.where(plan.PLAN),
            hint="run `amuro study` or `amuro import` with this workdir first",
        )
    chosen = suites[suite or next(iter(suites))]
    if planned is not None and chosen.cells.empty:
        raise AmuroError(
            "no cell of the study is finished yet",
            where=storage.where("cells"),
            hint="run `amuro study` with this workdir",
        )
    return chosen


class Suites(Mapping):
    """The series of a store, each made when it is first asked for: name → `Results`.

    Attributes:
        store: where they are.
        measurements: see `Results.measurements`.
    """

    def __init__(self, store: Store):
        self.store = store
        self._makers: dict[str, Callable[[], Results]] = {}
        self._made: dict[str, Results] = {}
        self.measurements: pd.DataFrame | None = None

    def add(self, name: str, make: Callable[[], Results]) -> None:
        """Adds a series."""
        self._makers[name] = make

    def __getitem__(self, name: str) -> Results:
        if name not in self._made:
            built = self._makers[name]()
            self._made[name] = dataclasses.replace(built, suite=name, suites=self)
        return self._made[name]

    def __iter__(self):
        return iter(self._makers)

    def __len__(self):
        return len(self._makers)


class _Scores:
    """Scores by row of the cells of a store, from their key; None for a cell without rows."""

    MOST_BYTES = 1 << 28  # of scores that are kept: row numbers and values

    def __init__(self, store, frame):
        self._store, self._made, self._bytes = store, collections.OrderedDict(), 0
        with_rows = frame.dropna(subset=["rows_sha256"])
        self._sha256 = dict(zip(with_rows["key"], with_rows["rows_sha256"], strict=True))

    def __call__(self, key: str) -> pd.Series | None:
        if key not in self._sha256:
            return None
        if key not in self._made:
            made = self._made[key] = self._store.scores(key, self._sha256[key])
            self._bytes += made.memory_usage()
            while self._bytes > self.MOST_BYTES and len(self._made) > 1:
                self._bytes -= self._made.popitem(last=False)[1].memory_usage()
        return self._made[key]

    def rows(self, key: str, columns: Sequence[str] = ()) -> pd.DataFrame | None:
        """All columns of a cell's rows, or those of some that it has; None for a cell without rows.
        They are not kept.
        """
        if key not in self._sha256:
            return None
        table = self._store.rows_table(key)
        known = [name for name in columns or table.column_names if name in table.column_names]
        return table.select(known).to_pandas()


def _keys(planned):
    return [cell.key for cell in planned.cells if cell.key]


def _planned(planned, store, frame, damaged, scores, resamples):
    """The study's cells; role, group and owner belong to the study, not to the cell: another study
    may have computed it.
    """
    wanted_cells = pd.DataFrame(map(_wanted, planned.cells), columns=list(WANTED))
    measured = frame.set_index("key")[list(MEASURED)]
    done = wanted_cells["key"].isin(measured.index)
    cells = wanted_cells[done].merge(measured, left_on="key", right_index=True, how="left")
    noisy = cells["variant"].map(noise_of).notna()
    every, noise = cells[~noisy].reset_index(drop=True), cells[noisy].reset_index(drop=True)
    variants = pooled.over_seeds(every)
    first = pooled.first_variants(wanted_cells)
    cells = variants[variants["variant"] == variants["tuned_on"].map(first)].reset_index(drop=True)
    missing = wanted_cells[~done].reset_index(drop=True)
    missing["why"] = _reasons(store, missing, damaged)
    scores_of = functools.partial(pooled.mean_scores, scores)
    main = {}
    for line in wanted_cells.itertuples():
        main.setdefault(line.task, (line.format, line.shots))
    return Results(
        planned.name,
        list(planned.checkpoints),
        cells,
        missing,
        main,
        PairedDraws(pd.concat([variants, noise]).drop_duplicates("key"), scores_of, resamples),
        duplicates(list(planned.checkpoints), cells),
        protocols.published_averages(
            planned.config.scoring.protocol, planned.config.scoring.quirks
        ),
        scores_of,
        lambda key, columns=(): scores.rows(pooled.members(key)[0], columns),
        variants=variants,
        every=every,
        noise=noise,
        rates=functools.partial(rates_of, store, planned.config),
        probes=functools.partial(probes_of, store, planned.config),
        tunings=functools.partial(tunings_of, store),
    )


# Metrics of which less is better. Analyses are of scores; these are in `measurements` alone.
LESS_IS_BETTER = re.compile(r"loss|ppl|perplexity|bpb|bits_per_byte|brier|nll", re.IGNORECASE)
FIRST_METRICS = ("accuracy", "rougeL", "exact_number")  # of a set with several, the headline
GRID_SHARE = 0.75  # a score that so many checkpoints have is missing where another lacks it


def _unplanned(name, lines, scores, resamples):
    """A series without a plan: its headline scores, and what is missing from their grid."""
    lines = _headline(_one_protocol(lines))
    lines = lines.assign(
        of=[tuple(filter(None, of.split(","))) for of in lines["of"].fillna("")],
        role=lines["role"].fillna(str(Role.IN_DOMAIN)),
        group=lines["group"].fillna(""),
    )
    cells = lines[[*WANTED, *(column for column in MEASURED)]].reset_index(drop=True)
    order = cells.drop_duplicates("checkpoint")
    by = "tokens" if order["tokens"].notna().all() else "step"
    checkpoints = list(order.sort_values([by, "step"], na_position="last")["checkpoint"])
    views = cells.groupby(["task", "format", "shots"], sort=False).size().reset_index(name="count")
    views = views.assign(usual=views["format"] == "default")
    views = views.sort_values(["count", "usual"], ascending=False, kind="stable")
    main = {line.task: (line.format, line.shots) for line in views[::-1].itertuples()}
    return Results(
        name,
        checkpoints,
        cells,
        _holes(cells, checkpoints),
        {task: main[task] for task in dict.fromkeys(cells["task"])},
        PairedDraws(cells, scores, resamples),
        duplicates(checkpoints, cells),
        scores=scores,
        rows=scores.rows,
    )


def _one_protocol(lines):
    """The lines of each set under one protocol, where it was scored under several: strict, else
    that of most lines. The others are in `measurements`.
    """
    named = lines["protocol"].fillna("")
    if named.nunique() < 2:
        return lines
    counts = named.groupby([lines["task"], named], sort=False).size()
    by_task = {
        task: "strict" if (task, "strict") in counts.index else counts[task].idxmax()
        for task in lines["task"].unique()
    }
    return lines[named == lines["task"].map(by_task)]


def _headline(lines):
    """The lines of one metric per set: more must be better; the usual ones first."""
    metrics = lines[["task", "metric"]].drop_duplicates()
    metrics = metrics[~metrics["metric"].str.contains(LESS_IS_BETTER)]
    rank = metrics["metric"].map({name: index for index, name in enumerate(FIRST_METRICS)})
    first = metrics.assign(rank=rank.fillna(len(FIRST_METRICS)))
    first = first.sort_values("rank", kind="stable").drop_duplicates("task")
    return lines.merge(first[["task", "metric"]], on=["task", "metric"])


def _holes(cells, checkpoints):
    """What the grid of a series lacks: scores that most checkpoints have and one has not."""
    parts, lost = ["tuned_on", "variant", "task", "format", "shots"], []
    info = cells.drop_duplicates("checkpoint").set_index("checkpoint")[["step", "tokens"]]
    for _, group in cells.groupby(parts, sort=False):
        absent = set(checkpoints) - set(group["checkpoint"])
        if absent and len(group) >= GRID_SHARE * len(checkpoints):
            for checkpoint in (name for name in checkpoints if name in absent):
                line = info.loc[checkpoint]
                where = {"checkpoint": checkpoint, "step": line["step"], "tokens": line["tokens"]}
                lost.append(group.iloc[0][list(WANTED)].to_dict() | where | {"key": None})
    missing = pd.DataFrame(lost, columns=list(WANTED))
    return missing.assign(why="not in the imported results")


def _wanted(cell):
    named = {name: getattr(cell, name) for name in ("task", "format", "shots", "of", "key")}
    words = {"role": str(cell.role), "group": str(cell.group or "")}
    return {**dataclasses.asdict(cell.model), **named, **words}


def _reasons(store, missing, damaged):
    failed = {
        line["key"]: line.get("error", "") for line in store.read_log() if line["event"] == "failed"
    }
    again = "damaged, run the study again to compute it: "
    parts = {
        key: f"{count:,} of {total:,} rows scored"
        for key, (count, total) in Parts(store.storage).counts().items()
    }
    return [
        (
            again + damaged[key]
            if key in damaged
            else failed.get(key) or parts.get(key) or "not computed yet"
        )
        .strip()
        .splitlines()[0]
        for key in missing["key"].fillna("")
    ]


def duplicates(checkpoints: list[str], cells: pd.DataFrame) -> dict[str, str]:
    """Checkpoint → the latest checkpoint with the same weights, for those that have one later.

    The latest is kept because series repeat final weights under early names, not the other way.
    """
    base = cells[cells["tuned_on"] == ""].dropna(subset=["weights"])
    weights = base.drop_duplicates("checkpoint").set_index("checkpoint")["weights"].to_dict()
    latest = {weights[name]: name for name in checkpoints if name in weights}
    return {
        name: latest[weights[name]]
        for name in checkpoints
        if name in weights and latest[weights[name]] != name
    }
