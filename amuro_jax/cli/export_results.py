"""Writes a store's scores for other programs.

  amuro export-results --format=lm-eval --workdir=work/study --out=work/lm_eval

lm-eval: one folder per model with results_DATE.json and, where there are rows,
samples_TASK_DATE.jsonl, as lm-evaluation-harness writes them; `amuro import --format=lm-eval` reads
them.
"""

from absl import flags

from amuro_jax.cli.configure import require_flags

DESCRIPTION = "write a store's scores in the files of lm-evaluation-harness"
FIRST = "workdir"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_enum("format", "lm-eval", ("lm-eval",), "Whose files are written.")
    flags.DEFINE_string("workdir", "", "Folder of the store.")
    flags.DEFINE_string("out", "", "Folder that gets the files.")
    flags.DEFINE_string("where", "", "Condition on cells, such as task=='paws'.")


def main() -> None:
    """Writes the files and prints their paths."""
    from amuro_jax.interchange.export import export_lm_eval
    from amuro_jax.results.store import Store

    args = flags.FLAGS
    require_flags("workdir", "out")
    print("\n".join(export_lm_eval(Store.open(args.workdir), args.out, args.where)))
