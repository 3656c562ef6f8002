"""Where each set is learned: in pre-training, only in fine-tuning, or not at all. No jax."""

import numpy as np
import pandas as pd

from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import (
    CORRECTED_COLUMNS,
    LEVEL,
    PLACE_COLUMNS,
    baseline,
    change,
    floor,
    mean,
    uncertainty,
    uncertainty_columns,
)
from amuro_jax.analyses.words import count, listed, plus_minus
from amuro_jax.evals.statistics import holm
from amuro_jax.results.results import Results

PRE, FINE, NEITHER = "learned in pre-training", "learned in fine-tuning", "not above the baseline"
UNKNOWN = "unknown (cells are missing)"
NO_INTERVALS = "unknown (no standard errors)"
GROUPS = {"pre_training": PRE, "fine_tuning": FINE}
OWN = ("in_domain", "multiple_choice")


def learned_by_format(results: Results, _=None) -> pd.DataFrame:
    """The two tests of each set in each format, with Holm's correction over a set's formats.

    In pre-training: the last base model lies above the first one and above the baseline. In
    fine-tuning: the set's own fine-tuned model of the last checkpoint lies above its base model and
    above the baseline. Each is two comparisons of which both must hold, so its p-value is the
    larger one.
    """
    lines = []
    for task in results.tasks(*OWN):
        of_task = [_tests(results, task, name) for name in results.formats(task)]
        for test in ("rise", "gain"):
            for line, p in zip(of_task, holm([line[f"{test}_p"] for line in of_task]), strict=True):
                line[f"{test}_p_holm"] = p
        for line in of_task:
            line["family"] = f"{len(of_task)} formats of the set, each test"
        lines += of_task
    return pd.DataFrame(lines)


def _tests(results, task, format):
    shots, ends = results.main[task][1], (results.distinct[0], results.distinct[-1])
    first, last = (results.find(name, "", task, format, shots) for name in ends)
    tuned = [results.find(ends[-1], name, task, format, shots) for name in results.tuned_on(task)]
    height = np.nan if last is None else baseline(last)
    rise = results.estimate(change, [first, last])
    gain = results.estimate(change, [cell for one in tuned for cell in (last, one)])
    above = results.estimate(lambda score: score[..., 0] - floor(height), [last])
    tuned_above = results.estimate(lambda scores: mean(scores) - floor(height), tuned)
    return {
        "task": task,
        "format": format,
        "shots": shots,
        "baseline": height,
        "base": np.nan if last is None else last["value"],
        "rise": rise.value,
        **uncertainty(rise, "rise_"),
        "rise_p": _both(rise, above),
        "tuned": tuned_above.value + floor(height),
        "gain": gain.value,
        **uncertainty(gain, "gain_"),
        "gain_p": _both(gain, tuned_above),
    }


def _both(*parts):
    """p-value that all of the estimates are above zero; 1 where one is not."""
    if any(np.isnan(one.p) for one in parts):
        return np.nan
    return max(one.p if one.value > 0 else 1.0 for one in parts)


def learned(results: Results, tables) -> pd.DataFrame:
    """Where each set is learned: as configured, or by the tests of `learned_by_format`.

    A set is learned in pre-training when it is so in any format, the correction for their number
    included; else in fine-tuning when it is so in any format; else not at all.
    """
    tests, lines = tables["learned_by_format"], []
    for task in results.tasks(*OWN):
        of_task, stated = tests[tests["task"] == task], results.group(task)
        group, by = (GROUPS[stated], None) if stated else _group(of_task)
        agree = 0 if by is None else int((of_task[by] < LEVEL).sum())
        # The format that the decision hangs on: the one whose test is clearest.
        where = (
            of_task.sort_values([by, by.replace("_p_holm", "")], ascending=[True, False]).index[0]
            if by
            else of_task.index[0]
        )
        chosen = of_task.loc[where].drop(labels=["task", "shots"])
        lines.append(
            {
                "task": task,
                "group": group,
                "decided_by": "configuration" if stated else "test",
                "formats": len(of_task),
                "formats_agree": agree,
                **chosen,
            }
        )
    return pd.DataFrame(lines)


def _group(of_task):
    """The group, and the column of p-values that decides it."""
    if of_task["rise_p"].isna().all():
        return (NO_INTERVALS if of_task["rise"].notna().any() else UNKNOWN), None
    if (of_task["rise_p_holm"] < LEVEL).any():
        return PRE, "rise_p_holm"
    if (of_task["gain_p_holm"] < LEVEL).any():
        return FINE, "gain_p_holm"
    return NEITHER, None


def say_learned(results: Results, tables):
    """Which sets are learned where, each with the format that the answer hangs on."""
    table = tables["learned"]
    tested = table[table["decided_by"] == "test"]
    if tested.empty:
        return
    tested = tested[~tested["group"].isin([UNKNOWN, NO_INTERVALS])]
    if tested.empty:
        return
    before = tested[tested["group"] == PRE]
    if len(before):
        yield Sentence(
            f"Learned in pre-training: {_figures(before, 'rise')}; in that format the last base "
            f"model lies clearly above the first one and above the baseline{_unknown(before)}.",
            effect=_effect(before, "rise"),
        )
    else:
        yield Sentence(
            "No set is learned in pre-training alone: in no format does a last base model lie "
            "clearly above both the first one and the baseline.",
            False,
        )
    after = tested[tested["group"] == FINE]
    if len(after):
        yield Sentence(
            "Learned only in fine-tuning, the last checkpoint against its fine-tuned version: "
            f"{_figures(after, 'gain')}. In no format is the base model clearly above the "
            f"baseline and its start{_unknown(after)}.",
            effect=_effect(after, "gain"),
        )
    if len(never := tested[tested["group"] == NEITHER]):
        yield Sentence(
            "Neither base nor fine-tuned model is clearly above both the baseline and its start, "
            f"in any format: {listed(never['task'])}.",
            False,
        )


def _unknown(table):
    """The sets of which no baseline is known, for which only the other comparison is made."""
    names = list(table.loc[table["baseline"].isna(), "task"])
    return f" (no baseline is known of {listed(names)}: above zero)" if names else ""


def _figures(table, name):
    return listed(
        f"{row['task']} ({_where(row)}: "
        f"{plus_minus(row[name], row[f'{name}_low'], row[f'{name}_high'])})"
        for _, row in table.iterrows()
    )


def _where(row):
    if row["formats"] == 1:
        return row["format"]
    only = "in " + row["format"] + " only" if row["formats_agree"] == 1 else "in " + row["format"]
    return f"{only}, {row['formats_agree']} of {count(row['formats'], 'format')}"


def _effect(table, name):
    return float((table[name].abs() / table[f"{name}_stderr"]).replace(np.inf, np.nan).max())


def show_learned(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "set": table["task"],
            "group": table["group"],
            "decided by": table["decided_by"],
            "format": [
                f"{row.format} ({row.formats_agree} of {row.formats})"
                if row.formats_agree
                else row.format
                for row in table.itertuples()
            ],
            "baseline": [
                plus_minus(value, np.nan, np.nan, sign=False) for value in table["baseline"]
            ],
            "base, last − first": _pm(table, "rise"),
            "fine-tuned − base, last": _pm(table, "gain"),
        }
    )


def show_by_format(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "set": table["task"],
            "format": table["format"],
            "base, last − first": _pm(table, "rise"),
            "p (Holm)": [f"{value:.3f}" for value in table["rise_p_holm"]],
            "fine-tuned − base, last": _pm(table, "gain"),
            "p (Holm) ": [f"{value:.3f}" for value in table["gain_p_holm"]],
        }
    )


def _pm(table, name):
    columns = (table[name], table[f"{name}_low"], table[f"{name}_high"])
    return [plus_minus(*values) for values in zip(*columns, strict=True)]


TEST_COLUMNS = {
    **{name: PLACE_COLUMNS[name] for name in ("task", "format", "shots")},
    "baseline": "majority class or chance, whichever is higher",
    "base": "score of the last base model",
    "rise": "last − first base model",
    **uncertainty_columns("rise_", "of `rise`"),
    "rise_p": "p-value that the last base model is above the first one and above the baseline",
    "rise_p_holm": "the same, Holm's correction over the set's formats",
    "tuned": "mean score of the set's fine-tuned models of the last checkpoint",
    "gain": "fine-tuned − base at the last checkpoint",
    **uncertainty_columns("gain_", "of `gain`"),
    "gain_p": "p-value that the fine-tuned model is above its base model and above the baseline",
    "gain_p_holm": "the same, Holm's correction over the set's formats",
    "family": CORRECTED_COLUMNS["family"],
}
LEARNED = Analysis(
    "learned",
    "Where each set is learned",
    learned,
    {
        **{name: text for name, text in TEST_COLUMNS.items() if name not in ("shots",)},
        "group": "where the set is learned",
        "decided_by": "configuration, or test",
        "formats": "number of formats tested",
        "formats_agree": "number of formats in which the deciding test is clear",
        "format": "the format that the decision hangs on",
    },
    "Which sets are learned in pre-training, which in fine-tuning",
    caption="In pre-training: in some format the last base model lies clearly above the first one "
    "and above the baseline. In fine-tuning: that holds in no format, and in some format the "
    "fine-tuned model of the last checkpoint lies clearly above its base model and the baseline. "
    "p-values are corrected for the number of formats (Holm). Groups named in the configuration "
    "are taken as given.",
    sentences=say_learned,
    shown=show_learned,
    note="Format: the one that the decision hangs on, and in how many of the set's formats the "
    "deciding test is clear. ± is half the width of the 95 % interval.",
)
BY_FORMAT = Analysis(
    "learned_by_format",
    "Learned, format by format",
    learned_by_format,
    TEST_COLUMNS,
    "Which sets are learned in pre-training, which in fine-tuning",
    caption="The tests behind the table above, in every format. Each p-value is that of both "
    "comparisons (with the start or the base model, and with the baseline), corrected for the "
    "number of the set's formats by Holm's method.",
    shown=show_by_format,
)
