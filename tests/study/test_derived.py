"""Averages and noise as cells of a study: their identities, their numbers against models made by
hand, and what is refused.
"""

import dataclasses

import jax
import numpy as np
import pytest

from amuro_jax import averaged, keys, variants
from amuro_jax.config import EvalSet, FineTune, Role, StudyConfig, WeightNoise
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import CheckpointError, ConfigError
from amuro_jax.evals.run import Evaluator, ScoreJob
from amuro_jax.models.derived import with_noise
from amuro_jax.models.parameters import flatten, unflatten
from amuro_jax.opened import open_checkpoint
from amuro_jax.results import results
from amuro_jax.results.store import Store
from amuro_jax.study import executor, grid
from tests.study.conftest import study_of

NOISE = variants.Noise(0.5, 3)


@pytest.fixture(scope="module")
def done(series, tmp_path_factory):
    """Two checkpoints, the average of both, one noise, one fine-tuning of each."""
    config = study_of(
        series,
        tmp_path_factory.mktemp("study"),
        formats=("default",),
        averages=(2, 3),  # of three there is none
        noise=WeightNoise(sigmas=(0.5,), draws=1, seed=3),
        evals=(
            EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
        ),
    )
    assert executor.run(config, list_revisions(config.suite)) == []
    return config


@pytest.fixture(scope="module")
def opened(done):
    return [open_checkpoint(one.name) for one in list_revisions(done.suite)]


@pytest.fixture(scope="module")
def frame(done):
    return Store.open(done.workdir).frame()


def scored(done, opened, params):
    """Rows of the multiple-choice set."""
    job = ScoreJob(opened, "x", None, "lab_attributes", "default", 1, done.scoring, done.data_root)
    job = dataclasses.replace(job, model=grid.models_of(done, list_revisions(done.suite))[0])
    return Evaluator().score(job, params)[1]


def of(frame, **place):
    chosen = frame[np.all([frame[name] == value for name, value in place.items()], axis=0)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_the_store_has_a_cell_of_every_kind(done, frame):
    places = set(frame[["tuned_on", "variant", "task"]].itertuples(index=False, name=None))
    sets = ("lab_nli", "lab_attributes")
    ways = [("", ""), ("", "average of 2"), ("lab_nli", ""), ("lab_nli", "average of 2")]
    assert places == {(*way, task) for way in ways for task in sets} | {
        ("", NOISE.variant, "lab_attributes")
    }
    averages = frame[frame["variant"] == "average of 2"]
    assert set(averages["checkpoint"]) == {"step10-tokens10K"}  # two end there, none before


def test_an_average_scores_as_the_average_made_by_hand(done, opened, frame):
    flats = [flatten(one.load_params()) for one in opened]
    mean = unflatten({name: sum(flat[name] for flat in flats) / 2 for name in flats[0]})
    cell = of(frame, variant="average of 2", tuned_on="", task="lab_attributes")
    stored = Store.open(done.workdir).rows(cell["key"])
    for ours, row in zip(scored(done, opened[1], mean), stored.to_dict("records"), strict=True):
        np.testing.assert_allclose(ours["choice_logprobs"], row["choice_logprobs"], atol=1e-4)
    assert cell["identity"] == keys.average_key([one.identity for one in opened])


def test_noise_scores_as_the_noisy_model(done, opened, frame):
    for place, one in enumerate(opened):
        name = list_revisions(done.suite)[place].revision
        cell = of(frame, variant=NOISE.variant, checkpoint=name, task="lab_attributes")
        noisy = with_noise(one.load_params(dtype=jax.numpy.float32), NOISE.sigma, NOISE.seed)
        rows = Store.open(done.workdir).rows(cell["key"]).to_dict("records")
        for ours, row in zip(scored(done, one, noisy), rows, strict=True):
            np.testing.assert_allclose(ours["choice_logprobs"], row["choice_logprobs"], atol=1e-4)
        assert cell["identity"] == keys.noise_key(one.identity, NOISE)
        plain = of(frame, variant="", tuned_on="", checkpoint=name, task="lab_attributes")
        assert cell["key"] != plain["key"]


def test_analyses_see_the_checkpoints_themselves(done):
    found = results.load(done.workdir, 50)
    assert set(found.cells["variant"]) == {""}
    assert set(found.variants["variant"]) == {"", "average of 2"}
    assert len(found.noise) == 2 and set(found.noise["variant"]) == {NOISE.variant}
    assert len(found.missing) == 0 and found.draws[found.noise["key"].iloc[0]].shape == (50,)


def test_a_second_run_does_nothing(done):
    before = Store.open(done.workdir).read_log()
    assert executor.run(done, list_revisions(done.suite)) == []
    assert Store.open(done.workdir).read_log() == before


def test_the_average_of_one_is_the_checkpoint_itself(opened):
    assert averaged.averaged(opened[:1]) is opened[0]


def test_the_order_of_an_average_is_part_of_what_it_is(opened):
    there, back = averaged.averaged(opened), averaged.averaged(opened[::-1])
    assert there.identity != back.identity
    assert there.provenance({}, {}).checkpoint["average_of"] == [one.identity for one in opened]


def test_models_of_two_shapes_have_no_average(opened):
    other = dataclasses.replace(opened[1], config=dataclasses.replace(opened[1].config, mlp_size=4))
    with pytest.raises(CheckpointError, match="(?s)two different models: model.json .*mlp_size=4"):
        averaged.averaged([opened[0], other])


def test_names_are_read_as_they_are_written():
    assert variants.noise_of(NOISE.variant) == NOISE
    assert variants.noise_of("average of 2") is None and variants.average_of(NOISE.variant) is None
    assert variants.average_of(variants.average_variant(12, "lora")) == 12
    assert variants.without_average("lora, average of 12") == "lora"
    assert variants.without_average("average of 12") == ""


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"averages": (1,)}, "2 or more, got"),
        ({"averages": (2, 2)}, "different numbers"),
        ({"noise": WeightNoise(sigmas=(0.1, -1.0))}, "positive sizes"),
        ({"noise": WeightNoise(sigmas=(0.1,), draws=0)}, "draws must be 1 or more"),
        ({"noise": WeightNoise(sigmas=(0.1,), tasks=("lab_events",))}, "not a set of config.evals"),
        ({"noise": WeightNoise(sigmas=(0.1,))}, "no set is scored with noise"),
        ({"fine_tunes": (FineTune("lab_nli", variant="average of 4"),)}, "averages and noise"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    evals = (EvalSet("lab_nli", Role.IN_DOMAIN),)
    with pytest.raises(ConfigError, match=message):
        grid.validate(StudyConfig(workdir="w", suite="s", evals=evals, **changes))


def test_adapters_start_from_checkpoints_alone():
    config = StudyConfig(
        suite="s",
        averages=(2,),
        fine_tunes=(FineTune("lab_nli"), FineTune("lab_nli", variant="lora", lora_rank=2)),
    )
    revisions = [type("R", (), {"revision": n, "step": 1, "tokens": 1}) for n in ("a", "b")]
    made = [(one.tuned_on, one.variant) for one in grid.models_of(config, revisions)[-5:]]
    assert made == [
        ("", ""),
        ("", "average of 2"),
        ("lab_nli", ""),
        ("lab_nli", "average of 2"),
        ("lab_nli", "lora"),
    ]
