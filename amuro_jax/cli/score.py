"""Scores one model on data sets, under prompt formats, and stores one row per test row.

  amuro score --config.checkpoint=work/lab/checkpoints@step100-tokens1M \\
    --config.tasks=lab_nli,lab_paraphrase --config.data_root=work/lab/data \\
    --config.workdir=work/score

On the hosts of a pod, the same command on each; the folder of the checkpoint must be there on all
of them. The workdir is a store like a study's:
cells/<key>/{cell.json, rows.parquet}; finished scores are not computed again.
"""

from amuro_jax.cli.configure import config_from_flags, define_cluster, define_config, join_cluster

DESCRIPTION = "score one model on data sets, under prompt formats"
CONFIG = "ScoreConfig"


def define_flags() -> None:
    """Declares the verb's flags."""
    define_config()
    define_cluster()


def main() -> None:
    """Scores every set, format and number of shots, and prints a table."""
    from amuro_jax import processes
    from amuro_jax.config import ScoreConfig, validate_score
    from amuro_jax.evals import run
    from amuro_jax.scoring.scorer import keep_programs_in
    from amuro_jax.storage import Storage

    config = config_from_flags(ScoreConfig, ScoreConfig())
    validate_score(config)
    join_cluster()
    keep_programs_in(Storage.open(config.workdir))
    say = print if processes.is_writer() else lambda *_, **__: None
    table = run.run(config, report=lambda line: say(line, flush=True))
    say(run.render(table))
