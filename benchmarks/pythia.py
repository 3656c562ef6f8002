"""What the analyses of curves say of Pythia's published evaluations: a table per question.

python benchmarks/pythia.py --table=pythia_evals.csv.gz --scratch=/tmp/pythia
"""

import argparse
import resource
import time

from amuro_jax.analyses.figures import short_number
from amuro_jax.analyses.registry import tables_of
from amuro_jax.interchange.columns import import_csv
from amuro_jax.results import loading

TOKENS_PER_STEP = 2_097_152


def main():
    """Prints the tables, 0-shot accuracy alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", required=True)
    parser.add_argument("--scratch", required=True)
    options = parser.parse_args()
    start, clock = time.perf_counter(), time.process_time()
    import_csv(options.table, options.scratch, tokens_per_step=TOKENS_PER_STEP)
    tables = tables_of(loading.load(options.scratch))
    names = ("change_points", "late_falls", "signal_and_noise", "rank_agreement", "score_and_bits")
    made = {name: tables[name] for name in names}
    spent = f"{time.perf_counter() - start:.1f} s, {time.process_time() - clock:.1f} s of processor"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"import and five tables: {spent} time, {memory:.2f} GB of memory at most")
    usual = {
        name: table[(table["metric"] == "accuracy") & (table["shots"] == 0)]
        for name, table in made.items()
        if "metric" in table
    }
    both = usual["change_points"].merge(
        usual["late_falls"], on=["suite", "task"], suffixes=("", "_fall")
    )
    print("\n| model | " + " | ".join(sorted(both["task"].unique())) + " |")
    print("|---" * (1 + both["task"].nunique()) + "|")
    for suite, members in both.groupby("suite"):
        cells = [_cell(row) for row in members.sort_values("task").itertuples()]
        print(f"| {suite.removeprefix('pythia-')} | " + " | ".join(cells) + " |")
    signal = usual["signal_and_noise"]
    models = signal[signal["scope"] == "models"].set_index("task")
    alone = signal[signal["scope"] == "checkpoints"].groupby("task")
    print("\n| set | signal / noise, models | along pre-training (median) | τ | rows, needed |")
    print("|---|---|---|---|---|")
    for task, row in models.iterrows():
        of_task = alone.get_group(task)
        needed = of_task["rows_needed"].median()
        ratio = f"{row['ratio']:.1f} ({row['ratio_low']:.1f} to {row['ratio_high']:.1f})"
        medians = f"{of_task['ratio'].median():.1f} | {of_task['tau'].median():.2f}"
        print(f"| {task} | {ratio} | {medians} | {of_task['rows'].median():,.0f}, {needed:,.0f} |")
    agreement = usual["rank_agreement"].pivot_table(
        index="task", columns="share", values="decision"
    )
    print("\n" + agreement.round(2).to_string())
    learned = tables.across("learned").groupby(["task", "group"]).size().unstack(fill_value=0)
    print("\nseries by where the set is learned\n" + learned.to_string())


def _cell(row):
    """Shape with its turn or the end of its rise, and a fall."""
    if row.shape == "turn":
        turn, low, high = map(short_number, (row.turn, row.low, row.high))
        text = f"{row.verdict}: {turn} ({low}–{high})"
    elif row.shape == "logistic":
        kind = row.verdict.removeprefix("none found: a ")
        text = f"{kind}, 9/10 by {short_number(row.mostly)}"
    else:
        text = row.verdict.removeprefix("none found: ")
    if row.verdict_fall == "gets worse":
        text += f"; **falls** {row.peak:.3f} → {row.end:.3f}"
    return text


if __name__ == "__main__":
    main()
