"""What revision names say, in what order they stand, and what a selection takes."""

import pytest

from amuro_jax.convert import revisions, suites
from amuro_jax.convert.revisions import Revision, list_revisions, ordered, parse, select_revisions
from amuro_jax.errors import CheckpointError, ConfigError
from tests.test_cli import amuro


@pytest.mark.parametrize(
    "repository,name,step,tokens,rest",
    [
        ("allenai/OLMo-1B-hf", "step342000-tokens1435B", 342000, 1435 * 10**9, {}),
        ("allenai/OLMo-7B-0424-hf", "step477000-tokens2000B", 477000, 2000 * 10**9, {}),
        ("allenai/OLMo-2-1124-7B", "stage1-step150-tokens1B", 150, 10**9, {"stage": 1}),
        (
            "allenai/OLMo-2-1124-7B",
            "stage2-ingredient3-step11931-tokens50B",
            11931,
            50 * 10**9,
            {"stage": 2, "ingredient": 3},
        ),
        ("allenai/OLMo-2-1124-7B", "step1000-tokens5B", 1000, 5 * 10**9, {}),
        ("allenai/Olmo-3-1025-7B", "stage3-step11921", 11921, None, {"stage": 3}),
        ("EleutherAI/pythia-160m-deduped", "step512", 512, 512 * 2_097_152, {}),
        ("LLM360/Amber", "ckpt_000", 1, 3_500_000_000, {}),
        ("LLM360/Amber", "ckpt_358", 359, 359 * 3_500_000_000, {}),
        (
            "TinyLlama/TinyLlama-1.1B",
            "TinyLlama/TinyLlama-1.1B-intermediate-step-955k-token-2T",
            955000,
            2 * 10**12,
            {},
        ),
        (
            "TinyLlama/TinyLlama-1.1B",
            "TinyLlama/TinyLlama-1.1B-step-50K-105b",
            50000,
            105 * 10**9,
            {},
        ),
        (
            "allenai/DataDecide-dolma1_7-1B",
            "step10000-seed-small-aux-2",
            10000,
            None,
            {"seed": "small-aux-2"},
        ),
        ("HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints", "step-160000", 160000, None, {}),
        (
            "HuggingFaceTB/SmolLM3-3B-checkpoints",
            "stage2-step-3480000",
            3480000,
            3480000 * 2_359_296,
            {"stage": 2},
        ),
        ("HuggingFaceFW/ablation-model-fineweb-edu", "step-001000-2BT", 1000, 2 * 10**9, {}),
        ("bigscience/bloom-7b1-intermediate", "global_step5000", 5000, None, {}),
        ("LLM360/K2", "ckpt_115", 115, None, {}),
        ("marin-community/marin-8b-base", "phoenix", None, None, {"stage": 4}),
        ("swiss-ai/Apertus-8B-2509", "step50000-tokens210B", 50000, 210 * 10**9, {}),
        ("HPLT/hplt2c_fra_checkpoints", "checkpoint_0047000", 47000, None, {}),
        ("OpenLLM-France/Lucie-7B", "step0400000", 400000, None, {}),
        ("EleutherAI/pythia-160m-seed3", "step512", 512, 512 * 2_097_152, {}),
    ],
)
def test_each_suite_reads_its_own_names(repository, name, step, tokens, rest):
    suite = suites.find_suite(repository)
    assert parse(name, suite, name) == Revision(name, name, step, tokens, **rest)


def test_pythia_has_154_known_checkpoints():
    found = list_revisions("EleutherAI/pythia-70m", offline=True, cache_dir="/nonexistent")
    assert len(found) == 154 and found[0].step == 0 and found[-1].revision == "step143000"


def test_other_branches_are_left_out():
    assert parse("float16", suites.find_suite("EleutherAI/pythia-70m"), "x") is None


def test_stage_two_stands_after_stage_one_by_tokens_seen():
    suite = suites.find_suite("allenai/OLMo-2-0425-1B")
    names = [
        "stage2-ingredient1-step1000-tokens3B",
        "stage1-step1907359-tokens4001B",
        "main",
        "stage1-step0-tokens0B",
    ]
    names.append("stage2-ingredient2-step500-tokens2B")
    found = ordered([parse(name, suite, name) for name in names])
    assert [r.revision for r in found] == [names[3], names[1], names[4], names[0], "main"]
    assert [r.tokens for r in found] == [0, 4001 * 10**9, 4003 * 10**9, 4004 * 10**9, None]


def test_stages_without_tokens_stand_one_after_the_other():
    suite = suites.find_suite("allenai/Olmo-3-1125-32B")
    names = ["stage2-step1000", "main", "stage1-step656000", "stage1-step66000", "stage3-step500"]
    found = ordered([parse(name, suite, name) for name in names])
    assert [r.revision for r in found] == [names[3], names[2], names[0], names[4], "main"]


def test_steps_that_count_on_through_the_stages_are_not_added():
    suite = suites.find_suite("HuggingFaceTB/SmolLM3-3B-checkpoints")
    names = ["stage2-step-3480000", "stage1-step-3440000", "stage3-step-4240000"]
    found = ordered([parse(name, suite, name) for name in names], cumulative=suite.cumulative)
    assert [r.tokens for r in found] == [step * 2_359_296 for step in (3440000, 3480000, 4240000)]


def test_phases_stand_in_their_order():
    suite = suites.find_suite("marin-community/marin-8b-base")
    names = ["starling", "main", "kestrel", "deeper-starling", "ocelot"]
    found = ordered([parse(name, suite, name) for name in names])
    assert [r.revision for r in found] == [
        "kestrel",
        "ocelot",
        "starling",
        "deeper-starling",
        "main",
    ]


@pytest.mark.parametrize(
    "repository,seed",
    [
        ("EleutherAI/pythia-160m-seed3", "seed3"),
        ("EleutherAI/pythia-14m-data-seed1", "data-seed1"),
        ("EleutherAI/pythia-160m", None),
        ("EleutherAI/pythia-1.4b-deduped-v0", None),
    ],
)
def test_polypythias_seed_is_in_the_name_of_the_repository(repository, seed):
    found = list_revisions(repository, offline=True, cache_dir="/nonexistent")
    assert {one.seed for one in found} == {seed}


def test_main_of_olmo_1b_is_the_last_step():
    suite = suites.find_suite("allenai/OLMo-1B-hf")
    found = ordered(
        [
            parse(name, suite, name)
            for name in ("main", "step738000-tokens3094B", "step1000-tokens4B")
        ]
    )
    assert [r.step for r in found] == [1000, 738000, 738020]


def series(*steps):
    return [Revision(f"m@step{step}", f"step{step}", step, step * 1000) for step in steps]


POWERS = series(0, *(2**i for i in range(11)))


@pytest.mark.parametrize(
    "select,steps",
    [
        ("all", [0, *(2**i for i in range(11))]),
        ("every:5", [0, 16, 512, 1024]),
        ("log:3", [1, 32, 1024]),
        ("log:1", [1024]),
        ("tokens:3", [0, 512, 1024]),
        ("log:50", [2**i for i in range(11)]),
        ("1024,step4,0", [0, 4, 1024]),
        ("m@step8", [8]),
    ],
)
def test_selections(select, steps):
    assert [r.step for r in select_revisions(POWERS, select)] == steps


def test_log_gives_as_many_as_asked_for_where_the_series_is_sparse():
    found = series(*range(1000, 144000, 1000))
    for count in (2, 5, 8, 20):
        chosen = select_revisions(found, f"log:{count}")
        assert len(chosen) == len(set(chosen)) == count
        assert (chosen[0].step, chosen[-1].step) == (1000, 143000)


def test_filters_come_before_the_selection():
    found = [Revision(f"r{i}", f"r{i}", i, i, seed="a" if i % 2 else "b") for i in range(1, 9)]
    assert [r.step for r in select_revisions(found, "seed=a; every:2")] == [1, 5, 7]


@pytest.mark.parametrize(
    "select", ["log:x", "every:0", "step3", "nonsense:3", "seed=z;all", "colour=red;all"]
)
def test_bad_selections_are_named(select):
    with pytest.raises(ConfigError):
        select_revisions(POWERS, select)


def test_folder_of_checkpoints(tmp_path):
    for name in ("step10-tokens40K", "step100-tokens400K", "step2-tokens8K", "notes", "logs"):
        (tmp_path / name).mkdir()
        if name != "logs":
            (tmp_path / name / "config.json").write_text("{}")
    found = list_revisions(tmp_path)
    assert [(r.revision, r.step, r.tokens) for r in found] == [
        ("step2-tokens8K", 2, 8000),
        ("step10-tokens40K", 10, 40_000),
        ("step100-tokens400K", 100, 400_000),
    ]
    assert found[0].name == str(tmp_path / "step2-tokens8K")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoints"):
        list_revisions(tmp_path / "empty")


def test_unknown_suite_says_what_to_do():
    with pytest.raises(CheckpointError, match="no suite"):
        revisions.list_revisions("someone/model")


def test_the_verb_lists_the_holes_of_the_whole_series(tmp_path, root):
    for step in (10, 20, 30, 40, 70, 80):
        (tmp_path / f"step{step}").mkdir()
        (tmp_path / f"step{step}/config.json").write_text("{}")
    said = amuro(root, "revisions", str(tmp_path)).stdout
    assert "6 checkpoints" in said and "hole: step 40, step 70: 2 missing between: 50, 60" in said
    assert "missing between" not in amuro(root, "revisions", str(tmp_path), "--select=log:3").stdout
