"""Says how far a study is: what is done, running (where, since when) and failed, and the time left.

  amuro status --workdir=work/study

Reads the plan, the finished cells and cells.log; may be asked while the study runs.
"""

from absl import flags

from amuro_jax.cli.configure import require_flags

DESCRIPTION = "say how far a study is: done, running, failed, time left"
FIRST = "workdir"


def define_flags() -> None:
    """Declares --workdir."""
    flags.DEFINE_string("workdir", "", "Folder of the study.")


def main() -> None:
    """Prints the status."""
    from amuro_jax.study.status import read_status

    require_flags("workdir")
    print("\n".join(read_status(flags.FLAGS.workdir).lines()))
