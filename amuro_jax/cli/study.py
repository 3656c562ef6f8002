"""Runs a study: checkpoints × fine-tuning sets × evaluation sets × formats × shots, then its
report.

  amuro study --config=configs/study/lab.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/study

--dry_run lists the cells and what is left. Killed anywhere, the same command goes on; no finished
cell is computed twice. The workdir
gets cells/<key>/ (record and rows of each number), cells.log, and report/index.html with
report/tables/*.csv.
Fields: StudyConfig in amuro_jax/config.py."""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "do a whole study: fine-tune and score every checkpoint, then report"


def define_flags() -> None:
    """Declares --config and --dry_run."""
    configure.define_config()
    flags.DEFINE_bool(
        "dry_run",
        False,
        "List the cells, what is done and an estimate of the rest; compute nothing.",
    )


def main() -> None:
    """Runs what is left of the study, writes the report, prints its table and path."""
    from amuro_jax.config import StudyConfig
    from amuro_jax.convert.revisions import list_revisions
    from amuro_jax.errors import AmuroError
    from amuro_jax.study import grid, plan

    config = configure.given_config(StudyConfig)
    grid.validate(config)
    revisions = list_revisions(config.suite, config.select)
    if flags.FLAGS.dry_run:
        print(plan.describe(config, revisions))
        return
    from amuro_jax.report import report
    from amuro_jax.study import runner

    failures = runner.run(config, revisions, report=print)
    page = report.write_report(config.workdir)
    print(report.summary(config.workdir))
    print(f"report: {page}")
    if failures:
        what = f"{len(failures)} failed:\n  " + "\n  ".join(failures)
        raise AmuroError(
            what, where=f"{config.workdir}/cells.log", hint="the other cells are kept; run again"
        )
