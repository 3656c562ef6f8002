"""The long grid on one laboratory: what fine-tuning gives from every checkpoint, at a fixed rate
and at one chosen for each, with three seeds; averages of checkpoints; sensitivity to noise.

  make answers                     six laboratories, one such study of each, hours, resumable
  amuro study --config=configs/study/answers.py:full --config.suite=$LAB/checkpoints \\
    --config.data_root=$LAB/data --config.workdir=work/answers/study

`full` is four fine-tuning sets from twelve checkpoints; `nli` is NLI from all checkpoints of a
shorter laboratory; `short` and `short_text` are one set each (NLI, summaries) from five checkpoints
with fewer rows, for two cores (docs/answers.md has what was run, and what it gave). Expect the
tables `overtraining`, `averages`, `sensitivity`, `seeds`, `rates` and `variance`.
"""

from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    Recipe,
    Role,
    Scoring,
    StudyConfig,
    WeightNoise,
)
from amuro_jax.errors import ConfigError

PAIRS = ("lab_nli", "lab_paraphrase")
TEXTS = ("lab_question", "lab_summary")
SEEDS = (42, 43, 44)


def get_config(length: str = "full") -> StudyConfig:
    """The study of a length."""
    if length not in _LENGTHS:
        raise ConfigError(
            f"no length {length!r}",
            where="configs/study/answers.py",
            hint="one of " + ", ".join(_LENGTHS),
        )
    return _LENGTHS[length]()


def _full():
    return StudyConfig(
        name="answers",
        fine_tunes=(
            *(_pairs(task, 1200, 3, (1e-4, 5e-4, 2e-3)) for task in PAIRS),
            *(FineTune(task, rows=400, epochs=2) for task in TEXTS),
        ),
        evals=(
            *_evals(PAIRS + TEXTS),
            EvalSet("lab_paraphrase_said", Role.OUT_OF_DOMAIN, of=("lab_paraphrase",)),
        ),
        averages=(4,),
        noise=WeightNoise(sigmas=(0.03, 0.1, 0.3), draws=3),
        **_common(150),
    )


def _nli():
    return StudyConfig(
        name="answers, NLI",
        fine_tunes=(_pairs("lab_nli", 1200, 3, (2e-3, 4e-3, 8e-3), fixed=4e-3),),
        evals=_evals(("lab_nli",)),
        averages=(3,),
        noise=WeightNoise(sigmas=(0.1, 0.3), draws=2),
        **_common(150),
    )


def _short():
    return StudyConfig(
        name="answers",
        select="log:5",
        fine_tunes=(_pairs("lab_nli", 500, 2, (5e-4, 2e-3)),),
        evals=_evals(("lab_nli",)),
        averages=(3,),
        noise=WeightNoise(sigmas=(0.1, 0.3), draws=2),
        **_common(100),
    )


def _short_text():
    summary = FineTune(
        "lab_summary",
        rows=400,
        epochs=2,
        learning_rate=1e-3,
        held_out_rows=100,
        learning_rates=(1e-3, 3e-3),
    )
    return StudyConfig(
        name="answers, text",
        select="log:5",
        fine_tunes=(summary,),
        evals=_evals(("lab_summary",)),
        averages=(3,),
        **_common(100),
    )


_LENGTHS = {"full": _full, "nli": _nli, "short": _short, "short_text": _short_text}


def _pairs(task, rows, epochs, rates, fixed=5e-4):
    """The rate is chosen by 100 of the rows."""
    return FineTune(
        task,
        rows=rows,
        epochs=epochs,
        learning_rate=fixed,
        held_out_rows=100,
        learning_rates=rates,
    )


def _evals(tasks):
    return (
        *(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in tasks),
        *(EvalSet(f"{name}_ood", Role.OUT_OF_DOMAIN, of=(name,)) for name in tasks),
        EvalSet("lab_attributes", Role.MULTIPLE_CHOICE, shots=(4,)),
        EvalSet("lab_events", Role.MULTIPLE_CHOICE, shots=(4,)),
    )


def _common(rows):
    return {
        "seeds": SEEDS,
        "shots": (0,),
        "recipe": Recipe(batch_size=16, learning_rate=1e-3, dtype=Dtype.FLOAT32, max_length=256),
        "scoring": Scoring(rows=rows, max_new_tokens=24),
    }
