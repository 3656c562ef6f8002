"""Averages and noise as cells of a study: their identities, their numbers against models made by
hand, and what is refused.
"""

import dataclasses
import types

import jax
import numpy as np
import pytest

from amuro_jax import averaged, keys, sharding, variants
from amuro_jax.checkpoint import load_params
from amuro_jax.config import EvalSet, FineTune, Recipe, Role, StudyConfig, WeightNoise
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import CheckpointError, ConfigError
from amuro_jax.evals.run import Evaluator, ScoreJob
from amuro_jax.models.derived import with_noise
from amuro_jax.models.parameters import flatten, unflatten
from amuro_jax.opened import open_checkpoint
from amuro_jax.records import ModelRef
from amuro_jax.results import loading
from amuro_jax.results.rates import rates_of
from amuro_jax.results.store import Store
from amuro_jax.study import executor, grid
from tests.study.conftest import study_of

NOISE = variants.Noise(0.5, 3)


@pytest.fixture(scope="module")
def done(series, tmp_path_factory):
    """Two checkpoints, the average of both, one noise, fine-tunings of each with two seeds and
    their average.
    """
    config = study_of(
        series,
        tmp_path_factory.mktemp("study"),
        formats=("default",),
        averages=(2, 3),  # of three there is none
        seeds=(42, 43),
        average_seeds=True,
        keep_models=True,
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
    ways.append(("lab_nli", "average of 2 seeds"))
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


def test_an_average_of_seeds_scores_as_that_of_the_kept_models(done, opened, frame):
    store = Store.open(done.workdir)
    name = list_revisions(done.suite)[0].revision
    trained = [
        one
        for one in store.records("train")
        if (one.model.checkpoint, one.model.variant) == (name, "")
    ]
    trained.sort(key=lambda one: one.model.seed)
    folders = [store.storage.child("models", one.key).epath() for one in trained]
    flats = [flatten(load_params(folder, opened[0].config)) for folder in folders]
    mean = unflatten({part: sum(flat[part] for flat in flats) / 2 for part in flats[0]})
    cell = of(frame, variant="average of 2 seeds", checkpoint=name, task="lab_attributes")
    rows = store.rows(cell["key"]).to_dict("records")
    for ours, row in zip(scored(done, opened[0], mean), rows, strict=True):
        np.testing.assert_allclose(ours["choice_logprobs"], row["choice_logprobs"], atol=1e-4)
    assert cell["identity"] == keys.average_key([one.key for one in trained])


def test_what_is_tuned_from_an_average_starts_from_it(done, opened):
    store, flats = Store.open(done.workdir), [flatten(one.load_params()) for one in opened]
    (trained,) = [
        one
        for one in store.records("train")
        if (one.model.variant, one.model.seed) == ("average of 2", 42)
    ]
    folder = store.storage.child("models", trained.key).epath()
    tuned = flatten(load_params(folder, opened[1].config))

    def distance(start):
        return sum(float(np.square(tuned[name] - start(name)).sum()) for name in tuned)

    from_average = distance(lambda name: (flats[0][name] + flats[1][name]) / 2)
    assert from_average < 0.5 * min(distance(flat.__getitem__) for flat in flats)


def test_models_are_kept_until_their_average_is_scored(done, tmp_path):
    """No training is done twice, and nothing stays on disk."""
    config = dataclasses.replace(
        done, workdir=str(tmp_path), keep_models=False, averages=(), noise=WeightNoise()
    )
    assert executor.run(config, list_revisions(done.suite)) == []
    store = Store.open(tmp_path)
    log = [line for line in store.read_log() if line["cell"].startswith("train ")]
    assert sum(line["event"] == "started" for line in log) == 4
    assert not list((tmp_path / "models").glob("*"))


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
    found = loading.load(done.workdir, 50)
    assert set(found.cells["variant"]) == {""}
    assert set(found.variants["variant"]) == {"", "average of 2", "average of 2 seeds"}
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


def test_tokenizers_of_two_kinds_have_no_average(opened):
    other = dataclasses.replace(opened[1], tokenizer=types.SimpleNamespace(fingerprint="other"))
    with pytest.raises(CheckpointError, match="(?s)two different models: tokenizer .*other"):
        averaged.averaged([opened[0], other])


def test_an_average_lies_on_the_mesh_in_the_dtype_that_is_asked_for(opened):
    mesh = sharding.make_mesh("fsdp:8")
    params = flatten(averaged.averaged(opened).load_params(mesh, dtype=jax.numpy.bfloat16))
    assert {str(leaf.dtype) for leaf in params.values()} == {"bfloat16"}
    assert params["embed/embedding"].sharding.mesh.shape["fsdp"] == 8


def test_noise_meets_the_sets_that_are_named_in_their_main_view():
    config = StudyConfig(
        suite="s",
        formats=("io", "default"),
        shots=(2, 4),
        evals=(EvalSet("lab_nli"), EvalSet("lab_attributes", Role.MULTIPLE_CHOICE)),
        noise=WeightNoise(sigmas=(0.1, 0.2), draws=2, seed=5, tasks=("lab_nli",)),
    )
    revision = types.SimpleNamespace(revision="a", step=1, tokens=1)
    base, *noisy = grid.models_of(config, [revision])
    names = [f"noise {sigma} seed {seed}" for sigma in (0.1, 0.2) for seed in (5, 6)]
    assert [one.variant for one in noisy] == names and base.variant == ""
    for one in noisy:
        cells = [(cell.task, cell.format, cell.shots) for cell in grid.cells_of(config, one)]
        assert cells == [("lab_nli", "io", 2)]


def test_names_are_read_as_they_are_written():
    assert variants.noise_of(NOISE.variant) == NOISE
    assert variants.noise_of("average of 2") is None and variants.average_of(NOISE.variant) is None
    assert variants.average_of(variants.average_variant(12, "lora")) == 12
    assert variants.without_average("lora, average of 12") == "lora"
    assert variants.without_average("average of 12") == ""
    several = variants.seeds_variant(3, "low rate")
    assert variants.seeds_of(several) == 3 and variants.average_of(several) is None
    assert variants.without_average(several) == "low rate" and variants.is_derived(several)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"averages": (1,)}, "2 or more, got"),
        ({"averages": (2, 2)}, "different numbers"),
        ({"average_seeds": True}, "fewer than two seeds"),
        ({"noise": WeightNoise(sigmas=(0.1, -1.0))}, "positive sizes"),
        ({"noise": WeightNoise(sigmas=(0.1,), draws=0)}, "draws must be positive, got 0"),
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


def test_trainings_from_averages_are_no_candidates_of_a_rate(done):
    """They start from another model: their loss says nothing of the checkpoint's best rate."""
    entry = dataclasses.replace(done.fine_tunes[0], learning_rates=(1e-2, 1e-3))
    config = dataclasses.replace(done, fine_tunes=(entry,))
    records = [record(variant, loss) for variant, loss in (("", 2.0), ("average of 2", 1.0))]
    table = rates_of(types.SimpleNamespace(records=lambda kind: records), config)
    assert list(table["held_out_loss"]) == [2.0] and table["best"].all()


def record(variant, loss):
    recipe = Recipe(task="lab_nli", learning_rate=1e-2)
    model = ModelRef("s", "step1", 1, tuned_on="lab_nli", variant=variant)
    return types.SimpleNamespace(model=model, recipe=recipe, metrics={"held_out_loss": loss})
