"""Is it foreseen, from base models and noise on their weights, whether tuned models get worse with
more pre-training? Judged on laboratories that were pre-trained for long.

    for seed in 0 1; do for schedule in constant annealed; do for width in 16 24 32 40 48; do
      lab=$width,$schedule,$seed; to=work/long/$(echo $lab | tr , -)
      amuro lab --config=configs/lab/long.py:$lab --config.out=$to/lab
      amuro study --config=configs/study/long.py --config.suite=$to/lab/checkpoints \\
        --config.data_root=$to/lab/data --config.workdir=$to/study
    done; done; done
    python benchmarks/foreseen.py work/long --figure=foreseen.svg

A series is a laboratory tuned at one rate, and a set that pre-training has taught. Its truth is the
mean log-probability of the right answer after tuning, by checkpoint: it falls where the last
checkpoint is clearly below another one (`curves.turn.find_turn`, over rows and training seeds).
Methods with something to fit judge a series by other pre-training runs: all rates and sets of one
run are left out together, and with them the runs of the same width and seed, which share their
first checkpoints (an annealed one is a constant one until the last fifth).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from amuro_jax import load_results
from amuro_jax.analyses.foreseen import all_foreseen
from amuro_jax.curves import foreseen

DRAWS = 2000


def series_of(folder, tasks):
    """A line per series: run, width, schedule, rate, set, features, and whether it falls."""
    lines = []
    for lab in sorted(folder.glob("*/lab/lab.json")):
        study = lab.parents[1] / "study"
        if not (study / "report").exists():  # unfinished
            continue
        manifest = json.loads(lab.read_text())
        run = manifest["config"]
        results = load_results(study).results
        probed = growth_of_probes(results)
        for one in all_foreseen(results):
            if one.place["task"] not in tasks or one.tuned is None:
                continue
            lines.append(
                {
                    "run": lab.parents[1].name,
                    "group": f"{run['model']['hidden_size']} {run['pretraining_seed']}",
                    "width": run["model"]["hidden_size"],
                    "schedule": run["schedule"],
                    "parameters": manifest["model"]["parameters"],
                    "rate": one.place["learning_rate"],
                    "set": one.place["task"],
                    "falls": one.turn.falls,
                    "fall": one.turn.fall,
                    "p": one.turn.p,
                    "why": one.turn.why,
                    "factor": foreseen.critical_factor(one.base),
                    "probability": foreseen.probability(one.base),
                    "last_base": one.base.scores[-1],
                    "base_falls": one.base.scores[-1] < one.base.scores[:-1].max(),
                    **dict(zip(foreseen.FEATURES, foreseen.features(one.base), strict=True)),
                    **probed,
                    "base": one.base.scores.round(2).tolist(),
                    "expected": foreseen.expected_scores(one.base).round(2).tolist(),
                    "tuned": [round(float(seeds.mean()), 2) for seeds in one.tuned],
                }
            )
    return pd.DataFrame(lines)


def growth_of_probes(results):
    """How much larger the gradient on the fine-tuning set, and the loss there, are at the last
    checkpoint than on average at the others (logarithms).
    """
    table = results.probes().set_index("checkpoint").loc[results.distinct]
    logs = np.log(table[["gradient_norm", "held_out_loss_before"]].astype(float))
    grown = logs.iloc[-1] - logs.iloc[:-1].mean()
    return {"gradient_grows": grown.iloc[0], "loss_grows": grown.iloc[1]}


def majority(table):
    """Share that falls among the other runs."""
    return np.array([table.loc[table["group"] != one, "falls"].mean() for one in table["group"]])


def methods_of(table):
    """Method → probability of a fall of each series; of rules 0 or 1."""
    falls, groups = table["falls"].to_numpy(bool), table["group"].to_numpy()

    def fitted(*columns):
        return foreseen.left_out(table[list(columns)].to_numpy(float), falls, groups)

    # Steps that all point one way, in place of a random walk; 50 steps of the configuration.
    straight = table["factor"] < np.sqrt(3 * 50) / 2
    table = table.assign(log_rate=np.log(table["rate"]))
    return {
        "critical factor, fitted": fitted("critical"),
        "critical factor below 1 (nothing fitted)": (table["factor"] < 1).to_numpy(float),
        "the same, steps that all point one way": straight.to_numpy(float),
        "all features, fitted": fitted(*foreseen.FEATURES),
        "critical factor and rate, fitted": fitted("critical", "log_rate"),
        "gradient's and loss's growth and rate, fitted": fitted(
            "gradient_grows", "loss_grows", "log_rate"
        ),
        "displacement alone, fitted": fitted("moved"),
        "growth of the cost alone, fitted": fitted("growth"),
        "rate alone, fitted": fitted("log_rate"),
        "rate and base scores, fitted": fitted("log_rate", "gained", "last_base"),
        "base scores alone, fitted": fitted("gained", "last_base"),
        "the base score falls (nothing fitted)": table["base_falls"].to_numpy(float),
        "majority": majority(table),
    }


def interval(right, groups, seed=0):
    """95 % interval of a share over draws of groups of runs."""
    names, generator = np.unique(groups), np.random.default_rng(seed)
    sums = np.array([[right[groups == name].sum(), (groups == name).sum()] for name in names])
    drawn = sums[generator.integers(0, len(names), (DRAWS, len(names)))].sum(axis=1)
    return np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])


def judge(name, probability, falls, groups):
    """A line of the table of methods."""
    right = np.where(probability == 0.5, 0.5, (probability > 0.5) == falls)
    low, high = interval(right, groups)
    calls = np.array([foreseen.call(one) for one in probability])
    confident = calls != foreseen.UNSURE
    false = ((calls == foreseen.FALLS) & ~falls).sum()
    missed = ((calls == foreseen.RISES) & falls).sum()
    return {
        "method": name,
        "right side": f"{100 * right.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})",
        "confident": int(confident.sum()),
        "false falls": f"{false} of {(~falls).sum()}",
        "missed falls": f"{missed} of {falls.sum()}",
        "Brier": round(float(np.mean((probability - falls) ** 2)), 3),
    }


def main():
    """Prints the series, the table of methods, and the chosen one by schedule, width and rate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", default="lab_attributes,lab_events")
    parser.add_argument("--figure")
    args = parser.parse_args()
    table = series_of(args.folder, args.tasks.split(","))
    if table.empty:
        raise SystemExit(f"no finished study in {args.folder}")
    if table["group"].nunique() < 3:
        raise SystemExit("three groups of pre-training runs are needed, to judge one by the others")
    unknown = table[table["why"] != ""]
    table = table[table["why"] == ""].reset_index(drop=True)
    falls, groups = table["falls"].to_numpy(bool), table["group"].to_numpy()
    print(f"{args.tasks}: {len(table)} series of {table['run'].nunique()} pre-training runs in "
          f"{len(set(groups))} groups, {falls.sum()} fall ({len(unknown)} left out)")  # fmt: skip
    methods = methods_of(table)
    chosen = next(iter(methods))
    table = table.assign(left_out=methods[chosen])
    table["call"] = [foreseen.call(one) for one in table["left_out"]]
    with pd.option_context("display.width", 200, "display.max_columns", 30):
        columns = [
            "run",
            "rate",
            "set",
            "falls",
            "fall",
            "p",
            "factor",
            "left_out",
            "call",
            "tuned",
        ]
        print(table[columns].round(3).to_string())
        lines = [judge(name, one, falls, groups) for name, one in methods.items()]
        print(pd.DataFrame(lines).to_string(index=False))
        for column in ("set", "schedule", "width", "rate"):
            right = (table["left_out"] > 0.5) == table["falls"]
            by = table.assign(right=right).groupby(column)
            print(by.agg(series=("falls", "size"), falls=("falls", "sum"), right=("right", "mean")))
    false = ((table["call"] == foreseen.FALLS) & ~falls).sum()
    upper = stats.beta.ppf(0.975, false + 1, (~falls).sum() - false)
    print(
        f"false confident falls: {false} of {(~falls).sum()}, at most {100 * upper:.1f} % (97.5 %)"
    )
    whole = foreseen.fit(table[["critical"]].to_numpy(float), falls)
    slope = whole.weights[0] / whole.scale[0]
    print(f"slope {slope:.3f}, intercept {whole.intercept - slope * whole.centre[0]:.3f} on all")
    if args.figure:
        draw(table, args.figure)


def draw(table, path):
    """Critical factor and outcome of each series."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "amuro"
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    generator = np.random.default_rng(0)
    for schedule, marker in (("constant", "o"), ("annealed", "^")):
        own = table[table["schedule"] == schedule]
        jitter = generator.uniform(-0.12, 0.12, len(own))
        axes.scatter(own["factor"], own["falls"] + jitter, marker=marker, label=schedule, alpha=0.7)
    at = np.geomspace(0.1, 20, 200)
    whole = foreseen.fit(table[["critical"]].to_numpy(float), table["falls"].to_numpy(bool))
    log = np.log(np.clip(at, 0.1, 10))[:, None]
    axes.plot(at, whole(log), color="grey", label="probability, fitted on all")
    axes.set_xscale("log")
    axes.set_yticks([0, 1], ["no fall found", "falls"])
    axes.set_xlabel("critical factor: how many times the expected displacement makes a fall")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
