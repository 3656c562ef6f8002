"""An adaptive study: which rows it scores, that none is scored twice, and what it says."""

import dataclasses
import itertools
import json
import types

import numpy as np
import pandas as pd
import pytest

from amuro_jax import files
from amuro_jax.config import EvalSet, LabConfig, LabModel, Role, Scoring
from amuro_jax.convert.revisions import Revision, list_revisions
from amuro_jax.curves.adaptive import part_sizes
from amuro_jax.errors import ConfigError
from amuro_jax.evals.run import Evaluator
from amuro_jax.lab import pretrain, publish, sets, tokenizer
from amuro_jax.lab.corpus import make_corpus
from amuro_jax.lab.world import make_world
from amuro_jax.models.parameters import init_params
from amuro_jax.results import loading
from amuro_jax.results.parts import Parts, drawn
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import adaptive, executor, plan
from tests.study import synthetic
from tests.study.conftest import study_of

STEPS = tuple(2**place for place in range(16))
ROWS = 200


def truth(cell):
    """Reaches its end at a third of the (logarithmic) way; the other set learns nothing."""
    progress = np.log(cell.model.step) / np.log(STEPS[-1])
    return 0.25 + 0.6 * min(progress / 0.33, 1) if cell.task == "lab_attributes" else 0.34


def scorer(rounds):
    """Writes the rows that are asked for, as the executor would."""
    rng = np.random.default_rng(3)
    shared = rng.random(ROWS)

    def score(config, revisions, report, only, parts, evaluator):
        rounds.append((only, parts))
        stored = Parts(Storage.open(config.workdir))
        for cell in plan.make_plan(config, revisions).cells:
            if cell.identity not in parts:
                continue
            assert cell.model.checkpoint in only
            before = stored.read(cell.key)
            first, end = before.count if before else 0, part_sizes(ROWS)[parts[cell.identity]]
            assert end > first, "rows that are there are asked for again"
            rows = synthetic.make_rows(cell, truth(cell), shared + rng.normal(0, 0.02, ROWS))
            places = sorted(drawn(ROWS)[first:end])
            stored.add(cell.key, first, ROWS, [rows[place] for place in places], 1.0)
        return []

    return score


def study(workdir, finished=lambda cell: False):
    """A study whose cells have keys, and no rows but those that are finished."""
    changes = {
        "fine_tunes": (),
        "formats": ("default",),
        "evals": (
            EvalSet("lab_nli", Role.IN_DOMAIN),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
        ),
    }
    config = dataclasses.replace(synthetic.config(workdir, ROWS), **changes)
    cells = plan.make_plan(config, synthetic.revisions(STEPS)).cells
    left_out = {one.identity for one in cells if not finished(one)}
    synthetic.make_store(workdir, left_out, ROWS, STEPS, **changes)
    return config


def test_few_rows_are_scored_and_the_end_is_found(tmp_path):
    rounds, said = [], []
    config, revisions = study(tmp_path), synthetic.revisions(STEPS)
    adaptive.run(config, revisions, said.append, scorer(rounds))
    assert rounds[0][0] == {"step1", "step16384", "step32768"}
    assert set(rounds[0][1].values()) == {0} and len(rounds[0][1]) == 6
    scored = sum(count for count, _ in Parts(Storage.open(tmp_path)).counts().values())
    assert scored <= 0.2 * 2 * ROWS * len(STEPS)
    assert f"{scored:,} of {2 * ROWS * len(STEPS):,} rows scored" in said[-1]
    assert "base: lab_nli default 4-shot: not learned; probability " in said[-1]
    assert "base: lab_attributes default 4-shot: learned, its end is reached between" in said[-1]
    # The way to the end is a third of 15 doublings: step 32.
    between = said[-1].split("between ")[1].split(";")[0]
    assert between in ("step8 and step16", "step16 and step32", "step32 and step64")


def test_an_ended_search_goes_on_where_it_was(tmp_path):
    whole, parts, revisions = tmp_path / "whole", tmp_path / "parts", synthetic.revisions(STEPS)
    said, again, rounds = [], [], []
    adaptive.run(study(whole), revisions, said.append, scorer([]))
    config, score = study(parts), scorer(rounds)

    def killed(*arguments):
        failures = score(*arguments)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return failures

    with pytest.raises(KeyboardInterrupt):
        adaptive.run(config, revisions, again.append, killed)
    adaptive.run(config, revisions, again.append, score)
    assert again[-1] == said[-1]


@pytest.mark.parametrize(
    "revisions",
    [
        synthetic.revisions((1, 2, 3)),
        [Revision(f"m@{name}", name) for name in "abcd"],
        [Revision(f"m@s{step}", f"s{step}", step) for step in (1, 2, 2, 4)],
    ],
)
def test_a_series_that_cannot_be_searched_is_refused(revisions, tmp_path):
    with pytest.raises(ConfigError, match="are needed"):
        adaptive.run(study(tmp_path), revisions)


def test_what_cannot_be_scored_is_asked_for_once(tmp_path):
    rounds, said, score = [], [], scorer([])

    def failing(config, revisions, report, only, parts, evaluator):
        rounds.append(only)
        assert len(rounds) < 100, "asked for again and again"
        there = {key: part for key, part in parts.items() if key[0] != "step16384"}
        lost = len(parts) - len(there)
        return score(config, revisions, report, only, there, evaluator) + ["disk"] * lost

    revisions = synthetic.revisions(STEPS)
    failures = adaptive.run(study(tmp_path), revisions, said.append, failing)
    assert failures == ["disk"] * 2 and sum("step16384" in one for one in rounds) == 1
    assert "lab_nli default 4-shot: open, some could not be scored; 32 rows of 2" in said[-1]


def test_rows_of_a_finished_cell_are_compared_with_the_same_ones_of_a_begun_one(tmp_path):
    last = "lab_nli", STEPS[-1]
    config = study(tmp_path, lambda cell: (cell.task, cell.model.step) == last)
    revisions = synthetic.revisions(STEPS)
    store, parts = Store.open(tmp_path), Parts(Storage.open(tmp_path))
    (record,) = store.records("score")
    rows = store.rows(record.key, ["score"]).to_dict("records")
    begun = plan.make_plan(config, revisions).cells[0].key
    parts.add(begun, 0, ROWS, [rows[place] for place in sorted(drawn(ROWS)[:100])], 1.0)
    curve = adaptive.curves_of(config, revisions, adaptive.positions(revisions))[0]
    assert curve.known.counts.tolist() == [100] + 14 * [0] + [ROWS]
    assert curve.known.agreement == 0.5, "all of 100 rows, and none of LEAST_SHARED others"


def test_a_search_goes_by_tokens_and_by_steps_where_some_are_unknown():
    revisions = synthetic.revisions((1, 2, 4, 8))
    assert adaptive.positions(revisions).tolist() == [2048, 4096, 8192, 16384]
    revisions[1] = dataclasses.replace(revisions[1], tokens=None)
    assert adaptive.positions(revisions).tolist() == [1, 2, 4, 8]


@pytest.fixture(scope="module")
def long_series(tmp_path_factory):
    """Five checkpoints that have learned nothing, and sets of 80 rows."""
    out, world = tmp_path_factory.mktemp("long"), make_world(0, 16)
    for name, splits in sets.make_sets(world, 40, 80).items():
        for split, rows in splits.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            files.write_text(out / "data" / name / f"{split}.jsonl", text)
    trained = tokenizer.train_tokenizer(itertools.islice(make_corpus(world, 600), 600), 400)
    tokenizer.write_tokenizer(trained, out / "tokenizer", 512)
    model = LabModel(hidden_size=32, num_layers=1, num_heads=2, mlp_size=48, max_length=512)
    config = pretrain.model_config(LabConfig(model=model), trained.get_vocab_size())
    for step in (1, 2, 4, 8, 16):
        name = f"step{step}-tokens{step}K"
        publish.publish(out, name, init_params(config, step), config, {"step": step})
    return types.SimpleNamespace(checkpoints=out / "checkpoints", data=out / "data")


def engine_study(series, workdir, **changes):
    """Labels, free text and multiple choice; one fine-tuned model."""
    evals = (
        EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),
        EvalSet("lab_summary", Role.OUT_OF_DOMAIN),
        EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
    )
    scoring = Scoring(max_new_tokens=4, bootstrap=50)
    changes = {"evals": evals, "formats": ("default",), "scoring": scoring} | changes
    return study_of(series, workdir, **changes)


@pytest.fixture
def counted(monkeypatch):
    """(score, place) of every row that the engine scores, and the evaluators that scored."""
    places, evaluators = [], set()

    def count(name, places_of):
        real = getattr(Evaluator, name)

        def counting(self, job, params, *more):
            evaluators.add(self)
            done = real(self, job, params, *more)
            places.extend((job.key(), place) for place in places_of(self, job, *more))
            return done

        monkeypatch.setattr(Evaluator, name, counting)

    count("score_rows", lambda self, job, places: places)
    count("score", lambda self, job: range(self.size(job)))
    return types.SimpleNamespace(places=places, evaluators=evaluators)


def cells(workdir):
    store = Store.open(workdir)
    return {one.key: (one, store.rows(one.key)) for one in store.records()}


@pytest.mark.slow
def test_a_full_study_after_an_adaptive_one_gives_the_same_cells(long_series, tmp_path, counted):
    config = engine_study(long_series, tmp_path / "adaptive")
    revisions, said = list_revisions(config.suite), []
    assert adaptive.run(config, revisions, said.append) == []
    assert "probability" in said[-1]
    assert len(counted.evaluators) == 1, "the rounds compile together"
    cell = plan.make_plan(config, revisions).cells[0]
    whole = {cell.identity: len(part_sizes(80)) - 1}
    assert executor.run(config, revisions, only={cell.model.checkpoint}, parts=whole) == []
    loaded = loading.load(config.workdir, 2)
    asked = Parts(Storage.open(config.workdir)).counts()
    assert asked and not set(asked) & set(loaded.cells["key"])
    why = dict(zip(loaded.missing["key"], loaded.missing["why"], strict=True))
    for key, (count, total) in asked.items():
        assert why[key] == f"{count} of {total} rows scored" and count < total
    assert executor.run(config, revisions) == []
    assert len(set(counted.places)) == len(counted.places), "a row was scored twice"
    assert Parts(Storage.open(config.workdir)).counts() == {}
    whole = engine_study(long_series, tmp_path / "whole")
    assert executor.run(whole, revisions) == []
    found, wanted = cells(config.workdir), cells(whole.workdir)
    assert found.keys() == wanted.keys() and len(wanted) == 30
    for key, (record, rows) in wanted.items():
        again, rows_again = found[key]
        left_out = {"seconds": 0.0, "metrics": {}, "provenance": None}
        assert dataclasses.replace(again, **left_out) == dataclasses.replace(record, **left_out)
        for name in ("metric", "value", "stderr", "low", "high", "n", "majority", "chance"):
            assert again.metrics[name] == record.metrics[name]
        extra, extra_again = record.metrics["extra"], again.metrics["extra"]
        assert extra_again.keys() == extra.keys()
        for name, value in extra.items():
            if isinstance(value, float):
                assert extra_again[name] == pytest.approx(value, rel=1e-4, nan_ok=True), name
        # Rows are batched with others: log-probabilities differ in the last digits.
        pd.testing.assert_frame_equal(rows_again, rows, rtol=1e-4, atol=1e-5)


def test_killed_between_parts_it_scores_no_row_again(long_series, tmp_path, counted, monkeypatch):
    names = ("lab_nli", "lab_summary", "lab_attributes")
    evals = tuple(EvalSet(name, Role.OUT_OF_DOMAIN) for name in names)
    config = engine_study(long_series, tmp_path, fine_tunes=(), evals=evals)
    revisions = list_revisions(config.suite)
    first = revisions[0].revision
    wanted = {
        cell.identity: 0
        for cell in plan.make_plan(config, revisions).cells
        if cell.model.checkpoint == first
    }
    real = Parts.add

    def killed(self, *arguments):
        real(self, *arguments)
        if len(self.counts()) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        executor.run(config, revisions, only={first}, parts=wanted)
    monkeypatch.setattr(Parts, "add", real)
    assert len(counted.places) == 2 * part_sizes(80)[0]
    for part in (0, 1, 1):
        wanted = dict.fromkeys(wanted, part)
        assert executor.run(config, revisions, only={first}, parts=wanted) == []
    stored = Parts(Storage.open(tmp_path)).counts()
    assert set(stored.values()) == {(part_sizes(80)[1], 80)} and len(stored) == 3
    assert len(set(counted.places)) == len(counted.places) == 3 * part_sizes(80)[1]
    assert not Store.open(tmp_path).keys(), "a part is no finished cell"


def test_parts_of_another_checkpoint_compile_nothing(long_series, tmp_path):
    config, traces = engine_study(long_series, tmp_path), []
    revisions, evaluator = list_revisions(config.suite), Evaluator(config.score_run)
    cells = [one for one in plan.make_plan(config, revisions).cells if not one.model.tuned_on]
    for revision in revisions[:2]:
        own = {one.identity: 0 for one in cells if one.model.checkpoint == revision.revision}
        only = {revision.revision}
        assert executor.run(config, revisions, only=only, parts=own, evaluator=evaluator) == []
        (scorer,) = evaluator._scorers.values()
        traces.append(dict(scorer.traces))
    assert traces[0] and traces[0] == traces[1]
    assert len(Parts(Storage.open(tmp_path)).counts()) == 6


def test_a_model_waits_for_the_rest_of_its_rows(long_series, tmp_path):
    config = engine_study(long_series, tmp_path)
    revisions = list_revisions(config.suite)
    first = revisions[0].revision
    tuned = [
        cell
        for cell in plan.make_plan(config, revisions).cells
        if cell.model.checkpoint == first and cell.model.tuned_on
    ]
    base_only = {cell.identity: 0 for cell in plan.make_plan(config, revisions).cells}
    base_only = {one: part for one, part in base_only.items() if one[0] == first and not one[1]}
    assert executor.run(config, revisions, only={first}, parts=base_only) == []
    assert not list(tmp_path.glob("models/*")), "no row of the tuned model was asked for"
    for part in (0, len(part_sizes(80)) - 1):
        wanted = {cell.identity: part for cell in tuned}
        assert executor.run(config, revisions, only={first}, parts=wanted) == []
        assert len(list(tmp_path.glob("models/*"))) == (1 if part == 0 else 0)
    log = Store.open(tmp_path).read_log()
    trained = [line for line in log if line["event"] == "started" and "train" in line["cell"]]
    assert len(trained) == 1
