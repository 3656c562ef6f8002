"""Model ladder: what small models, or the first half of a series, say of a larger model's end. From
any table that has a loss (or bits per byte) and a score of the same set. No jax.
"""

import dataclasses
import re
from collections.abc import Collection

import numpy as np
import pandas as pd

from amuro_jax.analyses import row_metrics, series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.words import listed
from amuro_jax.curves import ladder
from amuro_jax.curves.ladder import Run
from amuro_jax.results.results import Results

# Parameters without embeddings, by the name of a series. Sources: OLMo-ladder's configurations;
# the table in the Pythia suite's README.
PARAMETERS = (
    (r"190M-.*", 190_354_176),
    (r"370M-.*", 371_262_464),
    (r"760M-.*", 758_220_288),
    (r"1B-.*xC.*", 1_279_395_840),
    (r"3B-.*xC.*", 3_169_537_280),
    (r"peteish7_.*", 6_887_575_552),
    (r"peteish13_.*", 13_202_396_160),
    (r"pythia-70m.*", 18_915_328),
    (r"pythia-160m.*", 85_056_000),
    (r"pythia-410m.*", 302_311_424),
    (r"pythia-1b.*", 805_736_448),
    (r"pythia-1\.4b.*", 1_208_602_624),
    (r"pythia-2\.8b.*", 2_517_652_480),
    (r"pythia-6\.9b.*", 6_444_163_072),
    (r"pythia-12b.*", 11_327_027_200),
)
# A set that is the weighted mean of others: MMLU by its numbers of questions.
MEANS = {
    rf"mmlu_(stem|humanities|social_sciences|other)_{split}_rc_5shot": (
        f"mmlu_{split}_rc_5shot",
        {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231},
    )
    for split in ("test", "val")
}
# Scores of guessing, by the beginning of a set's name.
CHANCE = {"piqa": 0.5, "winogrande": 0.5, "boolq": 0.5, "csqa": 0.2, "socialiqa": 1 / 3}
USUAL_CHANCE = 0.25
METRIC_IN_NAME = r"_(bpb|len_norm|acc|soft|soft_log)$"  # imported names may end with the metric
LETTERED = "_mc_"  # in the name of a set whose answers are letters: their loss is another one
LOSSES = ("downstream_bpb", "bits_per_byte", "bpb")
SCORES = ("downstream", "accuracy", "acc", "acc_norm")
SMALLER = 2  # a ladder's models are at least so many times smaller than what they predict
FEW_SERIES = 8  # with more, own ends are predicted of the largest ones alone
HALF = 0.5


@dataclasses.dataclass(frozen=True)
class Pair:
    """A set's loss and score over all series: suite → run."""

    task: str
    runs: dict[str, Run]


def pairs_of(results: Results, parameters: dict[str, float] | None = None) -> list[Pair]:
    """Sets of which base models have both a loss and a score.

    Args:
        parameters: of series whose names do not tell (`PARAMETERS`); NaN where unknown.
    """
    grouped: dict[tuple, dict[str, dict]] = {}
    for one in series.all_series(results, series.BASE):
        if one.curve.unit != "tokens" or re.search(LETTERED, one.place["task"]):
            continue
        task = re.sub(METRIC_IN_NAME, "", one.place["task"])
        key = (task, one.place["format"], one.place["shots"])
        of_suite = grouped.setdefault(key, {}).setdefault(one.place["suite"], {})
        for kind, values in _kinds(one).items():
            of_suite.setdefault(kind, pd.Series(values, one.curve.x))
    pairs = {
        key[0]: {
            suite: _run(suite, parts["loss"], parts["score"], parameters or {})
            for suite, parts in suites.items()
            if len(parts) == 2
        }
        for key, suites in grouped.items()
    }
    pairs |= _means(pairs)
    return [Pair(task, runs) for task, runs in pairs.items() if runs]


def _kinds(one):
    """Whether a curve is a loss or a score: kind → values; of stored rows both."""
    metric, values = one.place["metric"], one.curve.value
    if metric in LOSSES:
        return {"loss": values}
    if metric not in SCORES:
        return {}
    rows = row_metrics.row_curves(one) if one.has_rows else None
    if rows is None or row_metrics.BITS not in rows.values:
        return {"score": values}
    return {"score": values, "loss": rows.values[row_metrics.BITS].mean(axis=0)}


def _run(suite, loss, score, parameters):
    both = pd.concat([loss, score], axis=1, keys=["loss", "score"]).dropna().sort_index()
    size = parameters.get(suite, parameters_of(suite))
    columns = (both[name].to_numpy() for name in ("loss", "score"))
    return Run(suite, size, both.index.to_numpy(float), *columns)


def parameters_of(suite: str) -> float:
    """Parameters without embeddings of a series that is known by name; NaN of others."""
    known = (count for pattern, count in PARAMETERS if re.fullmatch(pattern, suite))
    return float(next(known, np.nan))


def _means(pairs):
    """Weighted means of sets that belong together, of series that have all of them."""
    means = {}
    for pattern, (name, weights) in MEANS.items():
        members = {
            match[1]: pairs[task] for task in pairs if (match := re.fullmatch(pattern, task))
        }
        if set(members) != set(weights):
            continue
        shared = set.intersection(*(set(runs) for runs in members.values()))
        means[name] = {
            suite: _weighted([members[part][suite] for part in weights], list(weights.values()))
            for suite in sorted(shared)
        }
    return {name: runs for name, runs in means.items() if runs}


def _weighted(runs, weights):
    tokens = runs[0].tokens
    same = [run for run in runs if np.array_equal(run.tokens, tokens)]
    if len(same) < len(runs):
        tokens = np.array(sorted(set.intersection(*(set(run.tokens) for run in runs))))
    parts = [np.isin(run.tokens, tokens) for run in runs]
    mean = {
        name: np.average(
            [getattr(r, name)[at] for r, at in zip(runs, parts, strict=True)], 0, weights
        )
        for name in ("loss", "score")
    }
    return dataclasses.replace(runs[0], tokens=tokens, **mean)


def chance_of(task: str) -> float:
    """Score of guessing, by the set's name."""
    known = (chance for name, chance in CHANCE.items() if task.startswith(name))
    return next(known, USUAL_CHANCE)


def predictions(
    pairs: list[Pair], fit: Collection[str], targets: Collection[str], draws: int = 40
) -> pd.DataFrame:
    """A line per set and target: what the runs named in `fit` predict of it."""
    lines = []
    for pair in pairs:
        runs = [pair.runs[name] for name in fit if name in pair.runs]
        chosen = [pair.runs[name] for name in targets if name in pair.runs]
        sizes = [run.parameters for run in (*runs, *chosen)]
        if not chosen:
            continue
        if len(runs) < ladder.FEWEST_RUNS or not np.isfinite(sizes).all():
            unknown = [run.name for run in (*runs, *chosen) if not np.isfinite(run.parameters)]
            why = f"{len(runs)} runs, {ladder.FEWEST_RUNS} are needed"
            if unknown:
                why = f"parameters unknown of {listed(unknown[:3])}"
            lines += [_line(pair.task, run, f"{len(runs)} runs", None, why) for run in chosen]
            continue
        predicted = ladder.predict(runs, chosen, chance_of(pair.task), draws)
        lines += [
            _line(pair.task, run, f"{len(runs)} runs", one)
            for run, one in zip(chosen, predicted, strict=True)
        ]
    return pd.DataFrame(lines, columns=[*COLUMNS])


def own_ends(pairs: list[Pair], suites: Collection[str], draws: int = 40) -> pd.DataFrame:
    """A line per set and series: what its first half predicts of its own end."""
    lines = []
    for pair in pairs:
        for name in (name for name in suites if name in pair.runs):
            run = pair.runs[name]
            first = ladder.pieces(run.until(HALF))
            if len(first) < ladder.FEWEST_POINTS:
                why = f"{len(first)} evaluations in the first half, {ladder.FEWEST_POINTS} needed"
                lines.append(_line(pair.task, run, "its first half", None, why))
                continue
            (predicted,) = ladder.predict(first, [run], chance_of(pair.task), draws, one_size=True)
            lines.append(_line(pair.task, run, "its first half", predicted))
    return pd.DataFrame(lines, columns=[*COLUMNS])


def _line(task, target, source, prediction, why=""):
    tokens, loss, score = target.end
    line = dict.fromkeys(COLUMNS, np.nan)
    line |= {"task": task, "target": target.name, "from": source, "tokens": tokens}
    line |= {"parameters": target.parameters, "loss": loss, "score": score}
    if prediction is None:
        return line | {"failed": why}
    return line | {
        "loss_predicted": prediction.loss,
        "loss_low": prediction.loss_low,
        "loss_high": prediction.loss_high,
        "predicted": prediction.score,
        "low": prediction.low,
        "high": prediction.high,
        "error": prediction.score - score,
        "predicted_from_true_loss": prediction.score_of_loss,
        "failed": prediction.failed,
    }


def model_ladder(results: Results, _=None) -> pd.DataFrame:
    """Ends of the largest models predicted from those at least twice smaller, and ends of series
    from their own first halves.
    """
    pairs = pairs_of(results)
    sizes = {name: run.parameters for pair in pairs for name, run in pair.runs.items()}
    known = {name: size for name, size in sizes.items() if np.isfinite(size)}
    largest = max(known.values(), default=0)
    targets = [name for name, size in known.items() if size == largest]
    fit = [name for name, size in known.items() if size * SMALLER <= largest]
    halves = list(sizes) if len(sizes) <= FEW_SERIES else targets
    parts = [own_ends(pairs, halves)]
    if fit:
        parts.insert(0, predictions(pairs, fit, targets))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def variances(pairs: list[Pair], suite: str, last: int = 10) -> pd.DataFrame:
    """Per set the standard deviation of a series' last evaluations, plain and relative."""
    lines = [
        {"task": pair.task, "series": suite, **ladder.variance(pair.runs[suite], last)}
        for pair in pairs
        if suite in pair.runs
    ]
    return pd.DataFrame(lines)


def say_ladder(results: Results, tables):
    """How well ends are predicted, and which fits failed."""
    table = tables["model_ladder"]
    known = table.dropna(subset=["error"])
    for source, members in known.groupby(known["from"] == "its first half", sort=False):
        good = members[members["failed"] == ""]
        name = "From the first halves of their own series" if source else "From smaller models"
        if len(good):
            inside = ((good["low"] <= good["score"]) & (good["score"] <= good["high"])).sum()
            yield Sentence(
                f"{name}, {len(good)} ends are predicted with a mean absolute error of "
                f"{good['error'].abs().mean():.3f}; {inside} lie in the 95 % interval."
            )
        bad = members[members["failed"] != ""]
        if len(bad):
            reasons = bad.drop_duplicates("task").head(4)
            texts = [f"{row.task} ({row.failed})" for row in reasons.itertuples()]
            yield Sentence(
                f"{name}, {len(bad)} predictions rest on fits that failed: {listed(texts)}.", False
            )


def show_ladder(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "set": table["task"],
            "target": table["target"],
            "from": table["from"],
            "score": [f"{one:.3f}" for one in table["score"]],
            "predicted": [
                "–"
                if np.isnan(row.predicted)
                else f"{row.predicted:.3f} ({row.low:.3f} to {row.high:.3f})"
                for row in table[["predicted", "low", "high"]].itertuples()
            ],
            "error": ["–" if np.isnan(one) else f"{one:+.3f}" for one in table["error"]],
            "fits that failed": table["failed"],
        }
    )


COLUMNS = {
    "task": "set, without the metric that imported names end with",
    "target": "series whose end is predicted",
    "from": "what it is predicted from: runs of smaller models, or its own first half",
    "parameters": "of the target, without embeddings",
    "tokens": "at its end",
    "loss": "its loss there, mean of the last five evaluations",
    "loss_predicted": "from parameters and tokens",
    "loss_low": "lower end of the 95 % interval",
    "loss_high": "upper end of the 95 % interval",
    "score": "its score there, mean of the last five evaluations",
    "predicted": "from the predicted loss",
    "low": "lower end of the 95 % interval, over draws of the runs",
    "high": "upper end of the 95 % interval",
    "error": "predicted − score",
    "predicted_from_true_loss": "from the target's true loss",
    "failed": "fits that must not be trusted, and why; empty: none",
}
LADDER = Analysis(
    "model_ladder",
    "Model ladder",
    model_ladder,
    COLUMNS,
    "What do small models say of large ones",
    caption="Loss (bits per byte of the right answer) as e^a / parameters^α + e^b / tokens^β + E, "
    "fitted by Huber's loss of logarithms to the ends of the smaller runs; the score as a sigmoid "
    "of the loss, fitted to all their evaluations, smoothed over five, the first tenth left out. "
    "Intervals are of draws of the runs: they know nothing of a law that changes beyond them. "
    "`amuro ladder` takes other runs and targets.",
    sentences=say_ladder,
    shown=show_ladder,
    across=True,
)
