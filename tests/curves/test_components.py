"""Components of variance against textbook analysis of variance, REML, and over many draws."""

import numpy as np
import pytest

from amuro_jax.curves.components import REST, Design


def design(seeds=4, formats=3, checkpoints=5, keep=1.0, rng=None):
    """Levels of a crossed design; unbalanced where only a share is kept."""
    grid = np.stack(np.meshgrid(*map(np.arange, (seeds, formats, checkpoints)), indexing="ij"))
    levels = grid.reshape(3, -1)
    if keep < 1:
        levels = levels[:, np.sort(rng.permutation(levels.shape[1])[: int(keep * levels.shape[1])])]
    return dict(zip(("seed", "format", "checkpoint"), levels, strict=True))


def draw(rng, factors, deviations, rest):
    values = rest * rng.normal(size=len(factors["seed"]))
    for name, levels in factors.items():
        values += (deviations[name] * rng.normal(size=levels.max() + 1))[levels]
    return values


SET_IN = {"seed": 0.02, "format": 0.05, "checkpoint": 0.1}


def test_a_balanced_design_is_the_analysis_of_variance():
    rng, factors = np.random.default_rng(0), design()
    values = draw(rng, factors, SET_IN, 0.01)
    table = values.reshape(4, 3, 5)
    seeds = table.mean(axis=(1, 2))
    fitted = sum(
        table.mean(axis=axes, keepdims=True) - table.mean() for axes in ((1, 2), (0, 2), (0, 1))
    )
    rest = np.square(table - table.mean() - fitted).sum() / (60 - 1 - 3 - 2 - 4)
    made = Design(factors).split(values)
    assert made[REST].variance == pytest.approx(rest)
    expected = seeds.var(ddof=1) - rest / 15
    assert made["seed"].variance == pytest.approx(expected) and made["seed"].freedom == 3


def test_reml_agrees_on_a_balanced_design_and_is_near_on_an_unbalanced_one():
    import pandas as pd
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng = np.random.default_rng(1)
    for keep, tolerance in ((1.0, 0.01), (0.75, 0.15)):
        factors = design(6, 5, 6, keep, rng)
        values = draw(rng, factors, SET_IN, 0.01) * 20
        data = pd.DataFrame({**factors, "value": values, "whole": 1})
        effects = {name: f"0 + C({name})" for name in ("format", "seed")}
        fit = MixedLM.from_formula(
            "value ~ C(checkpoint)", data, groups="whole", vc_formula=effects
        )
        theirs = fit.fit(reml=True, method=["powell", "lbfgs"])
        made = Design(factors).split(values)
        for name, variance in zip(sorted(effects), theirs.vcomp, strict=True):
            assert made[name].variance == pytest.approx(variance, rel=tolerance), (keep, name)
        assert made[REST].variance == pytest.approx(theirs.scale, rel=tolerance)


@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_intervals_cover_over_many_draws(keep):
    """1,000 draws of a design with few levels: 95 % intervals hold 92 to 98 %, zero included."""
    rng, deviations = np.random.default_rng(2), {**SET_IN, "format": 0.0}
    factors = design(keep=keep, rng=rng)
    known = Design(factors)
    truth = {name: value**2 for name, value in deviations.items()} | {REST: 0.02**2}
    inside, means = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0.0)
    for _ in range(1000):
        made = known.split(draw(rng, factors, deviations, 0.02))
        for name, variance in truth.items():
            inside[name] += made[name].low <= variance <= made[name].high
            means[name] += made[name].variance / 1000
    assert all(920 <= count <= 985 for count in inside.values()), inside
    assert means["checkpoint"] == pytest.approx(0.1**2, rel=0.1)
    assert means[REST] == pytest.approx(0.02**2, rel=0.05)


def test_a_design_that_leaves_nothing_is_refused():
    factors = {"seed": np.arange(4)}
    with pytest.raises(ValueError, match="no degrees of freedom"):
        Design(factors)


def test_groups_of_different_sizes_are_the_textbook_estimate():
    """Of one factor: scores per level are (N − Σ n² / N) / (levels − 1)."""
    sizes = (1, 1, 10)
    levels = np.repeat(np.arange(3), sizes)
    values = np.array([0.0, 2.0, 5.0])[levels] + 0.1 * np.random.default_rng(3).normal(size=12)
    means = np.array([values[levels == one].mean() for one in range(3)])
    between = sum(sizes * (means - values.mean()) ** 2) / 2
    within = ((values - means[levels]) ** 2).sum() / 9
    made = Design({"level": levels}).split(values)
    each = (12 - (1 + 1 + 100) / 12) / 2
    assert made["level"].variance == pytest.approx((between - within) / each)
    assert made[REST].variance == pytest.approx(within)


def test_factors_that_are_one_and_the_same_are_not_told_apart():
    factors = design()
    factors["again"] = factors["checkpoint"]
    made = Design(factors).split(np.random.default_rng(4).normal(size=60))
    assert set(made) == {"seed", "format", REST}
