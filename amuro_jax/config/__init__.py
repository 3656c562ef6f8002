"""Typed run configurations, one per verb, and how a file and flags become one. Imports no jax.

Everything here is a frozen value. What determines a number (`Recipe`, `Scoring`) is separate from
where and how fast it is computed (`TrainRun`, `ScoreRun`, folders): the first enters content keys,
the second never does. In every block None means "not set": inherit, no limit, or let the program
choose, as the field's comment says.

A configuration file is a Python module under `configs/` with `get_config()`, or
`get_config(argument)` for `--config=FILE.py:ARGUMENT`; its docstring is the command that runs it.
Any field can be overridden on the command line (`--config.recipe.learning_rate=1e-5`); an unknown
field is an error.
"""

from amuro_jax.config.blocks import (
    AttentionName,
    Dtype,
    EvalSet,
    FineTune,
    Group,
    LabConfig,
    LabModel,
    Loss,
    Method,
    Metric,
    Probe,
    ProtocolName,
    RayTask,
    Recipe,
    Remat,
    Role,
    Schedule,
    ScoreConfig,
    ScoreRun,
    Scoring,
    Spacing,
    StudyConfig,
    TrainConfig,
    TrainRun,
    WeightNoise,
)
from amuro_jax.config.checks import (
    require,
    require_fields,
    require_positive,
    require_seeds,
    validate_recipe,
    validate_score,
    validate_score_run,
    validate_scoring,
    validate_shots,
    validate_train,
    validate_train_run,
)
from amuro_jax.config.values import (
    changes,
    checked,
    entry_name,
    from_dict,
    misspelt,
    override,
    to_dict,
)

__all__ = [
    "AttentionName",
    "Dtype",
    "EvalSet",
    "FineTune",
    "Group",
    "LabConfig",
    "LabModel",
    "Loss",
    "Method",
    "Metric",
    "Probe",
    "ProtocolName",
    "RayTask",
    "Recipe",
    "Remat",
    "Role",
    "Schedule",
    "ScoreConfig",
    "ScoreRun",
    "Scoring",
    "Spacing",
    "StudyConfig",
    "TrainConfig",
    "TrainRun",
    "WeightNoise",
    "checked",
    "entry_name",
    "from_dict",
    "misspelt",
    "override",
    "require",
    "require_fields",
    "require_positive",
    "require_seeds",
    "changes",
    "to_dict",
    "validate_recipe",
    "validate_score",
    "validate_score_run",
    "validate_scoring",
    "validate_shots",
    "validate_train",
    "validate_train_run",
]
