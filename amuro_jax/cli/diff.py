"""Says which scores of two stores differ, by how much, and what was made differently.

  amuro diff work/before work/after
  amuro diff work/before work/after --out=changes.csv

The uncertainty of a difference is paired where both stores have the same rows. The last column
names what differs of weights, data, tokenizer, protocol, scoring, code and source.
"""

from absl import flags

from amuro_jax.cli.configure import say_damaged

DESCRIPTION = "say which scores of two stores differ, by how much, and in what"
FILES = "stores"
SHOWN = ("checkpoint", "tuned_on", "task", "format", "shots", "value_a", "value_b")


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("out", "", "CSV file for the whole table.")
    flags.DEFINE_integer("resamples", 1000, "Bootstrap resamples.", lower_bound=2)


def main(stores: list[str]) -> None:
    """Prints the differences."""
    from amuro_jax import files
    from amuro_jax.config import require
    from amuro_jax.results.difference import diff
    from amuro_jax.results.store import Store

    args = flags.FLAGS
    require(len(stores) == 2, f"two stores are compared, {len(stores)} given", where="command line")
    opened = [Store.existing(url) for url in stores]
    difference = diff(*opened, args.resamples)
    say_damaged(*opened)
    if args.out:
        files.write_text(args.out, difference.to_csv(index=False))
    for name, text in (("a", f"only in {stores[0]}"), ("b", f"only in {stores[1]}")):
        print(f"{(difference['found_in'] == name).sum():,} scores {text}")
    changed = difference[difference["found_in"] == "both"]
    print(f"{len(changed):,} scores have another value")
    if len(changed):
        several = changed["suite"].nunique() > 1
        shown = changed[[*["suite"] * several, *SHOWN]].copy()
        shown["b − a"] = [
            f"{line.difference:+.4f}"
            + ("" if line.low != line.low else f" [{line.low:+.4f}, {line.high:+.4f}]")
            for line in changed.itertuples()
        ]
        shown["differs"] = changed["differs"].replace("", "nothing that is recorded")
        print(shown.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
