"""What each quirk of the published pipeline does to a score: the same model and set, one switch
changed. No jax.
"""

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import LEVEL, PLACE_COLUMNS, change, with_families
from amuro_jax.analyses.figures import FigureSpec, Interval, IntervalPanel
from amuro_jax.analyses.words import count, listed, plus_minus, signed
from amuro_jax.data import protocols
from amuro_jax.evals.statistics import NORMAL_95
from amuro_jax.results.draws import PairedDraws
from amuro_jax.results.estimate import estimate_from_draws
from amuro_jax.results.results import Results

ADDED, TAKEN, ALL = "added to strict", "taken from paper", "all quirks"
DRAWS = 1000
ROUNDING = 1e-12  # of a sum of scores
_PLACE = ["suite", "checkpoint", "tuned_on", "variant", "task", "format", "shots", "metric"]


def quirk_effects(results: Results, _=None) -> pd.DataFrame:
    """A line per model, set, format and quirk that was scored both ways (`amuro score
    --config.protocols=each`): the score without and with the quirk. Rows that both have are
    paired; scores of different rows are independent.
    """
    cells, lines = results.measurements, []
    if "protocol" not in cells or cells["protocol"].nunique() < 2:
        return pd.DataFrame()
    for place, group in cells.fillna({"variant": "", "tuned_on": ""}).groupby(
        _PLACE, sort=False, dropna=False
    ):
        by_protocol = group.drop_duplicates("protocol").set_index("protocol", drop=False)
        for quirk, how, without, with_ in _switched(list(by_protocol.index)):
            pair = [by_protocol.loc[name].to_dict() for name in (without, with_)]
            named = dict(zip(_PLACE, place, strict=True))
            lines.append({**named, "quirk": quirk, "how": how, **_effect(results, pair)})
    of = "effects on scores of the set"
    return with_families(pd.DataFrame(lines), of, ["task"]) if lines else pd.DataFrame()


def _switched(names):
    """(quirk, how, protocol without, protocol with) of every pair that differs by one switch of
    strict or paper, and of the two themselves.
    """
    if "strict" in names and "paper" in names:
        yield ALL, "strict → paper", "strict", "paper"
    for name in names:
        protocol, changed = protocols.named(name)
        if len(changed) != 1 or protocol not in names:
            continue
        quirk = changed[0][1:]
        if protocol == "strict":
            yield quirk, ADDED, protocol, name
        else:
            yield quirk, TAKEN, name, protocol


def _effect(results, pair):
    without, with_ = pair
    value = with_["value"] - without["value"]
    value = value if abs(value) > ROUNDING else 0.0  # else each draw would be above zero
    line = {"n": int(with_["n"]), "without": without["value"], "with": with_["value"]}
    scores = [_scores(results, cell) for cell in pair]
    paired = (
        all(one is not None for one in scores)
        and without["split"] == with_["split"]
        and scores[0].index.equals(scores[1].index)
    )
    if paired:
        frame = pd.DataFrame(pair)[["key", "task", "value", "stderr"]]
        rows = dict(zip(frame["key"], scores, strict=True))
        draws = PairedDraws(frame, rows.get, DRAWS)
        drawn = change(np.stack([draws[key] for key in frame["key"]], -1))
        # A score may be another statistic of its rows than their mean (quirk 9).
        shift = value - float(scores[1].mean() - scores[0].mean())
        drawn += shift if abs(shift) > ROUNDING else 0.0
        made = estimate_from_draws(value, drawn)
        error, low, high, p = made.stderr, made.low, made.high, made.p
    else:
        error = float(np.hypot(without["stderr"], with_["stderr"]))
        low, high = value - NORMAL_95 * error, value + NORMAL_95 * error
        p = _two_sided(value, error)
    interval = {"stderr": error, "low": low, "high": high, "p": p}
    return {**line, "effect": value, **interval, "paired": paired}


def _scores(results, cell):
    return None if cell["imported"] else results.scores(cell["key"])


def _two_sided(value, error):
    from scipy import stats

    if not error > 0:
        return 1.0 if value == 0 else np.nan
    return float(2 * stats.norm.sf(abs(value) / error))


def draw_quirks(results: Results, tables) -> FigureSpec | None:
    """A panel per set, in its first format and the last checkpoint that was scored so: the effect
    of each quirk on the base model; and one on the model that was tuned on the set.
    """
    table = tables["quirk_effects"]
    if table.empty:
        return None
    panels, own = [], table[(table["tuned_on"] == "") | (table["tuned_on"] == table["task"])]
    both = own["tuned_on"].nunique() > 1
    for (task, tuned_on), points in own.groupby(["task", "tuned_on"], sort=False):
        title = f"{task}, {'fine-tuned on it' if tuned_on else 'base model'}" if both else task
        points = points[points["variant"] == points["variant"].iloc[0]]
        first = points[points["format"] == points["format"].iloc[0]]
        last = first[first["checkpoint"] == first["checkpoint"].iloc[-1]]
        rows = tuple(
            Interval(f"{row.quirk}, {row.how}", row.effect, row.low, row.high, _COLORS[row.how])
            for row in last.itertuples()
            if np.isfinite(row.low)
        )
        panels.append(IntervalPanel(title, figures.Axis("score with − without"), rows))
    legend = tuple(
        figures.LegendEntry(how, color, line=False)
        for how, color in _COLORS.items()
        if (table["how"] == how).any()
    )
    return FigureSpec(tuple(panels), legend, columns=2) if panels else None


_COLORS = {"strict → paper": "ink", ADDED: "a", TAKEN: "b"}


def say_quirks(results: Results, tables):
    """Which quirks clearly change a score, per set."""
    table = tables["quirk_effects"]
    for task, points in table.groupby("task", sort=False) if len(table) else ():
        single = points[points["quirk"] != ALL]
        # Another statistic of the same answers is exact, and says nothing of the model (quirk 9).
        clear = single[(single["p_holm"] < LEVEL) & (single["quirk"] != "interval_midpoint")]
        if clear.empty:
            yield Sentence(
                f"No quirk clearly changes {task} ({count(len(single), 'effect')}).", False
            )
            continue
        largest = clear.loc[clear["effect"].abs().idxmax()]
        error, verb = largest["stderr"], "s" if clear["quirk"].nunique() == 1 else ""
        yield Sentence(
            f"On {task} {listed(dict.fromkeys(clear['quirk']))} clearly change{verb} the "
            f"score; most {largest['quirk']} ({largest['how']}): {signed(largest['effect'])} at "
            f"{largest['checkpoint']}.",
            True,
            abs(largest["effect"]) / error if error > 0 else 0.0,
        )


def show_quirks(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    shown = table[["task", "checkpoint", "tuned_on", "format", "quirk", "how"]]
    effects = [
        plus_minus(row.effect, row.low, row.high)
        for row in table[["effect", "low", "high"]].itertuples()
    ]
    return shown.assign(
        without=table["without"].map("{:.3f}".format),
        **{"with": table["with"].map("{:.3f}".format), "effect": effects},
    )


QUIRKS = Analysis(
    "quirk_effects",
    "What each quirk of the published pipeline does",
    quirk_effects,
    {
        "suite": "series of checkpoints",
        **{name: PLACE_COLUMNS[name] for name in ("checkpoint", "tuned_on")},
        "variant": "way of tuning on the set; empty: the only one",
        **{name: PLACE_COLUMNS[name] for name in ("task", "format", "shots")},
        "metric": "what the score is",
        "quirk": "switch that differs (docs/protocols.md)",
        "how": "added to strict, or taken from paper; all quirks: strict against paper",
        "n": "scored rows with the quirk",
        "without": "score without the quirk",
        "with": "score with it",
        "effect": "with − without",
        "stderr": "standard error over test rows",
        "low": "lower end of the 95 % interval",
        "high": "upper end of the 95 % interval",
        "p": "two-sided p-value of no effect",
        "paired": "whether both scores are of the same rows; else they are independent",
        "p_holm": "p with Holm's correction over the family",
        "p_bh": "p with Benjamini and Hochberg's correction over the family",
        "family": "the comparisons that the corrections are over, and their number",
    },
    "How much of a published effect can a quirk make",
    draw_quirks,
    "The same model and set, one switch changed (`amuro score --config.protocols=each`). A quirk "
    "that asks a set the very same as the protocol without it is not scored: its effect is zero.",
    say_quirks,
    show_quirks,
    across=True,
)
