"""Runs a study: checkpoints × fine-tuning sets × evaluation sets × formats × shots; then reports.

  amuro study --config=configs/study/lab.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/study

--dry_run lists the jobs, what is left, data that is missing or would be downloaded, and checkpoints
with the same weights or that are not what they are called (`amuro audit --suite`); it fails where a
cell would. A series with such faults is refused. Killed anywhere, the same command resumes; no
finished cell is computed twice. Run it several times at once, on one machine or on many that share
the workdir, and each process takes the checkpoints that no other has; --shard=2/8 gives a process
one part only. On the hosts of a pod, which work as one program, start the same command on each; the
workdir must be one that all of them share. --executor=ray gives the checkpoints to a Ray cluster
(--config.ray.num_gpus and its neighbours say what one takes). The workdir (a folder or gs://…) gets
cells/<key>/ (record and rows of each number), cells.log, and report/index.html with
report/tables/*.csv.
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "run a study: fine-tune and score every checkpoint, then report"
CONFIG = "StudyConfig"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_config()
    configure.define_cluster()
    text = "List the jobs, what is done and an estimate of the rest; compute nothing."
    flags.DEFINE_bool("dry_run", False, text)
    text = "Score the checkpoints although the audit of the series finds faults in them."
    flags.DEFINE_bool("accept_series", False, text)
    text = "Score some rows of a few checkpoints, then only rows that can change a verdict."
    flags.DEFINE_bool("adaptive", False, text)
    text = "Take one part of the checkpoints, INDEX/COUNT from 0 on; auto: as a Slurm array or an "
    text += "Indexed Job of Kubernetes says."
    flags.DEFINE_string("shard", None, text)
    text = (
        "local: this process; ray[:ADDRESS]: tasks of a Ray cluster (RAY_ADDRESS, or one that is "
    )
    text += "started here)."
    flags.DEFINE_string("executor", "local", text)


def main() -> None:
    """Runs what is left of the study, writes the report, prints its table and path."""
    from amuro_jax.config import StudyConfig
    from amuro_jax.convert.revisions import list_revisions
    from amuro_jax.errors import AmuroError, ConfigError
    from amuro_jax.study import grid, plan, preflight

    config = configure.config_from_flags(StudyConfig)
    grid.validate(config)
    revisions = list_revisions(config.suite, config.select)
    if flags.FLAGS.dry_run:
        checked = preflight.check(config, revisions)
        print("\n".join([*checked.lines(), plan.describe(config, revisions)]))
        if checked.faults:
            what = f"{len(checked.faults)} faults in the data: cells would fail"
            raise AmuroError(what, where=config.data_root or "config.evals", hint="see above")
        if checked.series.errors and not flags.FLAGS.accept_series:
            what = f"{len(checked.series.errors)} faults in the series of checkpoints"
            raise AmuroError(what, where=config.suite, hint="see above")
        return
    if not flags.FLAGS.accept_series:
        preflight.require_sound_series(revisions)
    from amuro_jax.study import shards

    part = flags.FLAGS.shard
    only = plan.share(revisions, *shards.parse(part)) if part else None
    if flags.FLAGS.adaptive and (part or flags.FLAGS.executor != "local"):
        what = "an adaptive study runs in one process"
        raise ConfigError(what, where="--adaptive", hint="leave out --shard and --executor")
    kind, _, address = flags.FLAGS.executor.partition(":")
    if kind == "ray":
        from amuro_jax.study import ray_executor

        failures = ray_executor.run(config, revisions, _say, address, only)
        _write_report(config)
    elif flags.FLAGS.executor == "local":
        failures = _run_here(config, revisions, only)
    else:
        what, hint = f"no such executor: {flags.FLAGS.executor}", "local, ray or ray:ADDRESS"
        raise ConfigError(what, where="--executor", hint=hint)
    if failures:
        what = f"{len(failures)} failed:\n  " + "\n  ".join(failures)
        where = f"{config.workdir}/cells.log"
        raise AmuroError(what, where=where, hint="the other cells are saved; run again")


def _run_here(config, revisions, only):
    from amuro_jax import processes
    from amuro_jax.results.store import Store
    from amuro_jax.study import adaptive, executor

    if flags.FLAGS.adaptive:  # in one process: each round waits for the one before
        failures = adaptive.run(config, revisions, _say)
        if Store.open(config.workdir).frame().empty:
            _say("no report: it is of scores with all their rows, and no verdict needs one")
        else:
            _write_report(config)
        return failures
    if only is None:  # else each process is one by itself
        configure.join_cluster()
    writes = processes.is_writer()
    failures = executor.run(config, revisions, _say if writes else lambda _: None, only)
    if writes:
        _write_report(config)
    processes.meet("end of the study")
    return failures


def _say(line):
    print(line, flush=True)


def _write_report(config):
    from amuro_jax.report import report

    page = report.write_report(config.workdir)
    print(report.summary(config.workdir))
    print(f"report: {page}")
