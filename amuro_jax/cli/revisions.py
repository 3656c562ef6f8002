"""Lists the checkpoints of a Hub suite or of a folder, in order of tokens seen.

amuro revisions EleutherAI/pythia-160m --select=log:8
amuro revisions --suite=lab/checkpoints --select=1000,18000,main
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "list the pre-training checkpoints of a model, and select some"
FIRST = "suite"  # the flag that a first word without `--` means


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string(
        "suite", "", "Hub name or folder of checkpoints; may also follow the verb without the flag."
    )
    flags.DEFINE_string(
        "select",
        "all",
        "List of revisions or steps, all, every:K, log:N, tokens:N; filters before it: "
        "'stage=1;log:8'.",
    )
    configure.define_cache()
    flags.DEFINE_bool("offline", False, "No network: use the cache, or the suite's rule for names.")
    flags.DEFINE_bool("names", False, "Print names only, one a line, as --checkpoint takes them.")


def main() -> None:
    """Prints the table."""
    from amuro_jax.convert import revisions
    from amuro_jax.convert.series_audit import holes

    args = flags.FLAGS
    example = "for example: amuro revisions allenai/OLMo-1B-hf --select=log:8"
    configure.require_flags("suite", hint=example)
    listed = revisions.list_revisions(
        args.suite, args.select, args.cache or None, offline=args.offline
    )
    if args.names:
        print("\n".join(revision.name for revision in listed))
        return
    print(f"{'tokens':>10} {'step':>9}  {'stage':>5} {'ingr.':>5} {'seed':<14} name")
    for r in listed:
        cells = [
            "-" if value is None else str(value)
            for value in (r.step, r.stage, r.ingredient, r.seed)
        ]
        step, stage, ingredient, seed = cells
        print(f"{amount(r.tokens):>10} {step:>9}  {stage:>5} {ingredient:>5} {seed:<14} {r.name}")
    print(f"{len(listed)} checkpoints")
    if args.select == "all":  # a selection has gaps of its own
        for hole in holes(listed):
            print(hole)


def amount(tokens) -> str:
    """`4.19B` for 4190000000; `-` for None."""
    if tokens is None:
        return "-"
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if tokens >= size:
            return f"{tokens / size:.4g}{unit}"
    return str(tokens)
