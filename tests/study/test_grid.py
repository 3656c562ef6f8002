"""From a configuration to its cells."""

import dataclasses

import pytest

from amuro_jax.config import EvalSet, FineTune, Loss, ProtocolName, RayTask, Recipe, Role, Scoring
from amuro_jax.errors import ConfigError
from amuro_jax.records import ModelRef, TrainRecord
from amuro_jax.results.store import Store
from amuro_jax.study import grid, plan
from tests.study import synthetic


def cells(config, tuned_on=""):
    return grid.cells_of(config, ModelRef("nowhere", "step1", 1, 1, tuned_on))


def test_every_cell_of_a_small_study(tmp_path):
    config = synthetic.config(tmp_path)
    base = {(spec.task, spec.role, spec.format) for spec in cells(config)}
    assert base == {
        ("lab_nli", "in_domain", "default"),
        ("lab_nli", "in_domain", "io"),
        ("lab_summary", "in_domain", "default"),
        ("lab_summary", "in_domain", "io"),
        ("lab_nli_ood", "out_of_domain", "default"),
        ("lab_attributes", "multiple_choice", "default"),
    }
    tuned = {(spec.task, spec.role, spec.format) for spec in cells(config, "lab_summary")}
    assert tuned == {
        ("lab_summary", "in_domain", "default"),
        ("lab_summary", "in_domain", "io"),
        ("lab_nli", "cross_task", "default"),
        ("lab_attributes", "multiple_choice", "default"),
    }


OWN = "name: mine\nkind: classification\nfolder: mine\nframe: nli\ngold: g\nlabels: [a, b]\n"
OWN += "fields: {premise: p, hypothesis: h}\n"


@pytest.mark.parametrize("roles,crossed", [("", True), ("roles: [in_domain]\n", False)])
def test_a_set_of_ones_own_goes_by_its_name_and_is_crossed_unless_it_says_otherwise(
    tmp_path, roles, crossed
):
    path = tmp_path / "some_file.yaml"
    path.write_text(OWN + roles)
    config = synthetic.config(tmp_path)
    config = dataclasses.replace(
        config,
        fine_tunes=(FineTune(str(path)), FineTune("lab_summary")),
        evals=(EvalSet(str(path), Role.IN_DOMAIN, (str(path),)), *config.evals[1:2]),
    )
    models = grid.models_of(config, synthetic.revisions((1,)))
    assert [model.tuned_on for model in models] == ["", "mine", "lab_summary"]
    tuned = [cell.task for cell in cells(config, "lab_summary") if cell.role == Role.CROSS_TASK]
    assert tuned == (["mine"] if crossed else [])
    assert grid.task_of(config, "mine") == str(path)
    assert grid.task_of(config, "lab_summary") == "lab_summary"


def test_a_study_takes_the_formats_that_its_own_set_has_templates_of(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.replace("frame: nli\n", "templates: {plain: '{premise} {hypothesis}'}\n"))
    own = dataclasses.replace(
        synthetic.config(tmp_path),
        formats=("plain",),
        fine_tunes=(FineTune(str(path), format="plain"),),
        evals=(EvalSet(str(path), Role.IN_DOMAIN, (str(path),)),),
    )
    grid.validate(own)
    assert {cell.format for cell in cells(own)} == {"plain"}
    for changes, message in (
        ({"formats": ("plain", "io")}, "'io' has no template for mine"),
        ({"evals": (*own.evals, EvalSet("lab_nli"))}, "unknown format 'plain'"),
        ({"fine_tunes": (FineTune("lab_nli", format="plain"),), "evals": own.evals[:0]}, "."),
    ):
        with pytest.raises(ConfigError, match=message):
            grid.validate(dataclasses.replace(own, **changes))


def test_default_study_is_the_whole_grid():
    from configs.study.lab import get_config

    config = get_config()
    assert len(config.fine_tunes) == 4 and len(cells(config)) == 4 * 3 + 4 + 2
    for entry in config.fine_tunes:
        roles = [spec.role for spec in cells(config, entry.task)]
        assert {name: roles.count(name) for name in set(roles)} == {
            "in_domain": 3,
            "out_of_domain": 1,
            "cross_task": 3,
            "multiple_choice": 2,
        }


@pytest.mark.parametrize("name", ["lab", "tiny", "olmo1b"])
def test_configurations_are_valid(name, tmp_path):
    import importlib

    config = importlib.import_module(f"configs.study.{name}").get_config()
    grid.validate(
        dataclasses.replace(config, workdir=str(tmp_path), suite=config.suite or "somewhere")
    )


def test_several_shots_multiply(tmp_path):
    config = dataclasses.replace(synthetic.config(tmp_path), shots=(0, 4))
    assert len(cells(config)) == 2 * len(cells(synthetic.config(tmp_path)))


@pytest.mark.parametrize(
    "changes,where",
    [
        ({"workdir": ""}, "config.workdir"),
        ({"evals": ()}, "config.evals"),
        ({"evals": (EvalSet("lab_nli", Role.CROSS_TASK),)}, "config.evals[0].role"),
        ({"evals": (EvalSet("lab_nli", of=("paws",)),)}, "config.evals[0].of"),
        ({"evals": (EvalSet("lab_nli", formats=("fancy",)),)}, "config.evals[0].formats"),
        ({"fine_tunes": (FineTune("lab_nli_ood"),)}, "config.fine_tunes[0].task"),
        ({"fine_tunes": (FineTune("lab_nli"), FineTune("lab_nli"))}, "config.fine_tunes[1].task"),
        ({"fine_tunes": (FineTune("lab_nli", format="x"),)}, "config.fine_tunes[0].format"),
        ({"shots": (-1,)}, "config.shots"),
        ({"evals": (EvalSet("lab_nli", shots=(-4,)),)}, "config.evals[0].shots"),
        ({"recipe": Recipe(batch_size=0)}, "config.recipe.batch_size"),
        ({"recipe": Recipe(quirks=("+nothing",))}, "quirks"),
        ({"recipe": Recipe(format="nonsense")}, "config.recipe.format"),
        ({"recipe": Recipe(task="paws")}, "config.recipe.task"),
        ({"scoring": Scoring(rows=0)}, "config.scoring.rows"),
        ({"scoring": Scoring(shot_seed=-1)}, "config.scoring.shot_seed"),
        ({"seeds": (0, -1)}, "config.seeds"),
        ({"ray": RayTask(max_retries=-5)}, "config.ray.max_retries"),
        ({"scoring": Scoring(protocol=ProtocolName.PAPER)}, "config.recipe.protocol"),
        (
            {"fine_tunes": (FineTune("lab_nli"), FineTune("lab_summary", epochs=-1))},
            "config.fine_tunes[1].epochs",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, changes, where):
    with pytest.raises(ConfigError) as caught:
        grid.validate(dataclasses.replace(synthetic.config(tmp_path), **changes))
    assert caught.value.where == where


def test_unknown_names_are_refused(tmp_path):
    for evals in ((EvalSet("no_such_set"),), (EvalSet("lab_nli", formats=("no_such",)),)):
        with pytest.raises(ConfigError):
            grid.validate(dataclasses.replace(synthetic.config(tmp_path), evals=evals))


def test_plan_keeps_keys_of_the_same_study_only(tmp_path):
    config = synthetic.make_store(tmp_path, rows=10, steps=(1, 2))
    again = plan.make_plan(config, synthetic.revisions((1, 2)))
    assert all(cell.key for cell in again.cells)
    other = plan.make_plan(dataclasses.replace(config, shots=(2,)), synthetic.revisions((1, 2)))
    assert not any(cell.key for cell in other.cells)


def test_dry_run_counts_what_is_left(tmp_path):
    lost = ("step2", "lab_nli", "", None, "lab_nli", "default", 4)
    config = synthetic.make_store(tmp_path, leave_out={lost}, rows=10, steps=(1, 2))
    text = plan.describe(config, synthetic.revisions((1, 2)))
    assert "to do: 1 fine-tunings, 1 scores" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  to do  score")]
    assert line.split()[3:] == [
        "step2",
        "+",
        "lab_nli",
        "in_domain",
        "lab_nli",
        "default",
        "4-shot",
    ]


def dry_run(config, steps=(1, 2)):
    return plan.describe(config, synthetic.revisions(steps)).splitlines()[-1]


def finish(config, kind, task, seconds, compiled=0.0):
    """A finished cell that took so long, part of it to compile."""
    store = Store.open(config.workdir)
    made = synthetic.make_store(str(config.workdir) + "-made", rows=10, steps=(1,))
    record = dataclasses.replace(
        Store.open(made.workdir).records()[0], key=f"{kind}-{task}", task=task, seconds=seconds
    )
    if kind == "train":
        record = TrainRecord(
            record.key,
            ModelRef("nowhere", "step1", tuned_on=task),
            Recipe(),
            "strict",
            {},
            {},
            record.provenance,
            seconds,
        )
    store.commit(record)
    store.log("finished", record.key, task, compiles={"seconds": compiled})


def test_estimate_before_there_is_anything_to_go_by(tmp_path):
    config = dataclasses.replace(
        synthetic.config(tmp_path),
        fine_tunes=(FineTune("lab_nli", rows=10), FineTune("lab_summary", epochs=1)),
    )
    count = len(plan.make_plan(config, synthetic.revisions((1, 2))).cells)
    said = dry_run(config)
    assert (
        f"{2 * (10 * 3 + 100):,} rows to train on, {count} scores of 80 rows at most each" in said
        and "score and a fine-tuning" in said
    )
    finish(config, "score", "lab_nli", 5.0)
    assert dry_run(config) == said, "fine-tunings are to come, and none was timed"
    base = dataclasses.replace(
        config, fine_tunes=(), evals=(EvalSet("lab_nli"),), workdir=str(tmp_path / "base")
    )
    assert " 0 rows to train on, 4 scores" in dry_run(base) and dry_run(base).endswith(
        "first finished score"
    )


def test_estimate_from_what_each_set_took_without_compilation(tmp_path):
    evals = (
        EvalSet("lab_nli", formats=("default", "io")),
        EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
    )
    config = dataclasses.replace(
        synthetic.config(tmp_path), fine_tunes=(FineTune("lab_nli"),), evals=evals, shots=(0,)
    )
    finish(config, "score", "lab_nli", 70.0, compiled=10.0)
    finish(config, "score", "lab_attributes", 30.0)
    finish(config, "train", "lab_nli", 200.0, compiled=80.0)
    # two checkpoints: one training each, and two models on both sets, one of these in two formats
    assert f"{2 * (2 * (60 + 60 + 30) + 120) / 60:.1f} minutes" in dry_run(config)
    more = (*evals, EvalSet("lab_events", Role.MULTIPLE_CHOICE))
    config = dataclasses.replace(config, evals=more)
    assert f"{2 * (2 * (60 + 60 + 30 + 45) + 120) / 60:.1f} minutes" in dry_run(config), (
        "a set that was never timed counts as the mean"
    )


def test_estimate_of_a_finished_study(tmp_path):
    assert (
        dry_run(synthetic.make_store(tmp_path, rows=10, steps=(1, 2)))
        == "estimate: nothing is left to do"
    )


def test_jobs_name_what_they_need(tmp_path):
    config = synthetic.config(tmp_path)
    jobs = plan.jobs_of(config, synthetic.revisions((1, 2)))
    names = [job.name for job in jobs]
    assert names[:3] == ["score step1 base", "train step1 + lab_nli", "score step1 + lab_nli"]
    assert jobs[2].needs == ("train step1 + lab_nli",) and jobs[1].recipe.task == "lab_nli"
    asked = {cell.identity for cell in plan.make_plan(config, synthetic.revisions((1, 2))).cells}
    assert {cell.identity for job in jobs for cell in job.cells} == asked


def test_in_and_out_of_domain_are_compared_in_the_same_format(tmp_path):
    config = dataclasses.replace(synthetic.config(tmp_path), formats=("io", "default"))
    first = {cell.format for cell in cells(config) if cell.role == Role.OUT_OF_DOMAIN}
    assert first == {"io"}


def test_two_protocols_need_to_be_asked_for_by_name(tmp_path):
    config = dataclasses.replace(
        synthetic.config(tmp_path), recipe=Recipe(protocol=ProtocolName.PAPER)
    )
    with pytest.raises(ConfigError, match="trained under paper and scored under strict"):
        grid.validate(config)
    grid.validate(dataclasses.replace(config, mixed_protocols=True))


def test_all_rows_of_one_set(tmp_path):
    entry = FineTune("lab_nli", all_rows=True)
    assert grid.recipe_of(synthetic.config(tmp_path), entry).rows is None
    assert grid.recipe_of(synthetic.config(tmp_path), FineTune("lab_nli")).rows == 100


def test_every_field_of_an_entry_reaches_its_recipe(tmp_path):
    entry = FineTune(
        "lab_nli",
        format="io",
        quirks=("+loss_mean_per_example",),
        rows=7,
        epochs=9,
        batch_size=3,
        learning_rate=0.5,
        max_length=64,
        lora_rank=2,
        lora_alpha=3.0,
        lora_targets=("up",),
        lora_rank_stabilised=True,
        loss=Loss.DPO,
        dpo_beta=0.5,
        dpo_length_normalised=True,
        dpo_label_smoothing=0.1,
        chat_template=True,
        held_out_rows=5,
    )
    elsewhere = ("variant", "all_rows", "learning_rates")  # in tests of their own
    given = {name: value for name, value in vars(entry).items() if name not in elsewhere}
    assert None not in given.values(), "a new field has a value here"
    recipe = grid.recipe_of(synthetic.config(tmp_path), entry)
    assert {name: getattr(recipe, name) for name in given} == given
