"""Results of lm-evaluation-harness come in and go out: its own files, and a round trip."""

import json

import numpy as np
import pytest

from amuro_jax.errors import AmuroError, DataError
from amuro_jax.interchange.export import export_lm_eval
from amuro_jax.interchange.lm_eval import import_lm_eval
from amuro_jax.results import loading
from amuro_jax.results.store import Store
from tests.study import synthetic

DATE = "2026-01-02T03-04-05.678"
RESULTS = {
    "results": {
        "piqa": {"alias": "piqa", "acc,none": 0.75, "acc_stderr,none": 0.25},
        "gsm": {
            "alias": "gsm",
            "exact_match,strict-match": 0.5,
            "exact_match_stderr,strict-match": "N/A",
        },
        "mmlu": {"alias": "mmlu", "acc,none": 0.3, "acc_stderr,none": 0.1},
    },
    "group_subtasks": {"mmlu": ["piqa"]},
    "configs": {"piqa": {}, "gsm": {}},
    "n-shot": {"piqa": 5, "gsm": 0},
    "n-samples": {"piqa": {"original": 4, "effective": 4}},
    "config": {"model_args": "pretrained=EleutherAI/pythia-160m,revision=step3000"},
}
SAMPLES = [
    {
        "doc_id": at,
        "target": "1",
        "filtered_resps": [["-2.0", "False"], [str(-1.0 - 2 * (at == 3)), "True"]],
        "filter": "none",
        "prompt_hash": f"h{at}",
        "acc": float(at != 3),
    }
    for at in range(4)
]


def written(folder, content=RESULTS, samples=SAMPLES):
    paths = [folder / f"results_{DATE}.json", folder / f"samples_piqa_{DATE}.jsonl"]
    paths[0].write_text(json.dumps(content))
    paths[1].write_text("".join(json.dumps(one) + "\n" for one in samples))
    return paths


def test_scores_come_in_with_rows_where_there_are_samples(tmp_path):
    done = import_lm_eval(written(tmp_path), tmp_path / "w")
    assert (done.cells, done.new) == (2, 2)  # the average of the group is no score
    store = Store.open(tmp_path / "w")
    frame = store.frame().set_index("task")
    piqa, gsm = frame.loc["piqa"], frame.loc["gsm"]
    assert (piqa["metric"], piqa["value"], piqa["shots"], piqa["n"]) == ("accuracy", 0.75, 5, 4)
    assert gsm["metric"] == "exact_match (strict-match)" and np.isnan(gsm["stderr"])
    assert set(frame["suite"]) == {"EleutherAI/pythia-160m"} and set(frame["step"]) == {3000}
    assert set(frame["imported"]) == {f"results_{DATE}.json"}
    rows = store.rows(piqa["key"])
    assert list(rows["predicted"]) == [1, 1, 1, 0] and list(rows["gold"]) == [1] * 4
    assert list(rows["score"]) == [1, 1, 1, 0] and list(rows["choice_logprobs"][3]) == [-2.0, -3.0]
    found = loading.load(tmp_path / "w", 500)
    assert found.draws[piqa["key"]].std() == pytest.approx(0.75**0.5 * 0.25**0.5 / 2, rel=0.1)


@pytest.mark.parametrize(
    "change,why",
    [
        (lambda c, s: c.pop("results"), "no `results` in it"),
        (lambda c, s: c["results"]["piqa"].update({"acc,none": "0.75"}), "'0.75' is not a finite"),
        (
            lambda c, s: c["results"]["piqa"].update({"acc,none": 0.76}),
            "the results file says 0.76",
        ),
        (lambda c, s: s.pop(), "the mean accuracy of 3 samples is 1.000000"),
        (lambda c, s: s.append(s[0]), "doc_id 0 occurs more than once"),
        (lambda c, s: s[1].update(doc_id="x"), "no whole number in doc_id"),
        (lambda c, s: s[1].update(filtered_resps=[["a", "b"], ["c", "d"]]), "is no number"),
        (lambda c, s: c["results"].pop("piqa"), "which results file the samples belong to"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, change, why):
    content, samples = json.loads(json.dumps(RESULTS)), json.loads(json.dumps(SAMPLES))
    change(content, samples)
    with pytest.raises(AmuroError, match=why) as caught:
        import_lm_eval(written(tmp_path, content, samples), tmp_path / "w")
    assert DATE in str(caught.value.where)


def test_samples_need_their_results_file(tmp_path):
    with pytest.raises(DataError, match="no results file"):
        import_lm_eval(written(tmp_path)[1:], tmp_path / "w")


def test_a_study_goes_out_and_comes_back(tmp_path):
    synthetic.make_store(tmp_path / "study", rows=6, steps=(16,))
    store = Store.open(tmp_path / "study")
    paths = export_lm_eval(store, tmp_path / "out", "task != 'lab_summary'")
    assert len(paths) == 3  # base and two fine-tuned models
    for path in sorted((tmp_path / "out").iterdir()):
        import_lm_eval(sorted(path.iterdir()), tmp_path / "back")
    before = store.table().to_pandas()
    before = before[before["task"] != "lab_summary"]
    back = Store.open(tmp_path / "back")
    after = back.frame()
    assert sorted(before["value"]) == sorted(after["value"]) and after["rows_sha256"].notna().all()
    first = before[(before["task"] == "lab_nli") & (before["format"] == "default")].iloc[0]
    same = after[(after["task"] == "lab_nli") & (after["checkpoint"] == first["checkpoint"])].iloc[
        0
    ]
    rows, again = store.rows(first["key"]), back.rows(same["key"])
    for name in ("row", "gold", "predicted", "score"):
        assert list(rows[name]) == list(again[name])
    with pytest.raises(AmuroError, match="no finished score fits"):
        export_lm_eval(store, tmp_path / "none", "task == 'x'")


@pytest.mark.slow  # imports the harness with torch and datasets: seconds that are not its own
def test_the_harness_reads_what_goes_out_and_its_own_files_come_in(tmp_path):
    """A task of four rows under the harness's model of random numbers, with its own writer."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    data = tmp_path / "rows.json"
    rows = [{"text": f"q{at}", "label": at % 2} for at in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "made_up",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{label}}",
        "doc_to_choice": ["no", "yes"],
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    tracker = EvaluationTracker(output_path=str(tmp_path / "harness"))
    found = lm_eval.simple_evaluate(
        "dummy",
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),  # reads none of the harness's tasks
        log_samples=True,
        bootstrap_iters=0,
        evaluation_tracker=tracker,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    tracker.save_results_samples("made_up", samples["made_up"])
    paths = sorted(path for path in (tmp_path / "harness").rglob("*") if path.is_file())
    import_lm_eval(paths, tmp_path / "w", suite="random", checkpoint="step7")
    store = Store.open(tmp_path / "w")
    frame = store.frame().set_index("metric")
    assert frame.loc["accuracy", "value"] == found["results"]["made_up"]["acc,none"]
    assert frame.loc["acc_norm", "value"] == found["results"]["made_up"]["acc_norm,none"]
    assert list(store.rows(frame.loc["accuracy", "key"])["gold"]) == [0, 1, 0, 1]
    (path,) = export_lm_eval(store, tmp_path / "out")
    with open(path) as stream:
        assert "made_up" in make_table(json.load(stream))
