"""The schedule and its warm-up."""

import pytest

from amuro_jax.train.optimizer import linear_schedule, warmup_steps


def test_schedule_warms_up_and_ends_at_zero():
    rate = linear_schedule(1.0, 100, 3)
    assert [rate(step) for step in (0, 1, 3)] == pytest.approx([0, 1 / 3, 1])
    assert rate(100) == 0 and rate(51) == pytest.approx(49 / 97)
    assert linear_schedule(1.0, 10, 0)(0) == 1.0


@pytest.mark.parametrize(
    "total,fraction,up,down",
    [(2250, 0.03, 68, 67), (16, 0.03, 1, 0), (100, 0.07, 7, 7), (100, 0.03, 3, 3), (10, 0.0, 0, 0)],
)
def test_warmup_is_rounded_up_and_by_the_paper_down(total, fraction, up, down):
    assert warmup_steps(total, fraction) == up
    assert warmup_steps(total, fraction, rounded_down=True) == down
