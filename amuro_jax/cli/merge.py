"""Puts the finished cells of two stores into a third, which may be one of them.

  amuro merge work/mine work/theirs --into=work/both

A cell that both have must have the same number in both: what has two is named, and nothing is
written unless --keep says whose number stays. --conflicts=FILE.csv lists all of them. Plans and
logs are not merged.
"""

from absl import flags

from amuro_jax.cli.configure import require_flags, say_damaged

DESCRIPTION = "put the finished cells of two stores into one"
FILES = "stores"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("into", "", "Folder that gets the cells.")
    flags.DEFINE_enum("keep", "", ("", "a", "b"), "Whose number stays where two differ.")
    flags.DEFINE_string("conflicts", "", "CSV file that lists the cells with two numbers.")


def main(stores: list[str]) -> None:
    """Merges, and says what came in."""
    from amuro_jax import files
    from amuro_jax.config import require
    from amuro_jax.results import merge
    from amuro_jax.results.store import Store

    args = flags.FLAGS
    require(len(stores) == 2, f"two stores are merged, {len(stores)} given", where="command line")
    require_flags("into")
    first, second = map(Store.existing, stores)
    say_damaged(first, second)
    into = Store.open(args.into)
    if args.conflicts:
        clash = merge.conflicts(first, second, into)
        files.write_text(args.conflicts, clash.to_csv(index=False))
    done = merge.merge(first, second, into, args.keep)
    print(f"{done.gained:,} cells came into {args.into}")
    if len(done.conflicts):
        print(f"{len(done.conflicts):,} cells had two numbers; those of store {args.keep} stay")
