"""Results written by hand, for tests whose answers are worked out by hand."""

import numpy as np
import pandas as pd

from amuro_jax.results.draws import PairedDraws
from amuro_jax.results.results import WANTED, Results


def cell(
    checkpoint,
    tuned_on,
    task,
    value,
    role="in_domain",
    of=None,
    format="default",
    majority=0.5,
    metric="accuracy",
):
    return {
        "key": f"{checkpoint}{tuned_on}{task}{format}",
        "checkpoint": checkpoint,
        "step": int(checkpoint[1:]),
        "tokens": None,
        "tuned_on": tuned_on,
        "variant": "",
        "seed": None,
        "task": task,
        "role": role,
        "format": format,
        "shots": 4,
        "of": (task,) if of is None else of,
        "group": "",
        "metric": metric,
        "value": value,
        "stderr": 0.01,
        "low": value - 0.02,
        "high": value + 0.02,
        "n": 4,
        "majority": majority,
        "chance": None,
    }


def made(cells, rows=None, missing=(), resamples=200) -> Results:
    """Results of hand-written cells; by default every draw is the value itself (no uncertainty)."""
    frame = pd.DataFrame(cells)
    draws = (
        {line.key: np.full(resamples, line.value) for line in frame.itertuples()}
        if rows is None
        else PairedDraws(frame, rows.get, resamples)
    )
    main = {task: ("default", 4) for task in frame["task"]}
    lost = pd.DataFrame(missing, columns=[*WANTED, "why"])
    return Results("hand", sorted(frame["checkpoint"].unique()), frame, lost, main, draws)
