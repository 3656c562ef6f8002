"""Is it foreseen, from base models and noise on their weights, that models tuned at one rate get
worse with more pre-training? Beside what the tuned ones did. No jax.
"""

import dataclasses

import numpy as np
import pandas as pd

from amuro_jax.analyses import series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.figures import Axis, FigureSpec, LinePanel, entries, one_range
from amuro_jax.analyses.figures import Series as Drawn
from amuro_jax.analyses.overtraining import FALLS, NONE
from amuro_jax.analyses.row_metrics import GOLD, row_values
from amuro_jax.analyses.words import count
from amuro_jax.curves import foreseen
from amuro_jax.curves.curve import Curve, make_curve
from amuro_jax.curves.turn import FEWEST, Turn, find_turn, seed_deviations
from amuro_jax.evals.statistics import NORMAL_95, bootstrap_means
from amuro_jax.results.pooled import members
from amuro_jax.results.results import Results
from amuro_jax.variants import noise_of

DRAWS = 1000
_ALL = "foreseen"  # of `Results.derived`


@dataclasses.dataclass(frozen=True)
class Foreseen:
    """One way of tuning and one set that base models were scored on with noise.

    Attributes:
        place: tuned_on, variant, task, format, shots, learning_rate.
        curve: base scores (log-probability of the right answer) by checkpoint.
        base: what the forecast is made of.
        tuned: by checkpoint of the curve the tuned scores of each training seed [N][S]; None where
            one is not scored yet.
        turn: of the tuned scores; its `why` where they are not all there.
    """

    place: dict
    curve: Curve
    base: foreseen.BaseModels
    tuned: list[np.ndarray] | None
    turn: Turn

    @property
    def found(self) -> str:
        """What the tuned models did, or why that is not known."""
        return self.turn.why or (FALLS if self.turn.falls else NONE)


def all_foreseen(results: Results) -> list[Foreseen]:
    """Every way of tuning at one rate × set with noise, where the study has probed its base models:
    only their probes know how large the weights are. A set's own tuning is left out: what it gains
    is not in the noise.
    """
    if _ALL not in results.derived:  # the table and the figure need the same
        results.derived[_ALL] = _all(results)
    return results.derived[_ALL]


def _all(results):
    noise, probes, ways = results.noise, results.probes(), results.tunings()
    if noise is None or noise.empty or ways.empty or "weight_scale" not in probes:
        return []
    scales = probes.dropna(subset=["weight_scale"]).drop_duplicates("checkpoint")
    scales = scales.set_index("checkpoint")["weight_scale"].astype(float).to_dict()
    gold = _Gold(results)
    made = []
    for task in dict.fromkeys(noise["task"]):
        known = _base_models(results, gold, task, scales)
        if known is not None:
            others = ways[ways["tuned_on"] != task].to_dict("records")
            made += [_one(results, gold, task, way, *known) for way in others]
    return made


class _Gold:
    """Log-probabilities of the right answers by row of a stored cell; None where it has none."""

    def __init__(self, results):
        self._results, self._kept = results, {}

    def __call__(self, key):
        if key not in self._kept:
            rows = self._results.rows(key)
            if rows is not None:
                rows = row_values(rows.drop_duplicates("row").sort_values("row")).get(GOLD)
            self._kept[key] = rows
        return self._kept[key]


def _base_models(results, gold, task, scales):
    """(curve, scales, base models without a displacement) of a set; None of fewer than FEWEST
    checkpoints.
    """
    noise = results.noise[results.noise["task"] == task]
    noise = noise.assign(sigma=[noise_of(name).sigma for name in noise["variant"]])
    sigmas = np.sort(noise["sigma"].unique())
    lines = []
    for name in results.distinct:
        base, own = results.find(name, "", task), noise[noise["checkpoint"] == name]
        if base is None or name not in scales or set(own["sigma"]) != set(sigmas):
            continue
        known = [gold(key) for key in (base["key"], *own["key"])]
        if any(one is None for one in known):
            continue
        changed = pd.Series([(one - known[0]).mean() for one in known[1:]], own.index)
        lines.append((base, known[0], changed.groupby(own["sigma"]).mean().to_numpy()))
    if len(lines) < FEWEST:
        return None
    named = ([base[name] for base, *_ in lines] for name in ("checkpoint", "step", "tokens"))
    curve = make_curve(*named, [rows.mean() for _, rows, _ in lines])
    rows = np.array([lines[at][1] for at in curve.places])  # [N, R]
    changes = np.array([lines[at][2] for at in curve.places])
    ahead = rows[-1] - rows[curve.value[:-1].argmax()]  # of the last one before the best other one
    margin = NORMAL_95 * ahead.std(ddof=1) / np.sqrt(len(ahead))
    base = foreseen.BaseModels(curve.value, sigmas, changes, np.full(len(curve), np.nan), margin)
    return curve, np.array([scales[name] for name in curve.names]), base


def _one(results, gold, task, way, curve, scales, base):
    moved = foreseen.displacement(way["learning_rate"], way["steps"], scales)
    base = dataclasses.replace(base, displacement=moved)
    on = (way["tuned_on"], task, *results.main[task], way["variant"])
    cells = [results.find(name, *on) for name in curve.names]
    rows = [None if one is None else [gold(key) for key in members(one["key"])] for one in cells]
    place = {"tuned_on": on[0], "variant": on[-1], "task": task, "format": on[2], "shots": on[3]}
    place["learning_rate"] = way["learning_rate"]
    if any(one is None or any(seed is None for seed in one) for one in rows):
        why = "not every checkpoint is tuned and scored"
        return Foreseen(place, curve, base, None, Turn(why=why))
    tuned = [np.array([seed.mean() for seed in one]) for one in rows]
    return Foreseen(place, curve, base, tuned, _turn(rows, tuned))


def _turn(rows, tuned):
    """`rows`: per checkpoint and training seed the rows' values."""
    of_rows = np.array([np.mean(seeds, axis=0) for seeds in rows])  # [N, R]
    drawn = bootstrap_means(of_rows.T, DRAWS).T
    deviations = drawn - drawn.mean(axis=1, keepdims=True)
    spread = seed_deviations(tuned, DRAWS)
    return find_turn(of_rows.mean(axis=1), deviations if spread is None else deviations + spread)


def foreseen_falls(results: Results, _=None) -> pd.DataFrame:
    """A line per way of tuning and set with noise: the forecast, the call, and what was found."""
    return pd.DataFrame([_line(one) for one in all_foreseen(results)])


def _line(one):
    base, turn = one.base, one.turn
    probability = foreseen.probability(base)
    return {
        **one.place,
        "checkpoints": len(one.curve),
        "moved": base.displacement[-1],
        "critical": foreseen.critical_factor(base),
        "expected_fall": max(0.0, float(np.ptp(_from_best(foreseen.expected_scores(base))))),
        "probability": probability,
        "call": foreseen.call(probability),
        "found": one.found,
        **{name: getattr(turn, name) for name in ("fall", "fall_low", "fall_high", "p")},
    }


def _from_best(scores):
    """The best score and the last one."""
    return scores.max(), scores[-1]


def say_foreseen(results: Results, tables):
    """Each call that is made, and how many are left open."""
    table = tables["foreseen"]
    called = table[table["call"] != foreseen.UNSURE]
    for row in called.itertuples():
        way = f" ({row.variant})" if row.variant else ""
        yield Sentence(
            f"From base models and noise on their weights alone, {row.task} after {row.tuned_on}"
            f"{way} is expected {_EXPECTED[row.call]} (probability of a fall "
            f"{row.probability:.2f}); found: {row.found}.",
            row.call == foreseen.FALLS,
        )
    if left := len(table) - len(called):
        yield Sentence(
            f"Base models and noise on their weights do not tell whether the log-probability of "
            f"the right answer falls with more pre-training in {count(left, 'curve')}.",
            False,
        )


_EXPECTED = {
    foreseen.FALLS: "to get worse with more pre-training",
    foreseen.RISES: "not to get worse with more pre-training",
}


def draw_foreseen(results: Results, tables):
    """Per set and way of tuning what was expected of base models, and what was found."""
    made = [one for one in all_foreseen(results) if one.tuned is not None]
    if not made:
        return None
    legend, panels = entries(("base", "expected after tuning", "tuned")), []
    y = Axis("log-probability of the right answer")
    for one in made:
        values = {
            "base": one.base.scores,
            "expected after tuning": foreseen.expected_scores(one.base),
            "tuned": np.array([seeds.mean() for seeds in one.tuned]),
        }
        x = tuple(series.x_of(one.curve))
        lines = tuple(
            Drawn(label, legend[label].color, x, tuple(values[label]), names=one.curve.names,
                  marker=legend[label].marker)
            for label in values
        )  # fmt: skip
        way = f", {one.place['variant']}" if one.place["variant"] else ""
        title = f"{one.place['task']} after {one.place['tuned_on']}{way}"
        axis = series.axis_of(one.curve.unit, list(x))
        panels.append(LinePanel(title, axis, y, lines, task=one.place["task"]))
    return FigureSpec(one_range(panels), tuple(legend.values()))


def show_foreseen(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "model": "after " + table["tuned_on"],
            "way": table["variant"],
            "set": table["task"],
            "expected to move": table["moved"].round(3),
            "critical": table["critical"].round(2),
            "probability of a fall": table["probability"].round(2),
            "call": table["call"],
            "found": table["found"],
        }
    )


FORESEEN = Analysis(
    "foreseen",
    "Falls that base models foretell",
    foreseen_falls,
    {
        **{name: series.SERIES_COLUMNS[name] for name in ("tuned_on", "variant", "task")},
        "format": series.SERIES_COLUMNS["format"],
        "shots": series.SERIES_COLUMNS["shots"],
        "learning_rate": "of the tuning, one for all checkpoints",
        "checkpoints": "with a base score, noise and a probe",
        "moved": "how far the tuning is expected to move the last checkpoint's weights, in units "
        "of its matrices' root mean square",
        "critical": "how many times as far it would have to move them for the last score to be "
        "below another one's; below 1 a fall is expected",
        "expected_fall": "expected best score − expected last one, nats",
        "probability": "of a fall of the tuned score with more pre-training",
        "call": f"{foreseen.FALLS}, {foreseen.RISES}, or {foreseen.UNSURE}",
        "found": f"what the tuned models did: {FALLS}, {NONE}, or why that is not known",
        "fall": "highest tuned score − the last one, nats",
        "fall_low": "lower end of its 95 % interval, the picking of the highest included",
        "fall_high": "upper end of its 95 % interval",
        "p": "p-value that the last checkpoint's tuned score is as good as every other one's",
    },
    "Where does more pre-training stop paying",
    figure=draw_foreseen,
    caption="Scores are mean log-probabilities of the right answer. Fine-tuning is expected to "
    "cost a base model what noise costs it that is as large as the tuning is expected to move the "
    "weights; the call is made from base models alone, by what laboratories have shown. Ways of "
    "tuning at one rate, all parameters; their rate and steps are taken from finished trainings.",
    sentences=say_foreseen,
    shown=show_foreseen,
)
