"""Where the variance of a score comes from: prompt formats, shots, training seeds, test rows. No
jax.
"""

import warnings

import numpy as np
import pandas as pd

from amuro_jax.analyses.analysis import Analysis
from amuro_jax.analyses.changes import PLACE_COLUMNS
from amuro_jax.results.results import Results

SOURCES = {"format": "format", "shots": "shots", "seed": "seed"}  # component → column
OPTIMISERS = ["powell", "lbfgs"]  # one without gradients first: variances lie on the edge
FEWEST_REST = 2  # degrees of freedom that must be left for the rest


def variance(results: Results, _=None) -> pd.DataFrame:
    """Standard deviations of a set's scores by source, a line per set and model that was scored in
    several formats, with several numbers of shots or from several seeds.

    A mixed model by restricted maximum likelihood (statsmodels' MixedLM): checkpoints are fixed,
    each source that has several levels is a random effect. `rows` is the standard error of a score
    over test rows, beside the model.
    """
    lines = []
    every = results.cells if results.every is None else results.every
    models = ["task", "tuned_on", "variant"]
    for (task, tuned_on, variant), cells in every.groupby(models, sort=False):
        for column in SOURCES.values():  # a single score says nothing of its level
            size = cells.groupby(column, dropna=False)[column].transform("size")
            cells = cells[size > 1]
        levels = {source: cells[column].nunique() for source, column in SOURCES.items()}
        sources = [source for source, count in levels.items() if count > 1]
        if not sources:
            continue
        components, note = _components(cells, sources)
        rows = float(np.sqrt((cells["stderr"].astype(float) ** 2).mean()))
        known = [value for value in components.values() if not np.isnan(value)]
        lines.append(
            {
                "task": task,
                "tuned_on": tuned_on,
                "variant": variant,
                "scores": len(cells),
                **{f"{source}_levels": levels[source] for source in SOURCES},
                **{source: components.get(source, np.nan) for source in SOURCES},
                "rest": components.get("rest", np.nan),
                "rows": rows,
                "one_score": float(np.sqrt(sum(value**2 for value in known) + rows**2))
                if known and not np.isnan(rows)
                else np.nan,
                "note": note,
            }
        )
    return pd.DataFrame(lines)


def _components(cells, sources):
    """Standard deviation by source and of the rest; a note where they cannot be estimated."""
    checkpoints = cells["checkpoint"].nunique()
    levels = sum(cells[SOURCES[source]].nunique() - 1 for source in sources)
    if len(cells) - checkpoints - levels < FEWEST_REST:
        return {}, "too few scores to separate the sources"
    if cells["value"].std() == 0:
        return {**dict.fromkeys(sources, 0.0), "rest": 0.0}, "all scores are the same"
    from statsmodels.regression.mixed_linear_model import MixedLM

    effects = {source: f"0 + C({SOURCES[source]})" for source in sources}
    fixed = "value ~ C(checkpoint)" if checkpoints > 1 else "value ~ 1"
    scale = float(cells["value"].std())  # the optimiser's tolerances are for values near 1
    data = cells.assign(value=cells["value"].astype(float) / scale, whole=1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            model = MixedLM.from_formula(fixed, groups="whole", vc_formula=effects, data=data)
            fit = model.fit(reml=True, method=OPTIMISERS)
        except (np.linalg.LinAlgError, ValueError) as error:
            return {}, f"cannot be estimated: {error}"
    if not fit.converged or not np.isfinite(fit.vcomp).all():
        return {}, "the fit did not converge"
    components = {
        source: scale * float(np.sqrt(max(0.0, value)))
        for source, value in zip(sorted(sources), fit.vcomp, strict=True)
    }
    edge = any("boundary" in str(one.message) for one in warned)
    note = "a source of zero variance lies on the edge of the model" if edge else ""
    return {**components, "rest": scale * float(np.sqrt(fit.scale))}, note


VARIANCE = Analysis(
    "variance",
    "Where the variance of a score comes from",
    variance,
    {
        **{name: PLACE_COLUMNS[name] for name in ("task", "tuned_on")},
        "variant": "way of tuning; empty: the only one",
        "scores": "scores of the set and model, over checkpoints and all sources",
        **{f"{source}_levels": f"number of {column}s" for source, column in SOURCES.items()},
        "format": "standard deviation between prompt formats; missing: only one",
        "shots": "standard deviation between numbers of shots; missing: only one",
        "seed": "standard deviation between training seeds; missing: only one",
        "rest": "standard deviation of what none of these explains (their interactions with the "
        "checkpoint, and test rows)",
        "rows": "standard error of one score over test rows (root of the mean square)",
        "one_score": "standard deviation of one score over all of these sources",
        "note": "why something is missing, or how sure it is",
    },
    "How much depends on the prompt format",
    caption="Standard deviations of scores around their checkpoint, from a mixed model (restricted "
    "maximum likelihood). Few levels give a rough estimate of their variance.",
)
