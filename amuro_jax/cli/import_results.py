"""Imports scores that other programs computed, so that every analysis and the report run on them.

  amuro import --format=amuro-paper --workdir=work/published \\
    all_perf_table.csv official_eval_table.csv
  amuro import --format=csv --workdir=work/pythia --tokens_per_step=2097152 pythia_evals.csv.gz
  amuro import --format=csv --workdir=work/own --columns=suite=name,value=result \\
    --constants=shots=5,metric=accuracy scores.csv
  amuro import --format=lm-eval --workdir=work/harness results_*.json samples_*.jsonl

lm-eval: results_*.json of lm-evaluation-harness; with the samples_*.jsonl beside them, scores have
rows. --suite and --checkpoint replace the model's name and revision.

csv: one score per line; columns are recognised by their names (suite or model, step or checkpoint,
tokens, task, format, shots, metric, value, stderr, tuned_on, …; docs/results.md lists them), or
named by --columns. Imported scores say so, with the source file's checksum and the line. They have
no rows: nothing about them is paired. The same file again changes nothing.
"""

from absl import flags

from amuro_jax.cli.configure import require_flags, split_names

DESCRIPTION = "import scores that other programs computed: published tables, lm-eval, CSV"
FORMATS = ("amuro-paper", "lm-eval", "csv")
FILES = "files"  # a verb with this name takes arguments that are not flags


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_enum("format", None, FORMATS, "What wrote the files.")
    flags.DEFINE_string("workdir", "", "Store that gets the scores.")
    flags.DEFINE_string("columns", "", "csv: part of a score = column, comma-separated.")
    flags.DEFINE_string("constants", "", "csv: part of a score = value in every line.")
    flags.DEFINE_string("ignore", "", "csv: columns that say nothing of use, comma-separated.")
    flags.DEFINE_integer(
        "tokens_per_step", None, "csv: tokens per step, where no column has tokens.", lower_bound=1
    )
    flags.DEFINE_string("suite", "", "lm-eval: the series, in place of the model's name.")
    flags.DEFINE_string("checkpoint", "", "lm-eval: in place of the model's revision.")
    flags.DEFINE_bool("replace", False, "Take a score that is there with another value from here.")


def main(files: list[str]) -> None:
    """Imports the files and says what came in."""
    from amuro_jax.config import require
    from amuro_jax.interchange import columns, lm_eval, paper

    args = flags.FLAGS
    require_flags("workdir")
    require(args.format is not None, "no format given", where="--format", hint=", ".join(FORMATS))
    require(bool(files), "no files given", where="command line", hint="name them after the flags")
    csv_only = args.columns or args.constants or args.ignore or args.tokens_per_step
    require(
        args.format == "csv" or not csv_only,
        "--columns, --constants, --ignore and --tokens_per_step are for --format=csv",
        where="command line",
    )
    require(
        args.format == "lm-eval" or not (args.suite or args.checkpoint),
        "--suite and --checkpoint are for --format=lm-eval",
        where="command line",
        hint="of a CSV file --constants=suite=NAME,checkpoint=NAME",
    )
    if args.format == "amuro-paper":
        done = [paper.import_paper(files, args.workdir, replace=args.replace)]
    elif args.format == "lm-eval":
        names = {"suite": args.suite, "checkpoint": args.checkpoint}
        done = [lm_eval.import_lm_eval(files, args.workdir, replace=args.replace, **names)]
    else:
        done = [
            columns.import_csv(
                path,
                args.workdir,
                _pairs(args.columns, "--columns"),
                _pairs(args.constants, "--constants"),
                ignore=split_names(args.ignore),
                tokens_per_step=args.tokens_per_step,
                replace=args.replace,
            )
            for path in files
        ]
    cells, new = sum(one.cells for one in done), sum(one.new for one in done)
    print(f"{cells:,} scores imported, {new:,} of them new, in {args.workdir}")
    for name, text in (("repeated", "lines repeat another one"), ("empty", "lines have no value")):
        if count := sum(getattr(one, name) for one in done):
            print(f"{count:,} {text} and are left out")


def _pairs(text, where):
    from amuro_jax.config import require

    pairs = [part.partition("=") for part in split_names(text)]
    for name, mark, value in pairs:
        require(bool(name and mark and value), f"{name!r} is not NAME=VALUE", where=where)
    return {name: value for name, _, value in pairs}
