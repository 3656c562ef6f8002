"""Conditions are read, never run."""

import pyarrow as pa
import pytest

from amuro_jax.errors import ConfigError
from amuro_jax.results.conditions import select

TABLE = pa.table(
    {
        "task": ["paws", "paws", "mnli", "xsum"],
        "value": [0.5, 0.75, None, -0.25],
        "step": pa.array([1, 20, 300, None], pa.int64()),
        "done": [True, False, True, None],
        "rows": [["a"], [], None, ["b"]],
    }
)


@pytest.mark.parametrize(
    "text,places",
    [
        ("", [0, 1, 2, 3]),
        ("task == 'paws'", [0, 1]),
        ("task=='paws' and value>0.5", [1]),
        ("task == 'mnli' or step == 1", [0, 2]),
        ("not task == 'paws'", [2, 3]),
        ("task in ('mnli', \"xsum\")", [2, 3]),
        ("task not in ['mnli']", [0, 1, 3]),
        ("value == None", [2]),
        ("step != None and (value < 0.6 or value == None)", [0, 2]),
        ("1 < step <= 300", [1, 2]),
        ("value < -0.2", [3]),
        ("step >= 1.5", [1, 2]),
        ("done == True", [0, 2]),
        ("value == value", [0, 1, 3]),
        ("value < step", [0, 1]),
        ("step in (1.5, 300.0)", [2]),
        ("step not in (300,)", [0, 1]),  # a missing one fits neither
        ("not step in (300,)", [0, 1]),
        ("step in (None, 1)", [0, 3]),
        ("step not in (None, 1)", [1, 2]),
        ("done not in (True,)", [1]),
        ("value < +0.6", [0, 3]),
    ],
)
def test_a_condition_selects_lines(text, places):
    numbered = TABLE.append_column("at", pa.array(range(4)))
    assert select(numbered, text)["at"].to_pylist() == places


@pytest.mark.parametrize(
    "text,why",
    [
        ("__import__('os').system('touch /tmp/x') == 1", "is no comparison"),
        ("task.__class__ == 'x'", "is no comparison"),
        ("[x for x in (1,)] == 1", "is no comparison"),
        ("(lambda: 1)() == 1", "is no comparison"),
        ("task == f'{1}'", "is no comparison"),
        ("step + 1 == 2", "is no comparison"),
        ("step == 1 if done else 2", "is no comparison"),
        ("(y := 1) == 1", "is no comparison"),
        ("1 == 1", "is no comparison"),
        ("task is None", "is no comparison"),
        ("task", "is no comparison"),
        ("@task == 1", "no condition"),
        ("task = 'paws'", "no condition"),
        ("tsk == 'paws'", "no column 'tsk'"),
        ("task == 3", "column task is of text, 3 is not"),
        ("task == value", r"cannot be compared: task \(string\) and value \(double\)"),
        ("done == step", "cannot be compared"),
        ("rows == rows", "cannot be compared"),
        ("rows == 1", "does not fit|is of list"),
        ("step" + "<=9" * 3000, "^.{0,160}is no comparison"),
        ("step == 'x'", "column step is of int64, 'x' is not"),
        ("step in (1, 'x')", "column step is of int64"),
        ("step == 99999999999999999999999", "does not fit"),
        ("not " * 200 + "task == 'a'", "nested too deeply|no condition"),
        ("task == 'a'" + " " * 20_000 + "x", "longer than"),
        ("\x00", "no condition"),
        ("(" * 9000, "no condition"),
    ],
)
def test_all_else_is_refused(text, why):
    with pytest.raises(ConfigError, match=why):
        select(TABLE, text)
