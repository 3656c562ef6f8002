"""What the rows of a base model's score say beside the score: what predicts how it will fine-tune.
No jax.
"""

import numpy as np

from amuro_jax.analyses import row_metrics
from amuro_jax.results.results import Results

NAMES = {
    row_metrics.GOLD: "mean log-probability of the right answer",
    row_metrics.MARGIN: "its mean margin over the best wrong one",
    row_metrics.BITS: "bits per byte of the right answer",
    "label_mass": "mean probability of all labels together",
    "entropy": "mean entropy of the distribution over answers, in nats",
    "agreement": "share of rows that are answered alike in two formats, mean over the others",
}


PROBED = {
    "gradient": "logarithm of the gradient's norm on rows of the fine-tuning set",
    "loss": "loss on other rows of that set",
    "probe": "what a few steps of fine-tuning take off that loss",
}


def probe_features(results: Results) -> dict[tuple[str, str], dict[str, float]]:
    """(checkpoint, fine-tuning set) → PROBED → value, where a study probed its base models."""
    return {
        (line.checkpoint, line.tuned_on): {
            "gradient": float(np.log(max(line.gradient_norm, 1e-12))),
            "loss": line.held_out_loss_before,
            "probe": line.held_out_loss_before - line.held_out_loss,
        }
        for line in results.probes().itertuples()
    }


def base_features(results: Results, cell: dict) -> dict[str, float]:
    """NAMES → value of a base cell; NaN of what its rows do not tell, and of all of them for an
    imported score.
    """
    features = dict.fromkeys(NAMES, np.nan)
    rows = results.rows(cell["key"])
    if rows is None:
        return features
    for name, values in row_metrics.row_values(rows).items():
        if name in features:
            features[name] = float(values.mean())
    if "label_mass" in rows and rows["label_mass"].notna().any():
        features["label_mass"] = float(rows["label_mass"].mean())
    if "choice_logprobs" in rows and rows["choice_logprobs"].notna().all():
        features["entropy"] = _entropy(rows["choice_logprobs"])
    features["agreement"] = _agreement(results, cell, rows)
    return features


def _entropy(logprobs):
    entropies = []
    for one in logprobs:
        p = np.exp(np.asarray(one, float) - np.max(one))
        p /= p.sum()
        entropies.append(-(p * np.log(np.maximum(p, np.finfo(float).tiny))).sum())
    return float(np.mean(entropies))


def _agreement(results, cell, rows):
    shares, answers = [], rows.drop_duplicates("row").set_index("row")["prediction"]
    for name in results.formats(cell["task"]):
        other = results.find(cell["checkpoint"], "", cell["task"], name, cell["shots"])
        if name == cell["format"] or other is None or results.rows(other["key"]) is None:
            continue
        theirs = results.rows(other["key"]).drop_duplicates("row").set_index("row")["prediction"]
        both = answers.index.intersection(theirs.index)
        if len(both):
            shares.append(float((answers[both] == theirs[both]).mean()))
    return float(np.mean(shares)) if shares else np.nan
