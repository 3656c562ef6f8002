"""Metrics from rows alone, against small cases worked by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from amuro_jax.errors import DataError
from amuro_jax.evals import metrics

LABELS = ("yes", "no")


def label_row(index, gold, yes, mass=0.5, **more):
    """A classification row whose label distribution is (yes, 1 - yes)."""
    predicted = 0 if yes >= 0.5 else 1
    return {
        "task": "t",
        "format": "default",
        "row": index,
        "group": "",
        "gold": gold,
        "predicted": predicted,
        "correct": predicted == gold,
        "score": float(predicted == gold),
        "prediction": LABELS[predicted],
        "reference": LABELS[gold],
        "choice_logprobs": [math.log(mass * yes), math.log(mass * (1 - yes))],
        "choice_tokens": [1, 1],
        "choice_chars": [3, 2],
        "choice_logprobs_unconditional": None,
        "label_mass": mass,
        "context_tokens": 10 + index,
        "dropped_shots": 0,
        "cut_tokens": 0,
    } | more


def option_row(index, gold, logprobs, tokens, chars, blind):
    return label_row(index, gold, 0.5) | {
        "choice_logprobs": logprobs,
        "choice_tokens": tokens,
        "choice_chars": chars,
        "choice_logprobs_unconditional": blind,
        "predicted": int(np.argmax(logprobs)),
        "correct": int(np.argmax(logprobs)) == gold,
        "score": float(np.argmax(logprobs) == gold),
        "reference": "x" * chars[gold],
    }


def text_row(index, prediction, reference, **more):
    return {
        "task": "t",
        "format": "default",
        "row": index,
        "group": "",
        "gold": None,
        "score": metrics.rouge_l(prediction, reference),
        "prediction": prediction,
        "reference": reference,
        "context_tokens": 5,
        "dropped_shots": 0,
        "cut_tokens": 0,
        "ended": "eos",
    } | more


def test_classification_by_hand():
    rows = [label_row(0, 0, 0.9), label_row(1, 0, 0.8), label_row(2, 1, 0.6), label_row(3, 1, 0.2)]
    found = metrics.metrics_record(rows, bootstrap=500)
    assert (found["metric"], found["value"], found["n"], found["majority"], found["chance"]) == (
        "accuracy",
        0.75,
        4,
        0.5,
        0.5,
    )
    extra = found["extra"]
    assert extra["f1_yes"] == pytest.approx(2 * 2 / 5) and extra["f1_no"] == pytest.approx(
        2 * 1 / 3
    )
    assert extra["f1_macro"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert extra["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.8]).mean())
    assert extra["ece"] == pytest.approx(
        (0.1 + 0.6 + abs(1 - 0.8) * 2) / 4
    )  # 0.8 twice, in one bin
    assert extra["bits_per_byte"] == pytest.approx(
        -np.log2([0.45, 0.4, 0.2, 0.4]).sum() / (4 + 4 + 3 + 3)
    )
    assert found["prior"] == 0.5 and extra["prior_log_loss"] == pytest.approx(
        -np.log([0.625, 0.625, 0.375, 0.375]).mean()
    )
    assert extra["label_mass_mean"] == 0.5 and extra["predicted_share_max"] == 0.75
    assert extra["context_tokens_max"] == 13
    json.dumps(found, allow_nan=False)


def test_a_data_frame_read_back_from_parquet_gives_the_same(tmp_path):
    rows = [label_row(i, i % 2, 0.1 + 0.8 * (i % 3) / 2, group=f"g{i % 2}") for i in range(12)]
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    again = metrics.metrics_record(pd.read_parquet(tmp_path / "rows.parquet"))
    assert again == metrics.metrics_record(rows)
    assert {"group_g0", "group_g1"} <= set(again["extra"])


def test_multiple_choice_has_four_normalisations_and_the_primary_names_the_value():
    rows = [
        option_row(
            0, 1, [-1.0, -2.0], [1, 4], [10, 10], [-0.5, -3.0]
        ),  # raw wrong, per token right, per character wrong, unconditional right
        option_row(
            1, 0, [-1.0, -3.0], [1, 1], [2, 20], [-1.0, -5.0]
        ),  # raw right, per token right, per character wrong, unconditional wrong
    ]
    accuracies = {
        name: metrics.metrics_record(rows, primary=name, bootstrap=0)["value"]
        for name in metrics.NORMALISATIONS
    }
    assert accuracies == {"raw": 0.5, "per_token": 1.0, "per_char": 0.0, "unconditional": 0.5}
    extra = metrics.metrics_record(rows, primary="per_token", bootstrap=0)["extra"]
    assert {
        name: extra[f"accuracy_{name}"] for name in metrics.NORMALISATIONS
    } == accuracies and extra["primary"] == "per_token"
    assert metrics.metrics_record(rows, bootstrap=0)["prior"] == 0.5
    assert [row["predicted"] for row in metrics.apply_primary(rows, "per_token")] == [1, 0]


def test_the_leading_space_can_count():
    row = option_row(0, 0, [-3.0, -5.0], [1, 1], [1, 2], [0, 0])
    assert metrics.normalised(row, "per_char").tolist() == [-3, -2.5]
    np.testing.assert_allclose(
        metrics.normalised(row, "per_char", count_space=True), [-1.5, -5 / 3]
    )


def test_generation_and_its_baselines():
    rows = [
        text_row(0, "the cat sat", "the cat sat down"),
        text_row(1, "", "a dog", ended="length"),
        text_row(2, "a bird", "a bird"),
    ]
    found = metrics.metrics_record(rows, bootstrap=200)
    assert found["metric"] == "rougeL" and found["majority"] is None
    assert found["value"] == pytest.approx((2 * 0.75 / 1.75 + 0 + 1) / 3)
    assert found["extra"]["empty"] == pytest.approx(1 / 3) and found["extra"][
        "ended_eos"
    ] == pytest.approx(2 / 3)
    assert found["chance"] == pytest.approx((0 + 0.5 + 0) / 3)
    assert found["prior"] == pytest.approx(0.0)
    with_bits = [row | {"reference_logprob": -8 * math.log(2)} for row in rows]
    assert metrics.metrics_record(with_bits)["extra"]["bits_per_byte"] == pytest.approx(
        24 / (17 + 6 + 7)
    )


def test_midpoint_is_the_published_statistic():
    rows = [label_row(i, 0, 0.9 if i else 0.1) for i in range(20)]
    mean, middle = metrics.metrics_record(rows), metrics.metrics_record(rows, statistic="midpoint")
    assert (
        mean["value"] == 0.95
        and middle["value"] == pytest.approx((mean["low"] + mean["high"]) / 2)
        and middle["value"] != 0.95
    )


def test_free_answers_without_label():
    silent = {
        "choice_logprobs": None,
        "label_mass": None,
        "predicted": -1,
        "score": 0.0,
        "prediction": "?",
    }
    rows = [label_row(i, i % 2, 0.9) | silent for i in range(4)]
    found = metrics.metrics_record(rows)
    assert (
        found["value"] == 0
        and found["extra"]["unanswered"] == 1
        and found["chance"] == 0.5
        and found["majority"] == 0.5
    )


def test_no_rows_is_an_error():
    with pytest.raises(DataError, match="no rows"):
        metrics.metrics_record([])
    with pytest.raises(DataError, match="unknown normalisation"):
        metrics.metrics_record([label_row(0, 0, 0.5)], primary="sideways")


def test_comparisons_align_rows_and_are_corrected_together():
    first = [label_row(i, 0, 0.1) for i in range(30)]
    second = [label_row(i, 0, 0.9) for i in reversed(range(20))]
    third = [label_row(i, 0, 0.1) for i in range(10, 40)]
    better, same = metrics.compare(first, second), metrics.compare(first, third)
    assert (better.difference, better.n) == (1, 20) and (same.difference, same.n) == (0, 20)
    with pytest.raises(DataError, match="no row in common"):
        metrics.compare(first[:2], third[25:])
    with pytest.raises(DataError, match="has gold"):
        metrics.compare(first, [label_row(0, 1, 0.1)])


def test_a_metric_that_is_misspelt_is_refused():
    assert metrics.text_score("a b", "a b", "rougeL") == 1
    with pytest.raises(DataError, match="unknown metric 'rouge_l'") as found:
        metrics.text_score("a b", "a b", "rouge_l")
    assert "did you mean 'rougeL'?" in found.value.hint


def test_gsm8k_is_scored_by_its_number():
    assert metrics.exact_number("so 3 + 4 = 7\n#### 1,234 more 5", "#### 1234") == 1
    assert metrics.exact_number("it is 12 and then 18.0", "…\n#### 18") == 1
    assert (
        metrics.exact_number("none", "#### 18") == 0
        and metrics.exact_number("#### -2", "#### 2") == 0
    )
    rows = [
        text_row(0, "#### 4", "#### 4", metric="exact_number", score=1.0),
        text_row(1, "#### 5", "#### 6", metric="exact_number", score=0.0),
    ]
    found = metrics.metrics_record(rows)
    assert found["metric"] == "exact_number" and found["value"] == 0.5 and found["chance"] == 0
