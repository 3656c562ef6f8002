"""Looks for validity problems: in a data set before it is scored, in a series of checkpoints, or in
the results of a study.

    amuro audit --task=qqp --data_root=DATA --protocol=paper \\
      --tokenizer=CHECKPOINT_OR_tokenizer.json
    amuro audit --task=all --data_root=DATA                      every set with local rows
    amuro audit --suite=lab/checkpoints --select=all             checkpoints that are misnamed
    amuro audit --workdir=work/study                             every finished cell of a study; \\
      also what `amuro score` wrote

Findings are errors (the number does not mean what it says), warnings and notes. Exit status 1 where
there are errors.
"""

import sys

from absl import flags

from amuro_jax.cli.configure import split_names

DESCRIPTION = "look for validity problems in a data set, a series of checkpoints or results"
FIRST = "task"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string(
        "task",
        "",
        "Sets to audit, comma-separated (or YAML files); `all`: every set whose rows are under "
        "--data_root.",
    )
    flags.DEFINE_string(
        "workdir", "", "Working folder of a study or of `amuro score`: its results are audited."
    )
    flags.DEFINE_string(
        "suite",
        "",
        "Folder of checkpoints (or Hub name, then labels alone): the series is audited.",
    )
    flags.DEFINE_string("select", "all", "Which checkpoints of --suite, as `amuro revisions`.")
    flags.DEFINE_string("data_root", "", "Folder of local data sets; empty: the Hub.")
    flags.DEFINE_string("format", "default", "Prompt format.")
    flags.DEFINE_integer("shots", 4, "Shots before each query.", lower_bound=0)
    flags.DEFINE_string("protocol", "strict", "strict or paper.")
    flags.DEFINE_string("quirks", "", "Single quirks to switch, e.g. +shots_from_test.")
    flags.DEFINE_string(
        "tokenizer",
        "",
        "Checkpoint folder, tokenizer folder or tokenizer.json: needed for sizes and label tokens.",
    )
    flags.DEFINE_integer("max_length", 2048, "Context in tokens.", lower_bound=1)
    flags.DEFINE_bool("notes", True, "Print notes besides warnings and errors.")


def main() -> None:
    """Prints the findings and their counts."""
    from amuro_jax.errors import ConfigError

    args = flags.FLAGS
    if [bool(args.task), bool(args.workdir), bool(args.suite)].count(True) != 1:
        raise ConfigError("give one of --task, --suite and --workdir", where="command line")
    if args.suite:
        sys.exit(_audit_suite(args))
    if args.workdir:
        from amuro_jax.evals.audit import audit_store, once_per_set

        cells = audit_store(args.workdir).values()
        findings = once_per_set([finding for cell in cells for finding in cell])
    else:
        findings = [finding for name in _names(args) for finding in _audit(name, args)]
    _print(findings, args.notes)
    sys.exit(any(finding.severity == "error" for finding in findings))


def _audit_suite(args):
    """Prints what is wrong with a series; whether any of it is an error."""
    from amuro_jax.convert.revisions import list_revisions
    from amuro_jax.convert.series_audit import audit_series

    audit = audit_series(list_revisions(args.suite, args.select))
    print(audit)
    return bool(audit.errors)


def _names(args):
    from amuro_jax.data import protocols, sources
    from amuro_jax.data.registry import TASKS
    from amuro_jax.errors import ConfigError, DataError

    if args.task != "all":
        return split_names(args.task)
    if not args.data_root:
        raise ConfigError(
            "--task=all needs local rows",
            where="command line",
            hint="give --data_root=…, or name the sets to take from the Hub",
        )
    protocol = protocols.resolve(args.protocol, args.quirks)
    names = [
        name
        for name, task in TASKS.items()
        if any(
            sources.split_path(task, split, args.data_root)
            for split in task.under(protocol).source.test
        )
    ]
    if not names:
        raise DataError(
            "no rows of any set",
            where=args.data_root,
            hint="one folder per set, e.g. glue_mnli/validation_matched.jsonl",
        )
    return names


def _audit(name, args):
    from amuro_jax.data import protocols, tokenizer
    from amuro_jax.data.registry import get_task
    from amuro_jax.evals.audit_data import audit_task

    loaded = tokenizer.open_tokenizer(args.tokenizer) if args.tokenizer else None
    protocol = protocols.resolve(args.protocol, split_names(args.quirks))
    options = {
        "format": args.format,
        "shots": args.shots,
        "tokenizer": loaded,
        "max_length": args.max_length,
    }
    return audit_task(get_task(name), protocol, data_root=args.data_root, **options)


def _print(findings, notes):
    where = None
    for finding in sorted(findings, key=lambda finding: finding.where):  # stable: gravest first
        if finding.severity == "note" and not notes:
            continue
        if finding.where != where:
            where = finding.where
            print(f"\n{where}")
        print(f"  {finding.severity:<8}{finding.code}: {finding.what}\n          {finding.effect}")
    count = {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in ("error", "warning", "note")
    }
    print(
        "\n"
        + ", ".join(
            f"{number} {severity}{'s' * (number != 1)}" for severity, number in count.items()
        )
    )
