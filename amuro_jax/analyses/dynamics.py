"""Example by example: what is learned when, what is forgotten, and whether the base model's margin
says what fine-tuning will get right. No jax.
"""

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures, row_metrics, series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import baseline
from amuro_jax.analyses.words import count, listed
from amuro_jax.curves import examples
from amuro_jax.results.results import Results

FEWEST = 4  # checkpoints: with three, a lucky guess and a known example look alike
PLACE = ("suite", "model", "tuned_on", "variant", "task", "format", "shots")
PLACE_COLUMNS = {name: series.SERIES_COLUMNS[name] for name in PLACE}


def example_rows(results: Results, _=None) -> pd.DataFrame:
    """A line per curve and test row: when it is learned and forgotten."""
    frames = [_of_curve(one, row_metrics.row_curves(one)) for one in _curves(results)]
    frames = [frame for frame in frames if frame is not None]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*EXAMPLES])


def _curves(results):
    """Base and fine-tuned curves in each set's main format and number of shots: every example of
    every format would be a table that nobody reads.
    """
    return [
        one
        for one in series.all_series(results, series.BASE, series.TUNED)
        if one.results.main[one.place["task"]] == (one.place["format"], one.place["shots"])
    ]


def _why_not(one, rows):
    """Why a curve's examples cannot be followed; "" where they can."""
    if one.place["metric"] != "accuracy":
        return f"answers are scored by {one.place['metric']}: not right or wrong"
    if len(one.curve) < FEWEST:
        return f"{count(len(one.curve), 'checkpoint')}, {FEWEST} are needed"
    if rows is None:
        return "no rows are stored (imported scores)"
    return "" if len(rows.rows) else "no row is in all checkpoints"


def _of_curve(one, rows):
    if _why_not(one, rows):
        return None
    right = rows.values[row_metrics.SCORE] > 0.5
    counted = examples.dynamics(right, _chance(one))
    names = np.array([*one.curve.names, ""])
    named = {name: one.line[name] for name in PLACE}
    return pd.DataFrame(
        {
            **named,
            "row": rows.rows,
            "doc_id": rows.doc_ids,
            "group": rows.groups,
            "state": np.array(examples.STATES)[counted.state],
            "first_learned": names[np.where(counted.first >= 0, counted.first, len(names) - 1)],
            "forgotten_at": names[np.where(counted.state == 2, counted.end, len(names) - 1)],
            "learned_events": counted.learned_events,
            "forgotten_events": counted.forgotten_events,
            "answers": ["".join("01"[one] for one in line) for line in right.astype(int)],
        }
    )


def _chance(one):
    """Probability of a right guess: of chance where it is known, else the baseline."""
    record = one.records[0][0]
    chance = record.get("chance")
    return baseline(record) if chance is None or pd.isna(chance) else float(chance)


def example_dynamics(results: Results, tables) -> pd.DataFrame:
    """A line per curve: how many of its examples are learned, forgotten, never learned."""
    rows, lines = tables["examples"], []
    grouped = dict(list(rows.groupby(list(PLACE), sort=False))) if len(rows) else {}
    for one in _curves(results):
        named = {name: one.line[name] for name in PLACE}
        of_curve = grouped.get(tuple(named.values()))
        line = {**named, "checkpoints": len(one.curve), "examples": 0, "notes": ""}
        if of_curve is None:
            rows_of = row_metrics.row_curves(one) if len(one.curve) >= FEWEST else None
            line["notes"] = _why_not(one, rows_of)
        else:
            line |= _counts(one, of_curve)
        lines.append(line)
    return pd.DataFrame(lines, columns=[*DYNAMICS])


def _counts(one, of_curve):
    states = of_curve["state"].value_counts()
    learned = of_curve[of_curve["state"].isin([examples.LEARNED, examples.FORGOTTEN])]
    order = {name: index for index, name in enumerate(one.curve.names)}
    positions = learned["first_learned"].map(order)
    middle = one.curve.names[int(positions.median())] if len(positions) else ""
    return {
        "examples": len(of_curve),
        **{column: int(states.get(state, 0)) for column, state in _COUNTS.items()},
        "median_first_learned": middle,
        "learned_events": float(of_curve["learned_events"].mean()),
        "forgotten_events": float(of_curve["forgotten_events"].mean()),
    }


_COUNTS = {
    "known": examples.KNOWN,
    "learned": examples.LEARNED,
    "forgotten": examples.FORGOTTEN,
    "never": examples.NEVER,
}


def by_checkpoint(results: Results, tables) -> pd.DataFrame:
    """Per curve and checkpoint, how many examples are known, first learned and forgotten there."""
    rows, lines = tables["examples"], []
    grouped = dict(list(rows.groupby(list(PLACE), sort=False))) if len(rows) else {}
    for one in _curves(results):
        named = {name: one.line[name] for name in PLACE}
        of_curve = grouped.get(tuple(named.values()))
        if of_curve is None:
            continue
        first = of_curve["first_learned"].value_counts()
        lost = of_curve["forgotten_at"].value_counts()
        known = 0
        for name in one.curve.names:
            new, gone = int(first.get(name, 0)), int(lost.get(name, 0))
            known += new - gone
            counts = {"first_learned": new, "forgotten": gone, "known": known}
            lines.append({**named, "checkpoint": name, **counts, "examples": len(of_curve)})
    return pd.DataFrame(lines, columns=[*BY_CHECKPOINT])


def margin_agreement(results: Results, _=None) -> pd.DataFrame:
    """Per fine-tuned model and checkpoint, whether the base model's margin on an example says that
    fine-tuning from that checkpoint, and from the last one, gets it right.
    """
    curves = _curves(results)
    base = {
        tuple(one.place[name] for name in _SET): one for one in curves if one.model == series.BASE
    }
    lines = []
    for one in curves:
        of_base = base.get(tuple(one.place[name] for name in _SET))
        if one.model == series.TUNED and of_base is not None:
            lines += _agreement(of_base, one)
    return pd.DataFrame(lines, columns=[*MARGIN])


_SET = ("suite", "task", "format", "shots", "metric")


def _agreement(base, tuned):
    before, after = (row_metrics.row_curves(one) for one in (base, tuned))
    if before is None or after is None or row_metrics.MARGIN not in before.values:
        return
    shared, first, second = np.intersect1d(before.rows, after.rows, return_indices=True)
    right = after.values[row_metrics.SCORE][second] > 0.5
    positions = {name: index for index, name in enumerate(tuned.curve.names)}
    for at, name in enumerate(base.curve.names):
        if name in positions:
            margin = before.values[row_metrics.MARGIN][first, at]
            now = examples.rank_agreement(margin, right[:, positions[name]])
            last = examples.rank_agreement(margin, right[:, -1])
            yield {
                **{column: tuned.line[column] for column in PLACE},
                "checkpoint": name,
                "examples": len(shared),
                **dict(zip(("agreement", "low", "high"), now, strict=True)),
                **dict(zip(("with_last", "last_low", "last_high"), last, strict=True)),
            }


def say_dynamics(results: Results, tables):
    """What base models learn and forget, and what the margin says of fine-tuning."""
    table = tables["example_dynamics"]
    followed = table[table["examples"] > 0]
    for model, members in followed.groupby("model", sort=False):
        total = members["examples"].sum()
        parts = [
            f"{members[column].sum() / total:.0%} {state}" for column, state in _COUNTS.items()
        ]
        worst = members.assign(share=members["forgotten"] / members["examples"])
        worst = worst.sort_values("share", ascending=False).iloc[0]
        yield Sentence(
            f"Of {total:,} examples followed over {model} models ({count(len(members), 'curve')}), "
            f"{listed(parts)}; most are forgotten in {worst['task']} ({worst['share']:.0%})."
        )
    known = tables["margin_agreement"].dropna(subset=["agreement"])
    if len(known):
        clear = int((known["low"] > 0.5).sum())
        yield Sentence(
            "The base model's margin on an example says whether its fine-tuned model gets it right "
            f"in {clear} of {len(known)} comparisons (median agreement "
            f"{known['agreement'].median():.2f}; 0.50 is chance).",
            clear > len(known) / 2,
        )


def draw_dynamics(results: Results, tables):
    """Shares of examples known by checkpoint, base and fine-tuned, one panel per set."""
    table = tables["examples_by_checkpoint"]
    if table.empty:
        return None
    share = table.assign(share=table["known"] / table["examples"])
    first = share.drop_duplicates(["task"]).set_index("task")[["format", "shots", "suite"]]
    line, panels = figures.track(results), []
    for task, entry in first.iterrows():
        members = share[(share["task"] == task) & (share["suite"] == entry["suite"])]
        members = members[(members["format"] == entry["format"])]
        members = members[members["shots"] == entry["shots"]]
        tuned = members[members["tuned_on"] != ""].groupby("checkpoint", as_index=False)["share"]
        drawn = (
            figures.series(line, members[members["tuned_on"] == ""], figures.BASE, "share"),
            figures.series(line, tuned.mean(), figures.TUNED, "share"),
        )
        axis = figures.Axis("share of examples known")
        panels.append(figures.LinePanel(task, line.axis, axis, drawn, task=task))
    return figures.FigureSpec(figures.one_range(panels), (figures.BASE, figures.TUNED))


def show_dynamics(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: the curves whose examples can be followed."""
    table = table[table["examples"] > 0]
    return pd.DataFrame(
        {
            **series.place_columns(table),
            "format": table["format"],
            "examples": table["examples"],
            **{
                state: ["–" if pd.isna(one) else f"{one:.0f}" for one in table[column]]
                for column, state in _COUNTS.items()
            },
            "half learned by": [
                "" if pd.isna(one) else one for one in table["median_first_learned"]
            ],
        }
    )


MOST_SHOWN = 40  # examples that a reader looks at; all are in the CSV file


def show_examples(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: base models' forgotten examples, those forgotten most often first."""
    base = table[(table["model"] == series.BASE) & (table["state"] == examples.FORGOTTEN)]
    base = base.sort_values("forgotten_events", ascending=False, kind="stable").head(MOST_SHOWN)
    shown = ["task", "format", "row", "doc_id", "first_learned", "forgotten_at", "answers"]
    return base[shown].rename(columns={"task": "set"}).astype(str)


EXAMPLES = {
    **PLACE_COLUMNS,
    "row": "number of the test row",
    "doc_id": "its name in the set",
    "group": "group of rows",
    "state": "known from the start, learned, forgotten (was known for a while), never learned",
    "first_learned": "checkpoint from which on it is known; empty: never",
    "forgotten_at": "checkpoint from which on it is no longer known; empty: it is not forgotten",
    "learned_events": "steps from wrong to right between neighbouring checkpoints",
    "forgotten_events": "steps from right to wrong",
    "answers": "right (1) or wrong (0) by checkpoint",
}
DYNAMICS = {
    **PLACE_COLUMNS,
    "checkpoints": series.SERIES_COLUMNS["checkpoints"],
    "examples": "test rows that all checkpoints have",
    "known": "examples known from the start",
    "learned": "examples learned later and known to the end",
    "forgotten": "examples known for a while and not at the end",
    "never": "examples never learned",
    "median_first_learned": "checkpoint by which half of the learned examples are",
    "learned_events": "mean steps from wrong to right per example",
    "forgotten_events": "mean steps from right to wrong per example",
    "notes": "why the examples cannot be followed",
}
BY_CHECKPOINT = {
    **PLACE_COLUMNS,
    "checkpoint": "pre-training checkpoint",
    "first_learned": "examples first learned there",
    "forgotten": "examples no longer known from there on",
    "known": "examples known there",
    "examples": "all that are followed",
}
MARGIN = {
    **PLACE_COLUMNS,
    "checkpoint": "pre-training checkpoint of the base model's margin",
    "examples": "test rows that both models have",
    "agreement": "probability that an example which the model fine-tuned from this checkpoint gets "
    "right had a larger base margin than one which it does not",
    "low": "lower end of its 95 % interval (Hanley and McNeil)",
    "high": "upper end of its 95 % interval",
    "with_last": "the same with the model fine-tuned from the last checkpoint",
    "last_low": "lower end of its 95 % interval",
    "last_high": "upper end of its 95 % interval",
}
_QUESTION = "Which examples are learned, and which forgotten"
RULE = (
    "An example is known over the most likely stretch of checkpoints: an unknown one is right as "
    "often as a guess, a known one but for 5 % of slips; a beginning after the first checkpoint, "
    "and an end before the last, cost the logarithm of the number of checkpoints each, so that a "
    "few lucky guesses are no learning. A model that always gives one answer seems to know the "
    "rows of which that is the right one."
)
ALL = (
    Analysis(
        "example_dynamics",
        "Examples learned and forgotten",
        example_dynamics,
        DYNAMICS,
        _QUESTION,
        draw_dynamics,
        RULE,
        say_dynamics,
        show_dynamics,
        across=True,
    ),
    Analysis(
        "examples_by_checkpoint",
        "Examples learned and forgotten by checkpoint",
        by_checkpoint,
        BY_CHECKPOINT,
        _QUESTION,
        across=True,
    ),
    Analysis(
        "margin_agreement",
        "Base margin and fine-tuned correctness",
        margin_agreement,
        MARGIN,
        _QUESTION,
        across=True,
    ),
    Analysis(
        "examples",
        "Every example",
        example_rows,
        EXAMPLES,
        _QUESTION,
        shown=show_examples,
        caption="Examples that a base model knew and lost, those that changed most often first; "
        "all of every model are in the table's CSV file.",
        across=True,
    ),
)
