"""Makes the report of a study from its finished cells: page, figures, tables. Nothing is computed
on a model.

  amuro report --workdir=work/study

Writes <workdir>/report/index.html (one self-contained page), figures/*.png and *.svg, tables/*.csv.
"""

from absl import flags

DESCRIPTION = "make the report of a study again from its finished cells"


def define_flags() -> None:
    """Declares --workdir."""
    flags.DEFINE_string("workdir", "", "Folder of the study.")


def main() -> None:
    """Writes the report and prints its table and path."""
    from amuro_jax.config import require
    from amuro_jax.report import report

    workdir = flags.FLAGS.workdir
    require(
        bool(workdir),
        "no folder",
        where="--workdir",
        hint="the study's --config.workdir",
    )
    page = report.write_report(workdir)
    print(report.summary(workdir))
    print(f"report: {page}")
