"""`amuro plan`: what is added up, what is refused, and what the compiler says."""

import dataclasses
import importlib.util
import json
import re

import jax
import pytest

from amuro_jax.chips import CHIPS
from amuro_jax.cli.configure import load_config
from amuro_jax.config import (
    Dtype,
    Loss,
    Probe,
    Recipe,
    Remat,
    ScoreConfig,
    StudyConfig,
    TrainConfig,
    TrainRun,
)
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.cost import Amount, causal_row, forward_flops, training_flops
from amuro_jax.planning import topology, training, workload
from amuro_jax.planning.cost import Roofline, roofline
from amuro_jax.planning.models import model_config
from amuro_jax.planning.padding import _examples, computed
from amuro_jax.planning.plan import make_plan
from amuro_jax.planning.render import render
from amuro_jax.planning.workload import PUBLISHED_HOURS, workload_of
from tests.study.conftest import series  # noqa: F401

OLMO, LLAMA = "allenai/OLMo-1B-hf", "meta-llama/Meta-Llama-3-8B"
TINY = {
    "model_type": "olmo",
    "hidden_act": "silu",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "eos_token_id": 1,
}


def train(checkpoint=OLMO, remat=Remat.AUTO, **fields):
    recipe = Recipe(task="tulu", **fields)
    return TrainConfig(checkpoint, "w", recipe=recipe, run=TrainRun(remat=remat))


@pytest.fixture
def study(root):
    spec = importlib.util.spec_from_file_location("olmo1b", root / "configs/study/olmo1b.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def test_published_models_have_their_published_sizes():
    assert model_config(OLMO).num_parameters == 1_176_764_416
    assert model_config(f"{LLAMA}@main").num_parameters == 8_030_261_248


def test_flops_of_a_model_by_hand():
    model = ModelConfig("olmo", 10, 4, 3, 2, 1, 2, 8, 16)
    attention, mlp = 4 * 2 * 2 * (2 + 1), 3 * 4 * 8
    products = 2 * 3 * (attention + mlp) * 5
    forward = products + 4 * 3 * 2 * 2 * 15 + 2 * 4 * 10 * 2
    assert forward_flops(model, causal_row(5, 2)) == forward
    assert training_flops(model, causal_row(5, 2)) == 3 * forward
    assert training_flops(model, causal_row(5, 2), adapter=True) == 2 * forward + 4 * 3 * 4 * 15


def test_the_longest_part_is_the_roofline():
    chip = dataclasses.replace(CHIPS["v5e"], flops=100.0, bandwidth=10.0, links=1.0)
    time = roofline(chip, 55.0, 16.0, 1.4)
    assert (time.products, time.memory, time.links) == pytest.approx((1.0, 2.0, 2.0))
    assert roofline(chip, 550.0, 1.0, 0.0).bound == "products"


def test_the_study_beside_the_published_account(study):
    plan = make_plan(study, "v5p:2x2x2", compile=False)
    assert set(PUBLISHED_HOURS) <= set(plan.hours)
    assert plan.total == pytest.approx(
        sum(one.hours for one in (*plan.trainings, *plan.scores)), rel=1e-6
    )
    tulu = next(one for one in plan.trainings if one.label == "tulu")
    assert tulu.steps == 5 * -(-326154 // 8) and tulu.count == 8
    assert tulu.hours == pytest.approx(8 // tulu.chosen.members * tulu.seconds * 8 / 3600)
    text = render(plan)
    for part in ("1067", "not asked to", "55% of peak", "table of published sizes"):
        assert part in text
    values = json.loads(plan.to_json())
    assert values["total_hours"] == pytest.approx(plan.total)
    assert values["trainings"][0]["chosen"]["mesh"]


def test_padding_is_planned_as_the_run_has_it():
    """Packed rows of few shards take little more than the real tokens; eight examples on eight
    batch shards are a row each, as long as the longest.
    """
    (one,) = workload_of(train()).trainings
    few, many = (computed(one.rows, one.recipe, one.run, multiple) for multiple in (1, 8))
    assert few.packed and few.ratio < 1.2 and 2 < many.ratio < 3
    lengths = [len(row.tokens) for row in _examples(one.rows)]
    real = one.recipe.batch_size * sum(lengths) / len(lengths)
    assert few.amount.tokens == pytest.approx(few.ratio * real, rel=0.1)


def test_pairs_of_answers_are_two_sequences():
    """Of a set without pairs nothing is planned; a step of pairs computes twice as many rows."""
    with pytest.raises(DataError, match="tulu is a set of kind chat, dpo needs pairs"):
        workload_of(train(loss=Loss.DPO))
    (one,) = workload_of(train()).trainings
    pairs = dataclasses.replace(one.recipe, loss=Loss.DPO)
    padded = dataclasses.replace(one.run, packing=False)
    single = computed(one.rows, one.recipe, padded, 8).amount
    double = computed(one.rows, pairs, padded, 8).amount
    assert double.tokens == pytest.approx(2 * single.tokens, rel=0.1)
    assert computed(one.rows, one.recipe, one.run, 1).packed
    assert not computed(one.rows, pairs, one.run, 1).packed  # each has a reference of its own
    # Eight examples on sixteen batch shards: half of the rows are padding.
    wide = computed(one.rows, one.recipe, padded, 16).amount
    assert wide.tokens == 2 * single.tokens


def test_trainings_of_a_study_in_one_program(study):
    """Eight checkpoints on eight chips: nothing is sent, and no row is padding for a shard's sake;
    what does not fill the chips is trained by itself.
    """
    grouped = dataclasses.replace(study.train_run, stack=None, remat=Remat.AUTO)
    config = dataclasses.replace(study, train_run=grouped)
    plan = make_plan(config, "v5p:2x2x2", compile=False)
    tulu = next(one for one in plan.trainings if one.label == "tulu")
    chosen = tulu.chosen
    assert (chosen.mesh, chosen.members, chosen.time.links) == ("data:8", 8, 0)
    assert chosen.step.ratio < 1.2
    assert tulu.hours == pytest.approx(8 * tulu.seconds / 3600)  # one run of eight members
    assert "8 in one program" in render(plan)
    budget = dataclasses.replace(config, disk_budget_gb=60.0)
    assert workload_of(budget).trainings[0].stack == 1
    seven = dataclasses.replace(config, select=",".join(config.select.split(",")[:7]))
    tulu = make_plan(seven, "v5p:2x2x2", compile=False).trainings[-1]
    assert tulu.chosen.members < 7
    assert tulu.hours > 7 // tulu.chosen.members * tulu.seconds * 8 / 3600


def test_disk_of_trainings_in_one_program(study):
    """States of all members; of every set the models, which are scored when all are trained."""
    together = make_plan(study, "v5p:2x2x2", compile=False)
    alone = make_plan(dataclasses.replace(study, disk_budget_gb=60.0), "v5p:2x2x2", compile=False)
    model = 4 * together.parameters
    assert [one.chosen.members for one in together.trainings] == [8] * 5
    assert (together.disk.tuned, together.disk.states) == (40 * model, 8 * 2 * 3 * model)
    assert (alone.disk.tuned, alone.disk.states) == (model, 2 * 3 * model)


def test_how_many_trainings_share_a_program_and_what_each_takes(study):
    grouped = dataclasses.replace(study, train_run=dataclasses.replace(study.train_run, stack=3))
    work = workload_of(grouped)
    assert {one.stack for one in work.trainings} == {3}
    preference = dataclasses.replace(work.trainings[0].recipe, loss=Loss.DPO)
    assert workload._most_stacked(grouped, preference, 8) == 1
    where = topology.parse_topology("v5p:2x2x2")
    alone, together = (
        training._candidate(
            {"data": count, "fsdp": 1, "tensor": 1},
            "full",
            count,
            work.trainings[0],
            work.model,
            where,
        )
        for count in (1, 8)
    )
    # Beside its state each member keeps the parameters that it starts from.
    assert together.bytes - alone.bytes == pytest.approx(4 * work.model.num_parameters)


def test_the_average_of_seeds_is_no_training_of_its_own():
    config = load_config("study/pythia_160m.py", StudyConfig)
    config = dataclasses.replace(config, seeds=(1, 2), average_seeds=True)
    assert sum(one.count for one in workload_of(config).trainings) == 2 * 16


def test_probes_are_counted_by_their_steps():
    config = load_config("study/pythia_160m.py", StudyConfig)
    without, steps = workload_of(config), 5
    work = workload_of(dataclasses.replace(config, probe=Probe(steps=steps)))
    probes = work.trainings[len(without.trainings) :]
    assert work.trainings[: len(without.trainings)] == without.trainings
    assert {one.part for one in probes} == {"probes"} and {one.steps for one in probes} == {steps}
    number = len({entry.task for entry in config.fine_tunes}) * work.checkpoints
    assert sum(one.count for one in probes) == number and f", {number} probes" in work.what
    assert {one.label for one in probes}.isdisjoint(one.label for one in without.trainings)


def test_larger_models_are_split_and_computed_again():
    """Llama-3-8B's state takes 96 GB, more than four v5e chips have and little for sixteen v6e."""
    plan = make_plan(train(LLAMA, batch_size=16), "v6e:4x4", compile=False)
    chosen = plan.trainings[0].chosen
    sizes = training._sizes(chosen.mesh)
    assert sizes["fsdp"] * sizes["tensor"] == 16
    assert chosen.bytes < 0.9 * 32e9
    small = make_plan(train(LLAMA, batch_size=16), "v5e:2x2", compile=False).trainings[0]
    assert "nothing fits 16.00 GB a chip" in small.why
    adapter = make_plan(train(LLAMA, batch_size=16, lora_rank=16), "v6e:4x4", compile=False)
    assert adapter.trainings[0].flops < plan.trainings[0].flops
    assert _fitting(adapter) > _fitting(plan)


def _fitting(plan):
    """How many ways to split the only training fit."""
    return int(re.search(r"fastest of (\d+) that fit", plan.trainings[0].why)[1])


@pytest.mark.parametrize(
    "name,what",
    [
        ("v5x:4x4", "unknown chip 'v5x'"),
        ("v5e:4", "no shape of a v5e slice"),
        ("v5e:4x0", "no shape of a v5e slice"),
        ("v5p:4x4", "no shape of a v5p slice"),
        ("h100:2x4", "no shape of a h100 slice"),
    ],
)
def test_unknown_topologies(name, what):
    with pytest.raises(ConfigError, match=what) as error:
        topology.parse_topology(name)
    assert "v5e:4x4" in error.value.hint


def test_a_slice_that_libtpu_does_not_know():
    pytest.importorskip("libtpu")
    with pytest.raises(ConfigError, match="no such TPU slice"):
        topology.compiler_of(topology.parse_topology("v5e:3x5"))


def test_a_mesh_that_does_not_fill_the_chips():
    config = train()
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, mesh="fsdp:5"))
    with pytest.raises(ConfigError, match="does not fill 16 devices"):
        make_plan(config, "v5e:4x4", compile=False)


def test_what_is_not_known_is_not_guessed(tmp_path):
    with pytest.raises(ConfigError, match="shape of this model is not known"):
        make_plan(train("someone/else"), "v5e:4x4", compile=False)
    unknown = dataclasses.replace(train(), recipe=Recipe(task="gsm8k"))
    with pytest.raises(ConfigError, match="the size of gsm8k is not known"):
        make_plan(unknown, "v5e:4x4", compile=False)


def test_without_a_compiler_it_says_so():
    plan = make_plan(train(), "h100:8")
    assert "GPUs are not compiled" in plan.compiler and plan.trainings[0].compiled is None
    assert "Nothing is compiled" in render(plan)


def test_a_training_run_is_compiled_for_this_machine(tmp_path):
    """The compiler's state is the model's: parameters and two moments in fp32."""
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    plan = make_plan(train(str(tmp_path), dtype=Dtype.FLOAT32, max_length=64), "cpu:1")
    (one,) = plan.trainings
    assert one.compiled.arguments == pytest.approx(12 * plan.parameters, rel=0.2)
    assert one.chosen.mesh == "data:1" and one.longest == 64
    assert not one.compiled.collectives and len(one.compiled.largest) == 3
    assert 0 < one.mfu < 0.551


def test_a_program_that_cannot_be_read(tmp_path, monkeypatch):
    """Its memory is the compiler's, its traffic the estimate."""

    def refuse(self):
        raise jax.errors.JaxRuntimeError("async-update instruction should have 1 operands")

    monkeypatch.setattr(jax.stages.Compiled, "as_text", refuse)
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    plan = make_plan(train(str(tmp_path), dtype=Dtype.FLOAT32, max_length=64), "cpu:1")
    (one,) = plan.trainings
    assert one.compiled.collectives is None and one.compiled.arguments > 0
    assert "cannot read the compiled program" in render(plan)


def test_scores_of_rows_at_hand(series):  # noqa: F811
    """They are read with the checkpoint's tokenizer; shots that they share are read once."""
    folder = str(series.checkpoints / "step1-tokens1K")
    tasks = ("lab_nli", "lab_summary")
    config = ScoreConfig(folder, "w", str(series.data), tasks, shots=(1,))
    plan = make_plan(config, "v5e:4x4", compile=False)
    ranked, generated = plan.scores
    assert "rows" in ranked.rows and "table" not in ranked.rows
    assert generated.time.memory > ranked.time.memory  # every new token reads the weights
    assert plan.scorer.mesh == "data:16" and ranked.flops > 0


def test_amounts_add_up():
    assert Amount(1, 2, 3).times(2) + Amount(1, 1, 1) == Amount(3, 5, 7)


def test_the_fastest_compiled_candidate_is_chosen(monkeypatch):
    """The first sends more than was estimated, the second does not fit, the third is estimated to
    be slower than the first turned out to be.
    """
    config = train(batch_size=16)
    where = topology.parse_topology("v5e:4x4")
    work = workload_of(config)
    (one,) = work.trainings
    base = training.candidates(one, work.model, where)[0]

    def candidate(name, seconds):
        return dataclasses.replace(base, mesh=name, time=Roofline(seconds, 0, 0))

    a, b, c = candidate("data:16", 1.0), candidate("fsdp:16", 1.1), candidate("tensor:16", 9.0)
    accounts = {
        "data:16": training.Compiled(1, 1, 0, {"all-reduce": 5 * 0.7 * 200e9}, []),
        "fsdp:16": training.Compiled(1, 17 * 10**9, 0, {}, []),
    }
    monkeypatch.setattr(training, "candidates", lambda *_: [a, b, c])
    monkeypatch.setattr(training, "compile_candidate", lambda one, *_: accounts[one.mesh])
    plan = training.plan_training(one, work.model, where, ["devices"], "data:-1")
    assert plan.chosen.mesh == "data:16" and plan.chosen.time.links == pytest.approx(5)
    assert "fsdp:16" in plan.why and "tensor:16" not in plan.why
    accounts["fsdp:16"] = training.Compiled(1, 1, 0, {}, [])
    plan = training.plan_training(one, work.model, where, ["devices"], "data:-1")
    assert plan.chosen.mesh == "fsdp:16" and "data:16" in plan.why


@pytest.mark.parametrize(
    ("name", "tunings", "scores"),
    [("pythia_160m", 16, 208), ("olmo2_1b", 72, 336), ("paper_llama3_8b", 4, 62)],
)
def test_the_packaged_studies_are_planned_without_the_hub(name, tunings, scores):
    work = workload_of(load_config(f"study/{name}.py", StudyConfig))
    assert sum(one.count for one in work.trainings) == tunings
    assert sum(one.count for one in work.scores) == scores


def test_a_folder_of_checkpoints_has_the_tokenizer_of_its_first(series, tmp_path):  # noqa: F811
    config = load_config("study/seeds.py", StudyConfig)
    config = dataclasses.replace(
        config, suite=str(series.checkpoints), data_root=str(series.data), evals=config.evals[:1]
    )
    assert workload_of(config).scores[0].rows.source != "table of published sizes"


def test_the_shapes_of_planned_models_have_the_published_numbers_of_parameters():
    assert model_config("EleutherAI/pythia-160m").num_parameters == 162_322_944
    assert model_config("allenai/OLMo-2-0425-1B").num_parameters == 1_484_916_736
