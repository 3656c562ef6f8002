"""Intervals of the sensitivity to noise: 1,000 made-up series of each size."""

import numpy as np
import pytest

from amuro_jax.curves.sensitivity import sensitivities

SERIES = 1000


def coverage(checkpoints, draws, rows_sd=0.02, draws_sd=0.03):
    """Share of intervals that hold the true change."""
    generator, inside = np.random.default_rng(0), []
    truth = -np.linspace(0.05, 0.3, checkpoints)
    for _ in range(SERIES):
        rows = rows_sd * generator.standard_normal(checkpoints)
        noise = draws_sd * generator.standard_normal((checkpoints, draws))
        changes = [*(truth[:, None] + rows[:, None] + noise)]
        made = sensitivities(changes, np.full(checkpoints, rows_sd))
        inside += [one.low <= true <= one.high for one, true in zip(made, truth, strict=True)]
    return np.mean(inside)


@pytest.mark.parametrize("checkpoints,draws", [(5, 2), (8, 3), (3, 5)])
def test_intervals_cover(checkpoints, draws):
    assert 0.94 <= coverage(checkpoints, draws) <= 0.985


@pytest.mark.parametrize("rows_sd,draws_sd", [(0.02, 0.0), (0.001, 0.05)])
def test_either_part_alone_covers(rows_sd, draws_sd):
    assert 0.94 <= coverage(6, 3, rows_sd, draws_sd) <= 0.985


def test_one_draw_has_no_interval():
    (one,) = sensitivities([np.array([-0.1])], np.array([0.02]))
    assert one.change == pytest.approx(-0.1) and np.isnan(one.low) and np.isnan(one.draws_sd)


if __name__ == "__main__":  # the table of docs/curves.md
    for checkpoints, draws in ((5, 2), (8, 3), (3, 5)):
        print(checkpoints, draws, f"{coverage(checkpoints, draws):.3f}")
