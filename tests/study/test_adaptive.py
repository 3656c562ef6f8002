"""An adaptive study: which checkpoints it scores, and what it says of faulty series."""

import dataclasses

import pytest

from amuro_jax.config import EvalSet, Role
from amuro_jax.convert.revisions import Revision
from amuro_jax.errors import ConfigError
from amuro_jax.study import adaptive, plan
from tests.study import synthetic

STEPS = tuple(2**place for place in range(16))


def truth(task, tuned_on, progress):
    """Reaches its end at a third of the (logarithmic) way; the other set learns nothing."""
    return 0.25 + 0.6 * min(progress / 0.33, 1) if task == "lab_attributes" else 0.34


def scorer(rounds, **changes):
    """Writes the cells of the checkpoints that are asked for, as the executor would."""

    def score(config, revisions, report, only):
        rounds.append(only)
        done = set().union(*rounds)
        asked = plan.make_plan(config, revisions)
        lost = {cell.identity for cell in asked.cells if cell.model.checkpoint not in done}
        synthetic.make_store(config.workdir, lost, 200, STEPS, truth, **changes)
        return []

    return score


def study(workdir):
    changes = {
        "fine_tunes": (),
        "formats": ("default",),
        "evals": (
            EvalSet("lab_nli", Role.IN_DOMAIN),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
        ),
    }
    return dataclasses.replace(synthetic.config(workdir, 200), **changes), changes


def test_few_checkpoints_are_scored_and_the_end_is_found(tmp_path):
    rounds, said = [], []
    config, changes = study(tmp_path)
    revisions = synthetic.revisions(STEPS)
    adaptive.run(config, revisions, said.append, scorer(rounds, noise=0.02, **changes))
    assert rounds[0] == {"step1", "step16384", "step32768"}
    assert all(len(one) == 1 for one in rounds[1:])
    scored = len(set().union(*rounds))
    assert scored <= 8 and f"{scored} of 16 checkpoints scored" in said[-1]
    assert "base: lab_nli default 4-shot: not learned; " in said[-1]
    assert "base: lab_attributes default 4-shot: learned, its end is reached between" in said[-1]
    # The way to the end is a third of 15 doublings: step 32.
    between = said[-1].split("between ")[1].split(";")[0]
    assert between in ("step8 and step16", "step16 and step32", "step32 and step64")


@pytest.mark.parametrize(
    "revisions",
    [
        synthetic.revisions((1, 2, 3)),
        [Revision(f"m@{name}", name) for name in "abcd"],
        [Revision(f"m@s{step}", f"s{step}", step) for step in (1, 2, 2, 4)],
    ],
)
def test_a_series_that_cannot_be_searched_is_refused(revisions, tmp_path):
    with pytest.raises(ConfigError, match="are needed"):
        adaptive.run(study(tmp_path)[0], revisions)
