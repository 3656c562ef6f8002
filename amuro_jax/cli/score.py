"""Scores one model on data sets, under prompt formats, and writes one row per test row.

    amuro score --config=configs/score/default.py \\
      --config.checkpoint=work/lab/checkpoints@step100-tokens1M \\
        --config.tasks=lab_nli,lab_paraphrase --config.data_root=work/lab/data
        --config.workdir=work/score

On the hosts of a pod, the same command on each with --cluster=auto; the folder of the checkpoint
must be there on all of them.
Results lie in `<workdir>/<task>-<format>-<shots>/`: rows.parquet and metrics.json.
"""

from pathlib import Path

from amuro_jax.cli.configure import define_cluster, define_config, given_config

DESCRIPTION = "score one model on data sets, under prompt formats"


def define_flags() -> None:
    """Declares the verb's flags."""
    define_config(str(Path(__file__).with_name("score_default.py")))
    define_cluster()


def main() -> None:
    """Scores every set, format and number of shots, and prints a table."""
    from absl import flags

    from amuro_jax import config as run_config
    from amuro_jax import processes
    from amuro_jax.evals import run

    given = given_config(run_config.ScoreConfig)
    run_config.validate_score(given)
    processes.join(flags.FLAGS.cluster)
    say = print if processes.is_writer() else lambda *_, **__: None
    table = run.score(given, report=lambda line: say(line, flush=True))
    say(run.render(table))
