"""The part of a study that a scheduler's environment means."""

import pytest

from amuro_jax.errors import ConfigError
from amuro_jax.study import plan, shards
from tests.study import synthetic


def test_parts_are_disjoint_and_complete():
    revisions = synthetic.revisions((1, 2, 3, 4, 5))
    parts = [plan.share(revisions, *shards.parse(f"{index}/2")) for index in range(2)]
    assert parts == [{"step1", "step3", "step5"}, {"step2", "step4"}]


@pytest.mark.parametrize(
    "environment, part",
    [
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2",
          "SLURM_ARRAY_TASK_COUNT": "4"}, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "3"}, (0, 3)),
        ({"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "8"}, (3, 8)),
    ],
)  # fmt: skip
def test_of_a_scheduler(environment, part):
    assert shards.parse("auto", environment) == part


@pytest.mark.parametrize("name", ["ID", "MIN", "STEP", "COUNT"])
def test_a_scheduler_that_tells_no_number(name):
    """As in a shell where somebody set one of its variables by hand."""
    told = dict.fromkeys(("ID", "MIN", "STEP", "COUNT"), "1") | {name: "x"}
    environment = {f"SLURM_ARRAY_TASK_{name}": text for name, text in told.items()}
    with pytest.raises(ConfigError, match="which part this is"):
        shards.parse("auto", environment)


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "0/0", "auto"])
def test_what_is_no_part(text):
    with pytest.raises(ConfigError, match="part"):
        shards.parse(text, {"JOB_COMPLETION_INDEX": "0"})
