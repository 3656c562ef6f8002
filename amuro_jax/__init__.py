"""amuro_jax: what a language model learns and forgets, checkpoint by checkpoint.

Public names; each is imported at its first use, so that `import amuro_jax` needs no jax:

    open_checkpoint   a checkpoint by Hub name, folder, native folder
    load_model        the same with its parameters on the devices
    Scorer            batched log-likelihoods and generation on token ids
    fine_tune, score  one fine-tuning; one score with its rows
    run_study         a whole study, resumable
    load_results      its tables, findings and figures by name

and the types Model, Recipe, Scoring, TrainRun, ScoreRun, StudyConfig, FineTune, EvalSet, ModelRef,
Cell, ScoreRecord, TrainRecord. docs/api.md has examples.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "amuro_jax.api": (
        "Model",
        "Scorer",
        "fine_tune",
        "load_model",
        "open_checkpoint",
        "run_study",
        "score",
    ),
    "amuro_jax.config": (
        "EvalSet",
        "FineTune",
        "Recipe",
        "ScoreRun",
        "Scoring",
        "StudyConfig",
        "TrainRun",
    ),
    "amuro_jax.report.reading": ("load_results",),  # not by way of api: results need no jax
    "amuro_jax.records": ("Cell", "ModelRef", "ScoreRecord", "TrainRecord"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str):
    """The public name, from the module where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__():
    return __all__
