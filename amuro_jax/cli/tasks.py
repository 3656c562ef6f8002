"""Lists the data sets, and shows or dumps their prompts exactly as a model gets them.

    amuro tasks                                                             the table of sets
    amuro tasks mnli_matched --data_root=DATA --show=2 --format=io --shots=4 \\
      --tokenizer=CHECKPOINT_OR_tokenizer.json
    amuro tasks boolq --data_root=DATA --dump=requests.jsonl                every request: task, \\
      doc_id, idx, context, continuation, label
    amuro tasks --sizes --data_root=DATA --shots=4 --tokenizer=…            of every set there: \\
      rows, prompt tokens, overflow, label balance
    amuro tasks my_set.yaml --data_root=DATA --show=1                       a set of one's own \\
      (see docs/data.md)

With --tokenizer, a bar separates tokens. Formats take perturbations:
--format=default~sep=newline~case=upper~labels=letters.
"""

from absl import flags

from amuro_jax.cli.configure import split_names

DESCRIPTION = "list the data sets; show or dump a set's rendered prompts"
FIRST = "task"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string(
        "task",
        "",
        "Name of a set, or a YAML file that describes one's own; without it, the table of sets.",
    )
    flags.DEFINE_string(
        "data_root", "", "Folder of local data sets, one folder per set; empty: the Hub."
    )
    flags.DEFINE_integer("show", 0, "Print so many rendered rows.", lower_bound=0)
    flags.DEFINE_bool(
        "sizes",
        False,
        "Instead of prompts: rows, prompt tokens, overflow and label balance of the set, or of "
        "every set that has local rows.",
    )
    flags.DEFINE_string("dump", "", "Write every rendered request to this JSONL file.")
    flags.DEFINE_string("format", "default", "default, instruct, io, with ~perturbations.")
    flags.DEFINE_integer("shots", 0, "Shots before each query.", lower_bound=0)
    flags.DEFINE_string(
        "shot_file",
        "",
        "A text file of fixed shots to use as they are, one blank line between them; instead of "
        "--shots.",
    )
    flags.DEFINE_integer("shot_seed", 0, "Which rows are the shots.")
    flags.DEFINE_string("protocol", "strict", "strict or paper.")
    flags.DEFINE_string("quirks", "", "Single quirks to switch, e.g. +shots_from_test,-no_stop.")
    flags.DEFINE_string(
        "tokenizer",
        "",
        "Checkpoint folder, tokenizer folder or tokenizer.json; shows token boundaries and fits "
        "contexts.",
    )
    flags.DEFINE_integer(
        "max_length", 2048, "Context in tokens that prompts are fitted to.", lower_bound=1
    )
    flags.DEFINE_integer("rows", 0, "A seeded subsample of the rows; 0: all.", lower_bound=0)


def main() -> None:
    """Prints the table, some rows, or the path of the dump."""
    from amuro_jax.data import preview

    args = flags.FLAGS
    if args.sizes:
        print(preview.aligned(_sizes(args)))
        return
    if not args.task:
        print(preview.aligned(preview.table(args.data_root)))
        return
    queries, tokenizer = _queries(args)
    if args.dump:
        print(f"{preview.dump(queries, args.dump)} requests of {len(queries)} rows: {args.dump}")
    for query in queries[: args.show or (0 if args.dump else 1)]:
        print(preview.shown(query, tokenizer), end="\n\n")


def _sizes(args):
    from amuro_jax.data import preview, protocols, sources, tokenizer
    from amuro_jax.data.registry import TASKS, get_task
    from amuro_jax.errors import ConfigError

    if not args.tokenizer or not args.data_root:
        raise ConfigError(
            "--sizes needs a tokenizer and local rows",
            where="command line",
            hint="give --tokenizer=… and --data_root=…",
        )
    loaded, protocol = (
        tokenizer.open_tokenizer(args.tokenizer),
        protocols.resolve(args.protocol, split_names(args.quirks)),
    )
    local = [
        task
        for task in TASKS.values()
        if any(sources.split_path(task, split, args.data_root) for split in task.source.test)
    ]
    tasks = [get_task(args.task)] if args.task else local
    return [
        preview.sizes(
            task, args.format, args.shots, protocol, loaded, args.data_root, args.max_length
        )
        for task in tasks
    ]


def _queries(args):
    from amuro_jax.data import formats, protocols, tokenizer
    from amuro_jax.data.queries import build_queries
    from amuro_jax.data.registry import get_task

    task, protocol = (
        get_task(args.task),
        protocols.resolve(args.protocol, split_names(args.quirks)),
    )
    formats.parse_format(args.format, task)
    loaded = tokenizer.open_tokenizer(args.tokenizer) if args.tokenizer else None
    texts = _shot_texts(args.shot_file) if args.shot_file else None
    options = {
        "data_root": args.data_root,
        "max_length": args.max_length,
        "rows": args.rows,
        "shot_seed": args.shot_seed,
        "shot_texts": texts,
    }
    return build_queries(
        task, args.format, len(texts) if texts else args.shots, protocol, loaded, **options
    ), loaded


def _shot_texts(path):
    from pathlib import Path

    from amuro_jax.errors import ConfigError

    if not Path(path).is_file():
        raise ConfigError("no such file", where=f"--shot_file={path}")
    return tuple(
        part.strip("\n") + "\n\n" for part in Path(path).read_text().split("\n\n") if part.strip()
    )
