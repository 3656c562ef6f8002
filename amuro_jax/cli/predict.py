"""Predicts how checkpoints will fine-tune that were not fine-tuned, from their base scores and from
the checkpoints that were; and says how well that works in this store.

  amuro predict --workdir=work/study --topology=v5p:2x2x2
  amuro predict --workdir=work/published --config=configs/study/paper_olmo1b.py --topology=h100:8
  amuro predict work/worlds/0/study work/worlds/1/study work/worlds/2/study --judged=judged.csv

The first table judges the predictor on what is known, each checkpoint (fine-tuning set, series)
held out, --judged writes it with each by itself; the second has the expected score and gain of
every checkpoint that has a base score and no fine-tuned one, with 90 % intervals. Of several
folders the series of all are taken together: one is predicted from the others. With --topology,
what fine-tuning and scoring would cost: of the first folder's own study, or of --config (see
docs/plan.md). --where takes conditions on the columns of `amuro results`.
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "predict the gain of checkpoints that were not fine-tuned"
CONFIG = "StudyConfig"
FILES = "folders of stores, beside --workdir"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_config()
    flags.DEFINE_string("workdir", "", "Store with base scores and some fine-tuned ones.")
    flags.DEFINE_string("topology", "", "Devices, as of `amuro plan`; empty: no cost is said.")
    flags.DEFINE_string("out", "", "CSV file for the expected gains; empty: printed alone.")
    text = "CSV file for how well what is known is predicted, each held-out thing by itself."
    flags.DEFINE_string("judged", "", text)
    text = "Condition on the scores that are used, e.g. \"role != 'multiple_choice'\"."
    flags.DEFINE_string("where", "", text)
    flags.DEFINE_bool("check", True, "Judge the predictor on what is known.")


def main(workdirs: list[str]) -> None:
    """Prints both tables."""
    from amuro_jax import files
    from amuro_jax.analyses import prediction
    from amuro_jax.errors import AmuroError
    from amuro_jax.report import reading
    from amuro_jax.results import loading

    args = flags.FLAGS
    if not workdirs:
        configure.require_flags("workdir", hint="or name the folders of several stores")
    workdirs = ([args.workdir] if args.workdir else []) + workdirs
    loaded = loading.load_several(workdirs)
    if args.where:
        loaded = reading.restricted(loaded, args.where)
    if prediction.usable(loaded).empty:
        what = "no pair of sets with base and fine-tuned scores of four checkpoints"
        raise AmuroError(
            what, where=", ".join(workdirs), hint="score and fine-tune more of them first"
        )
    # Before the long part: a configuration that cannot be planned ends it.
    costs = _costs(args, workdirs[0])
    if args.check:
        print("What is known, held out (R² within a pair of sets; 95 % intervals over pairs):\n")
        judged = prediction.prediction_table(loaded)
        if args.judged:
            files.write_text(args.judged, judged.to_csv(index=False))
        print(_text(prediction.show_prediction(judged)))
        print()
    table = prediction.predicted_gains(loaded)
    if table.empty:
        print("Every checkpoint with a base score was fine-tuned: nothing is left to predict.")
        return
    if costs is not None:
        table["chip_hours"] = [
            costs.get(tuned, 0.0) + costs.get(f"{task} {format} {shots}-shot", 0.0)
            for tuned, task, format, shots in zip(
                *(table[name] for name in ("tuned_on", "task", "format", "shots")), strict=True
            )
        ]
    print("Expected after fine-tuning (90 % intervals):\n")
    print(_text(table))
    if args.out:
        table.to_csv(args.out, index=False)


def _costs(args, workdir):
    """Chip-hours of one fine-tuning by set, and of one score by its label; None: not asked for."""
    if not args.topology:
        return None
    from amuro_jax.config import StudyConfig
    from amuro_jax.errors import ConfigError
    from amuro_jax.planning.plan import make_plan
    from amuro_jax.results.plan import read_plan
    from amuro_jax.storage import Storage

    planned = read_plan(Storage.open(workdir))
    default = None if planned is None else planned.config
    if default is None and args.config is None:
        hint = "--config: a study of these checkpoints, for example configs/study/paper_olmo1b.py"
        what = "the store has no study whose cost is known"
        raise ConfigError(what, where="--topology", hint=hint)
    plan = make_plan(
        configure.config_from_flags(StudyConfig, default), args.topology, compile=False
    )
    lines = (*plan.trainings, *plan.scores)
    return {one.label: one.hours / one.count for one in lines}


def _text(table):
    return table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
