"""The study's analyses (paper.md, "Analyses") on the tidy frame of finished cells. Every mean has its standard error; gaps are named.

Frames have the columns of `store.COLUMNS`. Differences between a fine-tuned model and its base are taken row by row where both were scored on
the same rows; their standard errors are those of the paired bootstrap.
"""

import dataclasses

import numpy as np
import pandas as pd

from amuro_jax.config import StudyConfig, from_dict
from amuro_jax.convert.revisions import Revision
from amuro_jax.data.registry import get_task
from amuro_jax.errors import DataError
from amuro_jax.evals.statistics import holm, paired
from amuro_jax.study import plan, store

RESAMPLES = 1000
SMALL = 1e-6  # a base score below it has no relative change


@dataclasses.dataclass(frozen=True)
class Results:
    """What a study folder holds.

    Attributes:
        workdir: the folder.
        config: the study as last run.
        cells: tidy frame of finished score cells of this configuration.
        missing: labels of cells that the configuration asks for and that are not there.
    """

    workdir: str
    config: StudyConfig
    cells: pd.DataFrame
    missing: list[str]

    def formats(self) -> list[str]:
        """Formats that were scored, the study's first one first."""
        order = self.config.formats.split(",")
        return sorted(self.cells["format"].unique(), key=lambda name: (order.index(name) if name in order else len(order), name))

    def main(self) -> pd.DataFrame:
        """Cells in the study's first format and number of shots."""
        first = int(self.config.shots.split(",")[0])
        return self.cells[(self.cells["format"] == self.formats()[0]) & (self.cells["shots"] == first)]


def load(workdir) -> Results:
    """Reads a study folder.

    Raises:
        DataError: no finished cell.
    """
    from amuro_jax import files

    saved = files.read_json(f"{workdir}/study.json")
    config = from_dict(StudyConfig, saved["config"])
    cells = store.frame(workdir)
    if cells.empty:
        raise DataError("no finished cells", where=workdir, hint="run the study first: amuro study")
    expected = _expected(config, [Revision(**values) for values in saved["revisions"]])
    names = list(zip(cells["checkpoint"], cells["tuned_on"], cells["task"], cells["format"], cells["shots"], strict=True))
    kept = cells[[name in expected for name in names]]
    kept = kept.drop_duplicates(["checkpoint", "tuned_on", "task", "format", "shots"], keep="last").reset_index(drop=True)
    missing = [label for name, label in expected.items() if name not in set(names)]
    return Results(str(workdir), config, kept, missing)


def _expected(config, revisions):
    return {
        (model.revision, model.tuned_on, spec.task, spec.format, spec.shots): f"{model.label()}: {spec.label()}"
        for model in plan.models_of(config, revisions)
        for spec in plan.specs_of(config, model)
    }


def base_curves(results: Results) -> pd.DataFrame:
    """Base score of every set by checkpoint, with interval and baselines."""
    base = results.main()[results.main()["tuned_on"] == ""]
    return base[["task", "role", "checkpoint", "step", "tokens", "metric", "value", "stderr", "low", "high", "n", "majority", "chance"]]


def changes(results: Results) -> pd.DataFrame:
    """Fine-tuned minus base on the same rows, per checkpoint, fine-tuning set, test set, format; columns base, tuned, change, stderr, p."""
    cells, lines = results.cells, []
    bases = {(c.checkpoint, c.task, c.format, c.shots): c for c in cells[cells["tuned_on"] == ""].itertuples()}
    scores = _Scores(results.workdir)
    for tuned in cells[cells["tuned_on"] != ""].itertuples():
        base = bases.get((tuned.checkpoint, tuned.task, tuned.format, tuned.shots))
        if base is None:
            continue
        found = paired(*scores.common(base.key, tuned.key), RESAMPLES)
        lines.append(
            {
                "checkpoint": tuned.checkpoint, "step": tuned.step, "tokens": tuned.tokens, "tuned_on": tuned.tuned_on, "task": tuned.task,
                "role": tuned.role, "format": tuned.format, "shots": tuned.shots, "base": base.value, "tuned": tuned.value,
                "change": found.difference, "stderr": found.stderr, "low": found.low, "high": found.high, "n": found.n,
                "p": found.p_mcnemar if found.p_mcnemar is not None else found.p_bootstrap,
            }
        )  # fmt: skip
    table = pd.DataFrame(lines)
    if len(table):
        table["p_holm"] = holm(table["p"])
        table["relative"] = np.where(table["base"] > SMALL, table["change"] / table["base"].clip(lower=SMALL), np.nan)
        table["relative_stderr"] = np.where(table["base"] > SMALL, table["stderr"] / table["base"].clip(lower=SMALL), np.nan)
    return table


class _Scores:
    """Per-row scores of cells, read once."""

    def __init__(self, workdir):
        self._workdir, self._kept = workdir, {}

    def common(self, first: str, second: str):
        tables = [self._of(key) for key in (first, second)]
        rows = tables[0].index.intersection(tables[1].index)
        return [table.loc[rows].to_numpy() for table in tables]

    def _of(self, key):
        if key not in self._kept:
            rows = store.read_rows(self._workdir, key)
            self._kept[key] = rows.set_index("row")["score"].astype(float)
        return self._kept[key]


def learned_in_pretraining(results: Results) -> pd.DataFrame:
    """Which sets the base model learns in pre-training: by test, not by list.

    A set counts as learned when the last checkpoint's interval lies above both the first checkpoint's score and the baseline (majority class,
    or chance where it is higher; for generation the score of another row's reference).
    """
    lines = []
    for name, points in base_curves(results).groupby("task", sort=False):
        points = points.sort_values("step")
        first, last = points.iloc[0], points.iloc[-1]
        bars = [value for value in (last["majority"], last["chance"]) if value is not None and not pd.isna(value)]
        bar = max(bars, default=0.0)
        lines.append(
            {
                "task": name, "role": last["role"], "first": first["value"], "last": last["value"], "stderr": last["stderr"],
                "low": last["low"], "baseline": bar, "learned": bool(last["low"] > bar and last["low"] > first["value"]),
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def group_gains(results: Results, table: pd.DataFrame, learned: pd.DataFrame) -> pd.DataFrame:
    """Mean change by checkpoint over the sets learned in pre-training, and over those never learned there (Table 6's question).

    In-domain sets count after fine-tuning on their own set; multiple choice after each fine-tuning. Sets weigh the same.
    """
    known = dict(zip(learned["task"], learned["learned"], strict=True))
    own = table[table["role"].isin(["in_domain", "multiple_choice"]) & _is_main(results, table)]
    lines = []
    for flag, label in ((True, "learned in pre-training"), (False, "not learned in pre-training")):
        part = own[own["task"].map(known).eq(flag)]
        for (checkpoint, step), points in part.groupby(["checkpoint", "step"]):
            by_set = [(group["change"].mean(), _mean_error(group["stderr"])) for _, group in points.groupby("task")]
            means, errors = np.array(by_set).T
            line = {"group": label, "checkpoint": checkpoint, "step": step, "sets": len(by_set)}
            lines.append({**line, "change": means.mean(), "stderr": _mean_error(errors)})
    return pd.DataFrame(lines, columns=["group", "checkpoint", "step", "sets", "change", "stderr"]).sort_values(["group", "step"], ignore_index=True)


def _mean_error(errors):
    errors = np.asarray(errors, float)
    return float(np.sqrt((errors**2).sum()) / len(errors))


def _is_main(results, table):
    return (table["format"] == results.formats()[0]) & (table["shots"] == int(results.config.shots.split(",")[0]))


def out_of_domain(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Mean relative change of in-domain and out-of-domain sets over checkpoints, by fine-tuning set (analysis 3)."""
    part = table[table["role"].isin(["in_domain", "out_of_domain"]) & _is_main(results, table)]
    lines = []
    for (tuned_on, role, name), points in part.groupby(["tuned_on", "role", "task"], sort=False):
        lines.append({"tuned_on": tuned_on, "role": role, "task": name, **_relative(points)})
    return pd.DataFrame(lines)


def _relative(points):
    usable = points.dropna(subset=["relative"])
    left = sorted(set(points["checkpoint"]) - set(usable["checkpoint"]))
    if usable.empty:
        return {"relative": np.nan, "stderr": np.nan, "change": points["change"].mean(), "checkpoints": 0, "left_out": ", ".join(left)}
    mean, error = usable["relative"].mean(), _mean_error(usable["relative_stderr"])
    return {"relative": mean, "stderr": error, "change": points["change"].mean(), "checkpoints": len(usable), "left_out": ", ".join(left)}


def transfer(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Task transfer: mean absolute and relative change of every in-domain set after fine-tuning on each set, over checkpoints (analysis 4)."""
    part = table[table["role"].isin(["in_domain", "cross_task"]) & _is_main(results, table)]
    lines = []
    for (tuned_on, name), points in part.groupby(["tuned_on", "task"], sort=False):
        lines.append({"tuned_on": tuned_on, "task": name, **_relative(points), "change_stderr": _mean_error(points["stderr"])})
    return pd.DataFrame(lines)


def pooled_transfer(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Mean ratio of change pooled by kind: fine-tuned on one kind of task, tested on the other tasks' sets of each kind."""
    part = table[table["role"].eq("cross_task") & _is_main(results, table)]
    if part.empty:
        return pd.DataFrame(columns=["direction", "relative", "stderr", "change", "checkpoints", "left_out"])
    kinds = part["tuned_on"].map(lambda name: get_task(name).kind) + " → " + part["task"].map(lambda name: get_task(name).kind)
    return pd.DataFrame([{"direction": direction, **_relative(points)} for direction, points in part.groupby(kinds)])


def format_spread(results: Results) -> pd.DataFrame:
    """Sensitivity to the prompt: largest minus smallest score over formats, by model, set and checkpoint; with the formats' scores."""
    cells = results.cells[results.cells["role"].eq("in_domain")]
    lines = []
    for (checkpoint, step, tuned_on, name), points in cells.groupby(["checkpoint", "step", "tuned_on", "task"]):
        if points["format"].nunique() < 2:
            continue
        spread = points["value"].max() - points["value"].min()
        ends = points.loc[[points["value"].idxmax(), points["value"].idxmin()], "stderr"]
        line = {"checkpoint": checkpoint, "step": step, "tuned_on": tuned_on, "task": name, "spread": spread}
        lines.append({**line, "stderr": float(np.sqrt((ends**2).sum())), **dict(zip(points["format"], points["value"], strict=True))})
    columns = ["checkpoint", "step", "tuned_on", "task", "spread", "stderr"]
    return pd.DataFrame(lines, columns=None if lines else columns).sort_values(["task", "tuned_on", "step"], ignore_index=True)


def overview(results: Results) -> pd.DataFrame:
    """Base and own-fine-tuned score with standard error, one line per in-domain or multiple-choice set and checkpoint."""
    main = results.main()
    lines = []
    for (step, checkpoint), points in main.groupby(["step", "checkpoint"]):
        for name in dict.fromkeys(points[points["role"].isin(["in_domain", "multiple_choice"])]["task"]):
            base = points[(points["task"] == name) & (points["tuned_on"] == "")]
            own = points[(points["task"] == name) & (points["tuned_on"] == name)]
            line = {"checkpoint": checkpoint, "step": step, "task": name}
            for label, found in (("base", base), ("tuned", own)):
                line |= {
                    label: found["value"].iloc[0] if len(found) else np.nan,
                    f"{label}_stderr": found["stderr"].iloc[0] if len(found) else np.nan,
                }
            lines.append(line | {"majority": base["majority"].iloc[0] if len(base) else np.nan})
    return pd.DataFrame(lines).sort_values(["task", "step"], ignore_index=True)
