"""Numbers as words: the same form in findings and tables. No jax.

± has one meaning in the report: half the width of the 95 % interval.
"""

import pandas as pd

from amuro_jax.results.estimate import EQUIVALENCE_MARGIN

EQUIVALENT_LEVEL = 0.05  # p-value below which no change beyond the margin is said
UNCLEAR = "not distinguishable from no change"


def signed(value: float, digits: int = 3) -> str:
    """`+0.120`, `−0.120`."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−" if float(text) else "+")  # no negative zero


def plus_minus(value: float, low: float, high: float, *, sign: bool = True, scale=1.0, digits=3):
    """`+0.120 ± 0.030`: the value and half the width of its 95 % interval; – of a missing value."""
    if pd.isna(value):
        return "–"
    text = signed(value * scale, digits) if sign else f"{value * scale:.{digits}f}"
    return text if pd.isna(low) else f"{text} ± {(high - low) / 2 * scale:.{digits}f}"


def with_interval(row, name: str = "change", prefix: str = "") -> str:
    """`+0.120 (95 % interval +0.090 to +0.150)`."""
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return f"{signed(row[name])} (95 % interval {signed(low)} to {signed(high)})"


def unclear(row, prefix: str = "") -> str:
    """What is said of an interval that holds zero: no change beyond the margin of equivalence where
    that is shown, else that none can be distinguished, with the largest change it allows.
    """
    if row.get(f"{prefix}p_equivalent", 1.0) < EQUIVALENT_LEVEL:
        return f"no change beyond ±{EQUIVALENCE_MARGIN:g}"
    most = max(abs(row[f"{prefix}low"]), abs(row[f"{prefix}high"]))
    return f"{UNCLEAR} (at most {most:.3f} either way)"


def is_clear(row, prefix: str = "") -> bool:
    """Whether the interval of a table's row leaves zero out."""
    return bool(row[f"{prefix}low"] > 0 or row[f"{prefix}high"] < 0)


def effect(row, name: str = "change", prefix: str = "") -> float:
    """Size of a change in standard errors, for the order of findings; 0 where it is not known."""
    error = row[f"{prefix}stderr"]
    return 0.0 if pd.isna(error) or error <= 0 else abs(row[name]) / error


def listed(names) -> str:
    """`a, b and c`; `none` of nothing."""
    names = list(names)
    if not names:
        return "none"
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def count(number: int, noun: str) -> str:
    """`1 set`, `2 sets`."""
    return f"{number} {noun}{'s' * (number != 1)}"
