"""The study's analyses, in the order of the report; what the report makes of them follows from
these records. No jax.
"""

from amuro_jax.analyses import (
    audited,
    averages,
    change_points,
    domains,
    dynamics,
    foreseen,
    formats,
    gains,
    ladder,
    late_falls,
    learned,
    overtraining,
    prediction,
    published,
    quirks,
    repeats,
    scores,
    sensitivity,
    shots,
    signal,
    transfer,
    turning,
    variance,
)
from amuro_jax.analyses.analysis import Analysis, Tables, installed_analyses
from amuro_jax.results.results import Results

ANALYSES: tuple[Analysis, ...] = (
    scores.SCORES,
    learned.LEARNED,
    learned.BY_FORMAT,
    gains.BY_GROUP,
    turning.TURNING,
    change_points.CHANGE_POINTS,
    late_falls.FALLS,
    overtraining.OVERTRAINING,
    sensitivity.SENSITIVITY,
    sensitivity.FORGETTING,
    foreseen.FORESEEN,
    signal.SIGNAL,
    signal.BITS,
    signal.AGREEMENT,
    ladder.LADDER,
    prediction.PREDICTION,
    prediction.PREDICTED,
    domains.DOMAINS,
    domains.BY_CHECKPOINT,
    transfer.MATRIX,
    transfer.BY_KIND,
    transfer.BY_CHECKPOINT,
    transfer.MRC_BY_KIND,
    transfer.MRC,
    formats.SENSITIVITY,
    formats.SPREAD,
    variance.VARIANCE,
    variance.COUNTED,
    shots.SHOTS,
    quirks.QUIRKS,
    repeats.SEEDS,
    repeats.VARIANTS,
    repeats.RATES,
    averages.AVERAGES,
    *dynamics.ALL,
    gains.GAINS,
    published.PUBLISHED,
    audited.AUDIT,
    scores.CELLS,
    scores.MISSING,
)


def all_analyses() -> tuple[Analysis, ...]:
    """The study's analyses and those of other packages and of this process; one of the same name
    replaces the study's.
    """
    by_name = {one.name: one for one in (*ANALYSES, *installed_analyses())}
    return tuple(by_name.values())


def tables_of(results: Results) -> Tables:
    """Every analysis's table, made on demand: `tables_of(results)["learned"]`."""
    return Tables(results, all_analyses())
