"""Signal and noise of a study: metrics and subsets from rows, imported tables, faulty input."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import row_metrics, series, signal
from amuro_jax.analyses.registry import tables_of
from tests.analyses import imported
from tests.analyses.hand import made
from tests.analyses.test_change_points import COUNT, curve_cells


def rows_of(place, count=60):
    """Rows of four choices whose right answer gains one nat per checkpoint; group x gains none."""
    rng, rows = np.random.default_rng(5), []
    for row in range(count):
        group, gold = "xy"[row % 2], row % 4
        logprobs = rng.normal(-5, 0.1, 4)
        logprobs[gold] += place * (group == "y")
        right = int(logprobs.argmax()) == gold
        rows.append(
            {"row": row, "doc_id": str(row), "group": group, "gold": gold, "score": float(right)}
            | {"choice_logprobs": list(logprobs), "choice_chars": [4] * 4, "reference": "abcd"}
        )
    return pd.DataFrame(rows)


@pytest.fixture
def with_rows():
    frames = {place: rows_of(place) for place in range(COUNT)}
    cells = curve_cells([frames[place]["score"].mean() for place in range(COUNT)])
    by_key = {one["key"]: frames[place] for place, one in enumerate(cells)}
    results = made(cells, {key: rows.set_index("row")["score"] for key, rows in by_key.items()})
    results.scores = {key: rows.set_index("row")["score"] for key, rows in by_key.items()}.get
    results.rows = lambda key, columns=(): by_key.get(key)
    return results


def test_metrics_and_subsets_come_from_the_rows(with_rows):
    table = signal.signal_and_noise(with_rows).set_index(["metric", "subset"])
    assert {name for name, _ in table.index} == {
        "accuracy",
        row_metrics.GOLD,
        row_metrics.MARGIN,
        row_metrics.BITS,
    }
    assert {subset for _, subset in table.index} == {"", "x", "y"}
    of_y, of_x = table.loc[(row_metrics.GOLD, "y")], table.loc[(row_metrics.GOLD, "x")]
    assert of_y["signal"] == pytest.approx((COUNT - 1) / abs(of_y["mean"]))
    assert of_x["signal"] == 0 and "noise unknown" in of_x["notes"]
    assert table.loc[(row_metrics.BITS, "y"), "tau"] == pytest.approx(1)  # the sign is turned
    one = series.all_series(with_rows)[0]
    found = row_metrics.row_curves(one)
    first = rows_of(0).iloc[0]
    bits = -first["choice_logprobs"][first["gold"]] / np.log(2) / 4
    assert found.values[row_metrics.BITS][0, 0] == pytest.approx(bits)


def test_bits_per_byte_are_compared_with_the_score(with_rows):
    tables = tables_of(with_rows)
    (line,) = tables["score_and_bits"].to_dict("records")
    assert line["metric_score"] == "accuracy" and line["tau_bits"] == pytest.approx(1)
    assert list(signal.say_bits(with_rows, tables))


def test_rows_needed_are_paired_where_rows_are_known(with_rows):
    table = signal.signal_and_noise(with_rows)
    (line,) = table[(table["metric"] == "accuracy") & (table["subset"] == "")].to_dict("records")
    frames = [rows_of(int(place)) for place in (int(line["half"][1:]) - 1, COUNT - 1)]
    variance = (frames[1]["score"] - frames[0]["score"]).var(ddof=0)
    assert line["rows"] == 60
    if line["difference"]:
        assert line["rows_needed"] == np.ceil(7.8489 * variance / line["difference"] ** 2)


@pytest.mark.parametrize("values", [[0.5], [0.5] * COUNT, [np.nan] * COUNT, [0.4, 0.5]])
def test_faulty_curves_have_no_ratio_and_say_why(values):
    results = made(curve_cells(values))
    tables = tables_of(results)
    (line,) = tables["signal_and_noise"].to_dict("records")
    assert np.isnan(line["ratio"]) and line["notes"]
    list(signal.say_signal(results, tables))
    signal.show_signal(tables["signal_and_noise"])
    assert tables["score_and_bits"].empty and tables["rank_agreement"].empty


def test_models_are_told_apart_and_ranked_by_step(tmp_path):
    lines = [
        {"suite": suite, "step": step, "tokens": step * 10, "checkpoint": f"s{step}", "task": "a"}
        | {"shots": 0, "metric": "acc", "stderr": 0.01}
        | {"value": level + 0.01 * np.log(step) + 0.001 * (step % 3)}
        for suite, level in {"small": 0.3, "middle": 0.4, "large": 0.5}.items()
        for step in (1, 2, 4, 8, 16, 32, 64, 128)
    ]
    lines.append({**lines[0], "suite": "of one checkpoint"})
    results = imported.made(tmp_path, pd.DataFrame(lines))
    tables = tables_of(results)
    table = tables["signal_and_noise"]
    along = table[table["scope"] == signal.CHECKPOINTS].set_index("suite")
    last = 0.3 + 0.01 * np.log(128) + 0.001 * (128 % 3)
    assert along.loc["small", "rows"] == pytest.approx(last * (1 - last) / 0.01**2)
    assert along.loc["small", "rows_needed"] > along.loc["small", "rows"]
    (between,) = table[table["scope"] == signal.MODELS].to_dict("records")
    assert between["decision"] == 1 and between["signal"] == pytest.approx(0.2 / 0.45, rel=0.02)
    assert between["suite"] == "3 models" and between["noise"] > 0
    assert "fewer than 3 checkpoints: of one checkpoint" in between["notes"]
    assert (tables["rank_agreement"]["decision"] == 1).all()


def test_winogrande_on_olmo_2(shared, tmp_path):
    """Bits per byte are not the better metric everywhere."""
    results = imported.ladder(shared, tmp_path, "peteish7_eval_full")
    table = tables_of(results)["score_and_bits"].set_index(["set", "metric_score"])
    line = table.loc[("winogrande_val_rc_5shot", "downstream")]
    assert line["tau_score"] == pytest.approx(0.78, abs=0.005)
    assert line["tau_bits"] == pytest.approx(-0.02, abs=0.005)
