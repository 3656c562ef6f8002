"""What scoring costs against rows, shots and model size: time follows the new tokens, not all
tokens. CPU, fp32, random OLMo.

    python benchmarks/score_cost.py --out=FOLDER [--task=paws --threads=4 --rounds=3]

Prints one table and writes `scorer_cost.svg`, `scorer_cost.png`. One plan per line of the table;
interleaved, after one untimed run.
"""

from pathlib import Path

import matplotlib
import numpy as np
import score_common as common
from scipy import stats

from amuro_jax.convert import families
from amuro_jax.models.parameters import init_params
from amuro_jax.scoring.scorer import Scorer

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend is chosen first

# width, layers, heads, MLP; the middle one serves the sweeps over rows and shots
SIZES = {"S": (256, 4, 4, 1024), "M": (512, 8, 8, 2048), "L": (768, 12, 12, 3072)}
ROWS, SHOTS = (25, 50, 100, 200, 400), (0, 1, 2, 4, 8, 16)


def measure(given, cases: list[tuple[str, int, int]]) -> list[dict]:
    """One record per (size, rows, shots): tokens of the plan, and the median seconds of its run."""
    scorers, records, runs = {}, [], {}
    for size in {size for size, _, _ in cases}:
        width, layers, heads, mlp = SIZES[size]
        changes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": mlp}
        config = families.config_from_hf(
            common.HF | changes | {"num_attention_heads": heads, "num_key_value_heads": heads}
        )
        scorer = Scorer(config)
        scorers[size] = scorer, scorer.place(init_params(config, 0))
    for case in cases:
        size, rows, shots = case
        scorer, params = scorers[size]
        requests, _ = common.task_requests(given.task, rows, shots)
        plan = scorer.plan(requests)
        millions = scorer.config.num_parameters / 1e6
        records.append(
            {
                "size": size,
                "M": millions,
                "rows": rows,
                "shots": shots,
                "all": plan.plain_tokens,
                "new": plan.new_tokens,
            }
        )
        runs[case] = lambda scorer=scorer, params=params, plan=plan: scorer.loglikelihoods(
            params, plan
        )
        runs[case]()
    seconds = common.interleave(runs, given.rounds)
    return [
        record | {"seconds": seconds[case]} for record, case in zip(records, cases, strict=True)
    ]


def plot(sweeps: dict[str, list[dict]], folder: Path) -> None:
    """Three panels: seconds against rows, shots and parameters, beside what the time would be if
    all tokens cost alike.
    """
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for panel, (name, records) in zip(panels, sweeps.items(), strict=True):
        key = {"rows": "rows", "shots": "shots", "size": "M"}[name]
        x = [record[key] for record in records]
        panel.plot(
            x, [record["seconds"] for record in records], "o-", color="#1f77b4", label="measured"
        )
        if name != "size":
            first = records[0]
            for tokens, style, label in (
                ("new", "--", "as new tokens"),
                ("all", ":", "as all tokens"),
            ):
                panel.plot(
                    x,
                    [first["seconds"] * r[tokens] / first[tokens] for r in records],
                    style,
                    color="#888888",
                    label=label,
                )
        label = {
            "rows": "rows (4 shots)",
            "shots": "shots (100 rows)",
            "size": "parameters, millions",
        }[name]
        panel.set(xlabel=label, ylabel="seconds", ylim=(0, None))
        if name == "shots":
            panel.set_ylim(0, 4 * max(record["seconds"] for record in records))
        panel.legend(frameon=False)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"scorer_cost.{ending}", dpi=120)


def main() -> None:
    """Prints one table and draws the plots."""
    given = common.arguments(__doc__, task="paws", out=".")
    sweeps = {
        "rows": [("M", rows, 4) for rows in ROWS],
        "shots": [("M", 100, shots) for shots in SHOTS],
        "size": [(size, 100, 4) for size in SIZES],
    }
    cases = list(dict.fromkeys(case for sweep in sweeps.values() for case in sweep))
    records = dict(zip(cases, measure(given, cases), strict=True))
    heads = f"{'seconds':>9}{'ms/row':>8}{'us/new token':>14}{'us/all':>8}"
    print(f"{'M parameters':>12}{'rows':>6}{'shots':>6}{'all tokens':>12}{'new tokens':>12}{heads}")
    for r in records.values():
        row, new, every = (r["seconds"] / r[name] for name in ("rows", "new", "all"))
        rates = f"{1e3 * row:>8.1f}{1e6 * new:>14.0f}{1e6 * every:>8.1f}"
        print(
            f"{r['M']:>12.0f}{r['rows']:>6}{r['shots']:>6}{r['all']:>12,}"
            f"{r['new']:>12,}{r['seconds']:>9.2f}{rates}",
            flush=True,
        )
    middle = [r for r in records.values() if r["size"] == "M"]
    for tokens in ("new", "all"):
        x, y = np.asarray([r[tokens] for r in middle]), np.asarray([r["seconds"] for r in middle])
        print(
            f"correlation of seconds with {tokens} tokens, size M: "
            f"{stats.pearsonr(x, y).statistic:.3f}"
        )
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)
    plot({name: [records[case] for case in sweep] for name, sweep in sweeps.items()}, folder)


if __name__ == "__main__":
    main()
