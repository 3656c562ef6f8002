"""Where the variance of a score comes from, and which findings are left when all of it counts. No
jax.
"""

import numpy as np
import pandas as pd

from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import PLACE_COLUMNS, change
from amuro_jax.analyses.words import count, listed, signed
from amuro_jax.curves.components import REST, Component, Design
from amuro_jax.evals.statistics import NORMAL_95
from amuro_jax.results import pooled
from amuro_jax.results.results import Results

# Component → column of the cells. A training seed is one of its checkpoint where several scores of
# each training tell it from the rest: another checkpoint's training of that seed is another one.
SOURCES = {
    "checkpoint": "checkpoint",
    "format": "format",
    "shots": "shots",
    "shot_seed": "shot_seed",
    "seed": "seed",
}
OF_DESIGN = ("format", "shots", "shot_seed", "seed")  # what a study may vary beside checkpoints
FEWEST_REST = 2  # degrees of freedom that must be left for the rest
MOST_SCORES = 1200  # of a set and model; of more, checkpoints are drawn


def variance(results: Results, _=None) -> pd.DataFrame:
    """Standard deviations of a set's scores by source with 95 % intervals, a line per set and model
    that was scored in several formats, with several shots or from several seeds.

    Random effects of a crossed design, balanced or not (`curves/components.py`). `rows` is the
    standard error of a score over test rows, beside the model.
    """
    lines = []
    every = _every(results)
    for (task, tuned_on, variant), cells in every.groupby(_MODEL, sort=False):
        for column in OF_DESIGN:  # a single score says nothing of its level
            size = cells.groupby(column, dropna=False)[column].transform("size")
            cells = cells[size > 1]
        levels = {source: cells[column].nunique() for source, column in SOURCES.items()}
        if all(levels[source] < 2 for source in OF_DESIGN):
            continue
        components, note = _components(cells, [name for name in SOURCES if levels[name] > 1])
        rows = float(np.sqrt((cells["stderr"].astype(float) ** 2).mean()))
        made = [one.variance for name, one in components.items() if name != "checkpoint"]
        known = bool(made) and not np.isnan(rows)
        line = {"task": task, "tuned_on": tuned_on, "variant": variant, "scores": len(cells)}
        line |= {f"{source}_levels": levels[source] for source in SOURCES}
        for name in (*SOURCES, REST):
            line |= _deviation(name, components.get(name))
        one_score = float(np.sqrt(sum(made) + rows**2)) if known else np.nan
        lines.append({**line, "rows": rows, "one_score": one_score, "note": note})
    return pd.DataFrame(lines)


_MODEL = ["task", "tuned_on", "variant"]


def _every(results):
    """Every score by itself, with the seed of its shots where a store has several of one place."""
    every = results.cells if results.every is None else results.every
    place = [*_MODEL, "checkpoint", "format", "shots", "seed"]
    store = getattr(results.suites, "store", None)
    repeated = every.duplicated(place, keep=False)
    if store is None or not repeated.any():
        return every.assign(shot_seed=0)
    seeds = pd.Series(0, every.index)
    for at in every.index[repeated]:
        scoring = store.read(every.loc[at, "key"]).scoring
        seeds[at] = 0 if scoring is None else scoring.shot_seed
    return every.assign(shot_seed=seeds)


def _deviation(name, component: Component | None):
    if component is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    ends = (component.variance, component.low, component.high)
    names = (name, f"{name}_low", f"{name}_high")
    return dict(zip(names, map(float, np.sqrt(ends)), strict=True))


def _components(cells, sources):
    """Component by source and of the rest; a note where they cannot be estimated."""
    if len(cells) > MOST_SCORES:
        names = list(dict.fromkeys(cells["checkpoint"]))
        each = max(1, len(cells) // len(names))
        at = np.linspace(0, len(names) - 1, max(2, MOST_SCORES // each)).round().astype(int)
        cells = cells[cells["checkpoint"].isin([names[one] for one in at])]
    factors = {source: cells[SOURCES[source]].to_numpy() for source in sources}
    note = ""
    trainings = cells["checkpoint"].astype(str) + " " + cells["seed"].astype(str)
    if "seed" in factors and trainings.map(trainings.value_counts()).min() > 1:
        factors["seed"] = trainings.to_numpy()  # the checkpoints' own spread is not told from it
        note = "a seed is a training of one checkpoint"
    try:
        design = Design(factors)
    except ValueError:
        return {}, "too few scores to separate the sources"
    if design.freedom < FEWEST_REST:
        return {}, "too few scores to separate the sources"
    if cells["value"].std() == 0:
        nothing = Component(0.0, 0.0, 0.0, 0)
        return dict.fromkeys([*sources, REST], nothing), "all scores are the same"
    return design.split(cells["value"].to_numpy(float)), note


def counted(results: Results, tables) -> pd.DataFrame:
    """The headline findings with the test rows' uncertainty alone, and with all sources that the
    store tells: what another training seed, other shots and another format would change.

    A finding is the gain of a set's own models at the last checkpoint, the rise of its base model,
    and that of its fine-tuned models, from the first to the last. Each of its two scores has the
    variance of every source; the seeds' is that of the mean over them.
    """
    sources, lines = tables["variance"], []
    for finding, task, tuned_on, cells in _findings(results):
        estimate = results.estimate(change, cells)
        if np.isnan(estimate.stderr):
            continue
        parts = [_variances(sources, results, cell) for cell in cells]
        names = {name for part in parts for name in part}
        more = sum(value for part in parts for value in part.values())
        error = float(np.sqrt(estimate.stderr**2 + more))
        low, high = estimate.value - NORMAL_95 * error, estimate.value + NORMAL_95 * error
        lines.append(
            {
                "finding": finding,
                "task": task,
                "tuned_on": tuned_on,
                "effect": estimate.value,
                "rows_stderr": estimate.stderr,
                "stderr": error,
                "low": low,
                "high": high,
                "clear_over_rows": estimate.clear,
                "clear": bool(low > 0 or high < 0),
                "counted": ", ".join(["rows", *sorted(names)]),
                "unknown": ", ".join(name for name in OF_DESIGN if name not in names),
            }
        )
    return pd.DataFrame(lines)


def _findings(results):
    first, last = results.distinct[0], results.distinct[-1]
    for task in results.tasks("in_domain", "multiple_choice"):
        base = [results.find(name, "", task) for name in (first, last)]
        yield "base, last − first", task, "", base
        for tuned_on in results.tuned_on(task):
            tuned = [results.find(name, tuned_on, task) for name in (first, last)]
            yield "gain at the last checkpoint", task, tuned_on, [base[1], tuned[1]]
            yield "fine-tuned, last − first", task, tuned_on, tuned


def _variances(sources, results, cell):
    """Source → variance of one score of the model, as far as the store tells it."""
    if cell is None or sources.empty:
        return {}
    of_model = sources[
        (sources["task"] == cell["task"])
        & (sources["tuned_on"] == cell["tuned_on"])
        & (sources["variant"] == (cell.get("variant") or ""))
    ]
    if of_model.empty:
        return {}
    line = of_model.iloc[0]
    parts = {name: line[name] ** 2 for name in OF_DESIGN if not np.isnan(line[name])}
    if "seed" in parts:  # the score is a mean over the seeds of its training
        parts["seed"] /= max(1, cell["key"].count(pooled.SEPARATOR) + 1)
    return parts


def say_counted(results: Results, tables):
    """Which share of the findings is left when all sources are counted."""
    table = tables["findings_counted"]
    if table.empty:
        return
    for finding, points in table.groupby("finding", sort=False):
        clear = points[points["clear_over_rows"].astype(bool)]
        if clear.empty or (clear["counted"] == "rows").all():
            continue
        left = clear[clear["clear"].astype(bool)]
        lost = clear[~clear["clear"].astype(bool)]
        verb, counted = "is" if len(clear) == 1 else "are", clear["counted"].iloc[0].split(", ")
        text = (
            f"{finding[:1].upper()}{finding[1:]}: of {count(len(clear), 'effect')} that {verb} "
            f"clear over test rows, {len(left)} ({len(left) / len(clear):.0%}) stay clear when "
            f"{listed(counted)} are counted"
        )
        text += f"; no longer clear: {listed(dict.fromkeys(lost['task']))}." if len(lost) else "."
        yield Sentence(text, bool(len(left)))


def show_counted(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    shown = table[["finding", "task", "tuned_on"]]
    return shown.assign(
        effect=table["effect"].map(signed),
        **{
            "± rows": (NORMAL_95 * table["rows_stderr"]).map("{:.3f}".format),
            "± all": (NORMAL_95 * table["stderr"]).map("{:.3f}".format),
            "counted": table["counted"],
            "clear": table["clear"].map({True: "yes", False: "no"}),
        },
    )


def _columns(name, what):
    return {
        name: f"standard deviation {what}; missing: not told",
        f"{name}_low": "lower end of its 95 % interval",
        f"{name}_high": "upper end of that interval",
    }


VARIANCE = Analysis(
    "variance",
    "Where the variance of a score comes from",
    variance,
    {
        **{name: PLACE_COLUMNS[name] for name in ("task", "tuned_on")},
        "variant": "way of tuning; empty: the only one",
        "scores": "scores of the set and model, over checkpoints and all sources",
        **{f"{source}_levels": f"number of levels of {source}" for source in SOURCES},
        **_columns("checkpoint", "between checkpoints"),
        **_columns("format", "between prompt formats"),
        **_columns("shots", "between numbers of shots"),
        **_columns("shot_seed", "between seeds of the shots"),
        **_columns("seed", "between training seeds"),
        **_columns(
            REST,
            "of what none of these explains (interactions with the checkpoint, and test rows)",
        ),
        "rows": "standard error of one score over test rows (root of the mean square)",
        "one_score": "standard deviation of one score over all of these sources but the checkpoint",
        "note": "why something is missing, or what a source means",
    },
    "How much depends on the prompt format",
    caption="Standard deviations of scores by source, with 95 % intervals (random effects, closed "
    "form). Few levels give wide intervals.",
)
COUNTED = Analysis(
    "findings_counted",
    "What is left of the findings when every source counts",
    counted,
    {
        "finding": "what is compared",
        **{name: PLACE_COLUMNS[name] for name in ("task", "tuned_on")},
        "effect": "difference of the two scores",
        "rows_stderr": "bootstrap standard error over test rows",
        "stderr": "standard error over test rows and all counted sources",
        "low": "lower end of the 95 % interval over all counted sources",
        "high": "upper end of that interval",
        "clear_over_rows": "whether the interval over test rows leaves zero out",
        "clear": "whether that over all counted sources does",
        "counted": "sources that the store tells",
        "unknown": "sources that it does not tell: the study has one level of them",
    },
    "How much another training seed would change",
    caption="Each finding with the uncertainty of its test rows, and with that of everything the "
    "study varied besides. A source with one level in the study is not counted.",
    sentences=say_counted,
    shown=show_counted,
)
