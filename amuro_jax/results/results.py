"""What a study has found so far: its finished cells beside those it wants, and bootstrap draws that
pair every comparison. No jax.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from amuro_jax.data import protocols
from amuro_jax.errors import AmuroError
from amuro_jax.evals.statistics import bootstrap_means
from amuro_jax.results import plan
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage

WANTED = (
    "checkpoint",
    "step",
    "tokens",
    "tuned_on",
    "task",
    "role",
    "format",
    "shots",
    "of",
    "group",
    "key",
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap standard error and 95 % percentile interval.

    NaN throughout where it is not defined.
    """

    value: float
    stderr: float
    low: float
    high: float
    p: float = np.nan  # two-sided, that the statistic is zero: twice the share of draws beyond it

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


NOTHING = Estimate(np.nan, np.nan, np.nan, np.nan)
TWICE_IN_PUBLISHED_MEANS = "sciq_choice"  # quirk 19


@dataclasses.dataclass
class Results:
    """Finished cells of one study.

    Attributes:
        name: of the study.
        checkpoints: names, in the order of training.
        cells: one line per finished cell that the study wants, columns of `store.COLUMNS` and of,
            group.
        missing: one line per cell that is wanted and not finished: WANTED and `why`.
        main: per set the format and number of shots of the main view (the first the study names).
        draws: per cell key the bootstrap means [R]; cells of one set are resampled together, so
            that differences are paired.
        duplicate_of: checkpoint → the latest checkpoint that serves the same weights.
        published_averages: whether means over sets repeat quirk 19 (SciQ counts twice).
        scores: a cell's scores by row, from its key; None where there are no rows (imported
            results).
    """

    name: str
    checkpoints: list[str]
    cells: pd.DataFrame
    missing: pd.DataFrame
    main: dict[str, tuple[str, int]]
    draws: Mapping[str, np.ndarray]
    duplicate_of: dict[str, str] = dataclasses.field(default_factory=dict)
    published_averages: bool = False
    scores: Callable[[str], pd.Series] | None = None

    @property
    def distinct(self) -> list[str]:
        """The checkpoints, those left out whose weights a later one serves again."""
        return [name for name in self.checkpoints if name not in self.duplicate_of]

    def weight(self, task: str) -> int:
        """How often a set counts in a mean over sets."""
        return 2 if self.published_averages and task == TWICE_IN_PUBLISHED_MEANS else 1

    @functools.cached_property
    def _at(self):
        columns = ["checkpoint", "tuned_on", "task", "format", "shots"]
        return dict(
            zip(
                self.cells[columns].itertuples(index=False, name=None),
                range(len(self.cells)),
                strict=True,
            )
        )

    @functools.cached_property
    def _records(self) -> list[dict]:
        return self.cells.to_dict("records")

    def find(
        self, checkpoint: str, tuned_on: str, task: str, format: str = "", shots: int | None = None
    ) -> dict | None:
        """The finished cell by column, in the set's main view where no format is given.

        None where it is missing.
        """
        usual = self.main[task]
        place = self._at.get(
            (checkpoint, tuned_on, task, format or usual[0], usual[1] if shots is None else shots)
        )
        return None if place is None else self._records[place]

    def estimate(self, statistic, cells: list) -> Estimate:
        """`statistic` of the cells' scores, a function of arrays [..., cells].

        Its uncertainty from their paired draws.
        """
        if any(cell is None for cell in cells) or not cells:
            return NOTHING
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(statistic(np.asarray([cell["value"] for cell in cells], np.float64)))
            draws = np.asarray(
                statistic(np.stack([self.draws[cell["key"]] for cell in cells], axis=-1))
            )
        return estimate_from_draws(value, draws)

    @functools.cached_property
    def _sets(self) -> dict[str, dict]:
        base = self._plan[self._plan["tuned_on"] == ""]
        return {task: base[base["task"] == task].iloc[0].to_dict() for task in self.main}

    @functools.cached_property
    def _plan(self):
        columns = [name for name in WANTED if name != "key"]
        return pd.concat([self.cells[columns], self.missing[columns]], ignore_index=True)

    def tasks(self, *roles: str) -> list[str]:
        """Sets of these roles (as base models meet them), in the study's order.

        Without roles, all.
        """
        return [task for task, about in self._sets.items() if not roles or about["role"] in roles]

    def role(self, task: str) -> str:
        """in_domain | out_of_domain | multiple_choice."""
        return self._sets[task]["role"]

    def group(self, task: str) -> str:
        """Where the configuration says that the set is learned: pre_training, fine_tuning or "" for
        "find out".
        """
        return self._sets[task]["group"]

    def tuned_on(self, task: str) -> list[str]:
        """The fine-tuning sets whose models this set belongs to (its own task's).

        All of them where it belongs to none.
        """
        owners = self._sets[task]["of"]
        return [name for name in self.fine_tuning_sets() if not owners or name in owners]

    def formats(self, task: str) -> list[str]:
        """Formats in which the study asks for the set, main one first."""
        asked = self._plan[(self._plan["task"] == task) & (self._plan["tuned_on"] == "")][
            "format"
        ].unique()
        return sorted(asked, key=lambda name: (name != self.main[task][0], name))

    def common_view(self, *tasks: str) -> tuple[str, int] | None:
        """The first format and number of shots that the study asks for with each of the sets; the
        first set's order decides. None where they have none in common.
        """
        views = [self._views(task) for task in tasks]
        return next((view for view in views[0] if all(view in others for others in views)), None)

    def _views(self, task):
        base = self._plan[(self._plan["task"] == task) & (self._plan["tuned_on"] == "")]
        views = base[["format", "shots"]].drop_duplicates().itertuples(index=False, name=None)
        return sorted(views, key=lambda view: view != self.main[task])

    def fine_tuning_sets(self) -> list[str]:
        """Fine-tuning sets, in the study's order."""
        met = self._plan["tuned_on"].unique()
        return sorted(
            (name for name in met if name),
            key=lambda name: (
                list(self.main).index(name) if name in self.main else len(self.main),
                name,
            ),
        )


def estimate_from_draws(value: float, draws: np.ndarray) -> Estimate:
    """An estimate from its value and draws [R].

    Undefined where a draw is (a base score of zero under a ratio).
    """
    if not np.isfinite(value) or not np.isfinite(draws).all():
        return dataclasses.replace(NOTHING, value=value if np.isfinite(value) else np.nan)
    low, high = np.quantile(draws, [0.025, 0.975])
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    return Estimate(value, float(draws.std(ddof=1)), float(low), float(high), float(p))


MEASURED = (
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
    "weights",
)


def load(workdir, resamples: int = 3000) -> Results:
    """Reads a study folder. A cell that is damaged counts as missing, with the reason.

    Raises:
        AmuroError: no study there, or no finished cell.
    """
    storage = Storage.open(workdir)
    asked, store = plan.read_plan(storage), Store(storage)
    if asked is None:
        raise AmuroError(
            "no study here",
            where=storage.where(plan.PLAN),
            hint="run `amuro study` with this workdir first",
        )
    wanted = pd.DataFrame(map(_wanted, asked.cells), columns=list(WANTED))
    measured, scores, damaged = _read_cells(store, wanted["key"].dropna().unique())
    done = wanted["key"].isin(measured.index)
    if not done.any():
        raise AmuroError(
            "no cell of the study is finished yet",
            where=storage.where("cells"),
            hint="run `amuro study` with this workdir",
        )
    # Role, group and owner belong to the study, not to the cell: another study may have computed
    # it.
    cells = wanted[done].merge(measured, left_on="key", right_index=True, how="left")
    cells = cells.reset_index(drop=True)
    missing = wanted[~done].reset_index(drop=True)
    missing["why"] = _reasons(store, missing, damaged)
    main = {}
    for line in wanted.itertuples():
        main.setdefault(line.task, (line.format, line.shots))
    return Results(
        asked.name,
        list(asked.checkpoints),
        cells,
        missing,
        main,
        PairedDraws(cells.drop_duplicates("key"), scores.get, resamples),
        duplicates(list(asked.checkpoints), cells),
        protocols.published_averages(asked.config.scoring.protocol, asked.config.scoring.quirks),
        scores.__getitem__,
    )


def _wanted(cell):
    named = {name: getattr(cell, name) for name in ("task", "format", "shots", "of", "key")}
    words = {"role": str(cell.role), "group": str(cell.group or "")}
    return {**dataclasses.asdict(cell.model), **named, **words}


def _read_cells(store, keys):
    """The measured values by key, the scores by row, and why a cell cannot be read."""
    found = store.frame().rename(columns={"identity": "weights"}).set_index("key")
    scores, reasons = {}, {key: store.damaged[key] for key in keys if key in store.damaged}
    for key in found.index.intersection(keys):
        try:
            scores[key] = _scores(store.rows(key, ["row", "score"]))
        except AmuroError as error:
            reasons[key] = str(error).splitlines()[0]
    damaged = {
        key: f"damaged, run the study again to compute it: {reason}"
        for key, reason in reasons.items()
    }
    return found.loc[list(scores), list(MEASURED)], scores, damaged


def _scores(rows):
    return rows.set_index("row")["score"].sort_index()


def _reasons(store, missing, damaged):
    failed = {
        line["key"]: line.get("error", "") for line in store.read_log() if line["event"] == "failed"
    }
    return [
        (damaged.get(key) or failed.get(key) or "not computed yet").splitlines()[0]
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


class PairedDraws(Mapping):
    """Bootstrap means [R] per cell key, made at the first use of a cell of their set;
    `scores(key)` gives a cell's scores by row.

    Cells of the same set and the same rows are resampled with the same rows, so that any function
    of several cells is paired.
    """

    def __init__(self, cells: pd.DataFrame, scores, resamples: int):
        self._scores, self._resamples, self._made = scores, resamples, {}
        self._task = dict(zip(cells["key"], cells["task"], strict=True))
        self._keys = cells.groupby("task", sort=False)["key"].agg(list).to_dict()

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._made:
            self._make(self._task[key])
        return self._made[key]

    def __iter__(self):
        return iter(self._task)

    def __len__(self):
        return len(self._task)

    def _make(self, task):
        by_rows: dict[tuple, list] = {}
        for key in self._keys[task]:
            series = self._scores(key)
            by_rows.setdefault(tuple(series.index), []).append((key, series.to_numpy(np.float64)))
        for rows, members in by_rows.items():
            seed = int.from_bytes(hashlib.sha256(f"{task} {rows}".encode()).digest()[:8], "big")
            values = np.stack([values for _, values in members], axis=1)
            means = bootstrap_means(values, self._resamples, seed)
            self._made |= {key: means[:, place] for place, (key, _) in enumerate(members)}


def normal_draws(cells: pd.DataFrame, resamples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws for results without rows (published tables): normal around the value with its standard
    error, nothing paired.
    """
    rng = np.random.default_rng(seed)
    return {
        line.key: rng.normal(line.value, line.stderr or 0.0, resamples)
        for line in cells.itertuples()
    }
