"""Published curves as `Results`, read where the real data lie: standard errors or none, no rows."""

import functools

import pandas as pd

from amuro_jax.analyses.registry import tables_of
from amuro_jax.results.results import WANTED, Results, normal_draws

PYTHIA_TOKENS = 2_097_152  # per step, in all but the two runs with another batch size


@functools.cache
def pythia_tables(folder):
    """Every analysis's table on Pythia's accuracies, made once per process."""
    return tables_of(pythia(folder))


def pythia(folder, metric="acc") -> Results:
    """Pythia's suite: 18 models, 0-shot and 5-shot."""
    table = pd.read_csv(folder / "pythia_evals.csv.gz")
    table = table[table["metric"] == metric]
    table = table.assign(suite=table["model"], tokens=table["step"] * PYTHIA_TOKENS)
    return made("pythia", table.assign(checkpoint="step" + table["step"].astype(str)))


def ladder(folder, kinds=("downstream", "downstream_bpb"), runs=None) -> Results:
    """The model ladder and OLMo-2 7B and 13B; the kind is the metric."""
    table = pd.read_csv(folder / "olmo_ladder.csv.gz")
    table = table[table["kind"].isin(kinds)]
    if runs is not None:
        table = table[table["run"].isin(runs)]
    table = table.assign(
        suite=table["run"],
        metric=table["kind"],
        shots=5,
        stderr=float("nan"),
        checkpoint="tokens" + table["tokens"].astype(str),
    )
    return made("ladder", table)


def made(name, table) -> Results:
    """Results of a table with suite, checkpoint, step, tokens, task, shots, metric, value, stderr."""
    fixed = {"tuned_on": "", "variant": "", "format": "default", "of": "", "group": ""}
    fixed |= {"role": "multiple_choice", "low": None, "high": None, "n": 0, "majority": None}
    cells = table.assign(**fixed, chance=None).reset_index(drop=True)
    cells["key"] = [f"cell{place}" for place in range(len(cells))]
    order = cells.sort_values("tokens")["checkpoint"].unique().tolist()
    first = cells.drop_duplicates("task")
    main = {row.task: (row.format, row.shots) for row in first.itertuples()}
    missing = pd.DataFrame(columns=[*WANTED, "why"])
    return Results(name, order, cells, missing, main, normal_draws(cells, 200))
