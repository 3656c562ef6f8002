"""Predicts the end of large models from smaller ones (arXiv 2412.04403), from any store that has a
loss and a score of the same sets; and the scatter of one series' last evaluations.

amuro import --format=csv --workdir=work/ladder olmo_ladder.csv.gz
amuro ladder --workdir=work/ladder --fit='(190M|370M|760M|1B)-(1|2|5|10)xC' \\
  --target='peteish7_eval_anneal|peteish13_eval_final' --variance=1B-10xC
"""

from absl import flags

DESCRIPTION = "predict the end of large models from smaller ones"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("workdir", "", "Store with the scores of several series.")
    flags.DEFINE_string("fit", "", "Regular expression of the series that are fitted.")
    flags.DEFINE_string("target", "", "Regular expression of the series that are predicted.")
    flags.DEFINE_string("task", ".*", "Regular expression of the sets.")
    flags.DEFINE_multi_string(
        "parameters",
        [],
        "SERIES=COUNT: parameters without embeddings, where the name does not tell.",
    )
    flags.DEFINE_string("variance", "", "A series whose last ten evaluations' scatter is printed.")
    flags.DEFINE_integer("draws", 40, "Draws behind each interval.", lower_bound=2)
    flags.DEFINE_string("out", "", "CSV file for the predictions; empty: printed alone.")


def main() -> None:
    """Prints the predictions, and writes them where asked to."""
    import re

    from amuro_jax.analyses import ladder
    from amuro_jax.errors import ConfigError
    from amuro_jax.results import loading

    args = flags.FLAGS
    if not args.workdir or not (args.target or args.variance):
        raise ConfigError("no store, or nothing to predict", where="--workdir, --target")
    pairs = ladder.pairs_of(loading.load(args.workdir), _counts(args.parameters))
    pairs = [pair for pair in pairs if re.fullmatch(args.task, pair.task)]
    names = sorted({name for pair in pairs for name in pair.runs})
    chosen = {
        flag: [name for name in names if re.fullmatch(getattr(args, flag), name)]
        for flag in ("fit", "target")
        if getattr(args, flag)
    }
    for flag, chosen_flag in chosen.items():
        if not chosen_flag:
            hint = "series with a loss and a score: " + (", ".join(names) or "none")
            raise ConfigError("no such series", where=f"--{flag}", hint=hint)
    if args.target:
        table = ladder.predictions(pairs, chosen.get("fit", []), chosen["target"], args.draws)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.6g}"))
        if args.out:
            table.to_csv(args.out, index=False)
    if args.variance:
        table = ladder.variances(pairs, args.variance)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.6g}"))


def _counts(texts):
    from amuro_jax.errors import ConfigError

    counts = {}
    for text in texts:
        name, _, count = text.rpartition("=")
        try:
            counts[name] = float(count)
        except ValueError:
            raise ConfigError(f"not SERIES=COUNT: {text!r}", where="--parameters") from None
    return counts
