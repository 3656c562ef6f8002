"""Writes one figure of a study's report: for a paper, a talk or a page.

  amuro plot work/study                                          which figures there are
  amuro plot work/study --analysis=scores --out=curves.pdf --style=paper
  amuro plot work/study --analysis=scores --where="task in ('paws', 'rte')" --axis=tokens \\
    --out=curves.svg

--where takes conditions on the columns of `amuro results`; the analysis is made of the scores that
fit, so that a correction for many comparisons counts those alone. The file's ending (svg, pdf,
png) says how it is written.
"""

from absl import flags

DESCRIPTION = "write one figure of a study: SVG, PDF or PNG"
FIRST = "workdir"


def define_flags() -> None:
    """Declares the verb's flags."""
    from amuro_jax.analyses.axes import AXES
    from amuro_jax.report.plots import STYLES

    flags.DEFINE_string("workdir", "", "Folder of the study.")
    flags.DEFINE_string("suite", "", "The series, where the folder has several (imported results).")
    flags.DEFINE_string("analysis", "", "Whose figure; without it, the list of figures.")
    flags.DEFINE_string("where", "", "Condition on scores, e.g. \"format == 'io'\".")
    flags.DEFINE_enum("axis", "steps", list(AXES), "Of figures over checkpoints.")
    flags.DEFINE_enum("style", "web", list(STYLES), "paper: small, for one column of print.")
    flags.DEFINE_string("out", "", "File to write: .svg, .pdf or .png.")


def main() -> None:
    """Writes the figure, or lists the figures."""
    from amuro_jax.config import require
    from amuro_jax.report import plots
    from amuro_jax.report.reading import load_results

    args = flags.FLAGS
    hint = "the study's --config.workdir"
    require(bool(args.workdir), "no folder", where="--workdir", hint=hint)
    study = load_results(args.workdir, suite=args.suite)
    if not args.analysis:
        for name, title in study.figures().items():
            print(f"{name:<24}{title}")
        return
    ending = args.out.rpartition(".")[2]
    hint = "a file that ends in " + ", ".join(f".{one}" for one in plots.ENDINGS)
    require(ending in plots.ENDINGS, "no such kind of figure", where="--out", hint=hint)
    spec = study.figure(args.analysis, where=args.where, axis=args.axis)
    plots.write(spec, args.out, style=args.style)
    print(args.out)
