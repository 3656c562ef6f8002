"""What a study has found so far: its finished cells beside those it wants, and bootstrap draws that
pair every comparison. No jax.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from amuro_jax.results.estimate import NOTHING, Estimate, estimate_from_draws

WANTED = (
    "checkpoint",
    "step",
    "tokens",
    "tuned_on",
    "variant",
    "seed",
    "task",
    "role",
    "format",
    "shots",
    "of",
    "group",
    "key",
)

TWICE_IN_PUBLISHED_MEANS = "sciq_choice"  # quirk 19


@dataclasses.dataclass
class Results:
    """Finished cells of one series of checkpoints: a study's, or an imported one.

    Attributes:
        name: of the study or series.
        checkpoints: names, in the order of training.
        cells: one line per finished cell that the study wants, columns of `store.COLUMNS` and of,
            group; of a set that is tuned on in several ways the first one, and a mean over seeds as
            one cell (`pooled.over_seeds`).
        missing: one line per cell that is wanted and not finished: WANTED and `why`.
        main: per set the format and number of shots of the main view (the first the study names).
        draws: per cell key the bootstrap means [R]; cells of one set are resampled together, so
            that differences are paired.
        duplicate_of: checkpoint → the latest checkpoint that serves the same weights.
        published_averages: whether means over sets repeat quirk 19 (SciQ counts twice).
        scores: a cell's scores by row, from its key; gives None for a cell without rows (imported
            results).
        rows: a cell's rows, from its key and, if some alone are wanted, columns; likewise. Of a
            mean over seeds those of the first seed.
        suite: name of the series.
        suites: every series of the store by name, this one too; empty: this is the only one.
        variants: `cells` with the other ways in which sets are tuned on; None: there are no others.
        every: every stored cell by itself, each seed too; None: they are `cells`.
        noise: base models with noise on their weights (`variants.noise_of`), in no other table;
            None: the study has none.
        probes: gives what probes of the base models measured (`probes.probes_of`).
        rates: gives the trainings among which a learning rate was chosen (`rates.rates_of`).
        tunings: gives rate and steps of each way of tuning (`tunings.tunings_of`).
        derived: what analyses keep for each other, by name.
    """

    name: str
    checkpoints: list[str]
    cells: pd.DataFrame
    missing: pd.DataFrame
    main: dict[str, tuple[str, int]]
    draws: Mapping[str, np.ndarray]
    duplicate_of: dict[str, str] = dataclasses.field(default_factory=dict)
    published_averages: bool = False
    scores: Callable[[str], pd.Series | None] = lambda key: None
    rows: Callable[..., pd.DataFrame | None] = lambda key, columns=(): None
    suite: str = ""
    suites: Mapping[str, "Results"] = dataclasses.field(default_factory=dict)
    variants: pd.DataFrame | None = None
    every: pd.DataFrame | None = None
    noise: pd.DataFrame | None = None
    rates: Callable[[], pd.DataFrame] = pd.DataFrame
    probes: Callable[[], pd.DataFrame] = pd.DataFrame
    tunings: Callable[[], pd.DataFrame] = pd.DataFrame
    derived: dict[str, object] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def measurements(self) -> pd.DataFrame:
        """Every score of the store, all series and metrics, imported ones too: a line each, columns
        of `index.COLUMNS` (the weights' identity as `weights`). `cells` has this series' headline
        metric of each set alone.
        """
        return self.cells if not self.suites else self.suites.measurements

    @property
    def distinct(self) -> list[str]:
        """The checkpoints, those left out whose weights a later one serves again."""
        return [name for name in self.checkpoints if name not in self.duplicate_of]

    def weight(self, task: str) -> int:
        """How often a set counts in a mean over sets."""
        return 2 if self.published_averages and task == TWICE_IN_PUBLISHED_MEANS else 1

    @functools.cached_property
    def _at(self):
        """The cells in every way of tuning, by what they are scores of."""
        cells = self.cells if self.variants is None else self.variants
        columns = ["checkpoint", "tuned_on", "task", "format", "shots", "variant"]
        keys = cells[columns].itertuples(index=False, name=None)
        return dict(zip(keys, cells.to_dict("records"), strict=True))

    @functools.cached_property
    def _usual_variants(self):
        """Fine-tuning set → the way of tuning that stands for it; "" where one has no name."""
        unnamed = self.cells["variant"] == ""
        first = pd.concat([self.cells[unnamed], self.cells]).drop_duplicates("tuned_on")
        return dict(zip(first["tuned_on"], first["variant"], strict=True))

    def find(
        self,
        checkpoint: str,
        tuned_on: str,
        task: str,
        format: str = "",
        shots: int | None = None,
        variant: str | None = None,
    ) -> dict | None:
        """The finished cell by column, in the set's main view where no format is given, of the
        first way of tuning where no variant is.

        None where it is missing.
        """
        usual = self.main[task]
        if variant is None:
            variant = self._usual_variants.get(tuned_on, "")
        place = (format or usual[0], usual[1] if shots is None else shots, variant)
        return self._at.get((checkpoint, tuned_on, task, *place))

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
        base_first = self._plan.assign(tuned=self._plan["tuned_on"] != "")
        first = base_first.sort_values("tuned", kind="stable").drop_duplicates("task")
        sets = {line["task"]: line for line in first.to_dict("records")}
        return {task: sets[task] for task in self.main}

    @functools.cached_property
    def _plan(self):
        columns = [name for name in WANTED if name != "key" and name in self.cells]
        return pd.concat([self.cells[columns], self.missing[columns]], ignore_index=True)

    def tasks(self, *roles: str) -> list[str]:
        """Sets of these roles (as base models meet them), in the study's order.

        Without roles, all.
        """
        return [task for task, info in self._sets.items() if not roles or info["role"] in roles]

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
        planned = self._plan[(self._plan["task"] == task) & (self._plan["tuned_on"] == "")][
            "format"
        ].unique()
        return sorted(planned, key=lambda name: (name != self.main[task][0], name))

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
        return list(self._fine_tuning_sets)

    @functools.cached_property
    def _fine_tuning_sets(self):
        met = self._plan["tuned_on"].unique()
        return sorted(
            (name for name in met if name),
            key=lambda name: (
                list(self.main).index(name) if name in self.main else len(self.main),
                name,
            ),
        )
