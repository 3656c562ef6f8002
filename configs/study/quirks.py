"""What do the quirks of the published training do? The laboratory's NLI and paraphrase sets, each
tuned as it was meant, and with one quirk at a time.

  amuro study --config=configs/study/quirks.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/quirks

Expect the table `variants`: every quirk's score less the one without it, on the same rows, by
checkpoint, with Holm's correction. Completions of these sets are one to three tokens, so the loss
as a mean of means is nearly the mean over tokens, and one step of warm-up more changes little:
differences should be within their intervals; docs/answers.md has what the last checkpoint gave.
Quirks of scoring: docs/protocols.md, "What each quirk does". `amuro plan`: 32 fine-tunings and 72
scores, under 0.001 chip-hours of a v5e by roofline, 0.04 GB of disk.
"""

from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

SETS = ("lab_nli", "lab_paraphrase")
QUIRKS = ("loss_mean_per_example", "warmup_rounded_down", "published_templates")


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="quirks of training",
        select="log:4",
        formats=("default",),
        shots=(0,),
        fine_tunes=tuple(
            FineTune(task, variant=quirk, quirks=(f"+{quirk}",) if quirk else None)
            for task in SETS
            for quirk in ("", *QUIRKS)
        ),
        evals=tuple(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in SETS),
        recipe=Recipe(
            rows=1000,
            learning_rate=5e-4,
            batch_size=16,
            dtype=Dtype.FLOAT32,
            max_length=256,
        ),
        scoring=Scoring(rows=150),
    )
