"""Makes the report of a study from its finished cells: page, figures, tables. Nothing is computed
on a model.

  amuro report work/study
  amuro report work/study --beside=work/other      two studies in one page
  amuro report work/study --serve                  the page on localhost, with every row of the
                                                   study behind it, until Ctrl-C

Writes <workdir>/report/index.html (one self-contained page), figures/*.png and *.svg, tables/*.csv
and *.parquet; with --serve nothing.
"""

from absl import flags

DESCRIPTION = "make the report of a study again from its finished cells"
FIRST = "workdir"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("workdir", "", "Folder of the study.")
    flags.DEFINE_string("suite", "", "The series, where the folder has several (imported results).")
    flags.DEFINE_string("beside", "", "Folder of a second study, to be shown beside it.")
    flags.DEFINE_bool("serve", False, "Show the page on localhost instead of writing it.")
    flags.DEFINE_integer("port", 0, "Of --serve; 0: any that is free.", 0, 65535)


def main() -> None:
    """Writes the report and prints its table and path, or serves the page."""
    from amuro_jax.config import require

    args = flags.FLAGS
    require(
        bool(args.workdir),
        "no folder",
        where="--workdir",
        hint="the study's --config.workdir",
    )
    if args.serve:
        _serve(args)
        return
    from amuro_jax.report import report

    page = report.write_report(args.workdir, args.beside, args.suite)
    print(report.summary(args.workdir, args.suite))
    print(f"report: {page}")


def _serve(args):
    from amuro_jax.report.serve import Server

    with Server(args.workdir, args.beside, args.suite, args.port) as server:
        print(f"report: {server.url} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
