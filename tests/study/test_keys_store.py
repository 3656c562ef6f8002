"""Keys change with what moves a number and with nothing else.

Cells are whole or absent; one process at a time.
"""

import dataclasses
import os

import pytest

from amuro_jax.config import TrainConfig
from amuro_jax.errors import AmuroError
from amuro_jax.results import store
from amuro_jax.study import grid, keys, lease
from tests.study.conftest import study_of

SPEC = grid.ScoreSpec("lab_nli", "in_domain", "default", 1)


def key_of(config, spec=SPEC, model="m", tokenizer="t"):
    return keys.score_key(model, spec, config, tokenizer)


def test_score_key_changes_with_what_matters(tiny_study):
    base = key_of(tiny_study)
    score = tiny_study.score
    others = [
        *(
            key_of(tiny_study, dataclasses.replace(SPEC, **change))
            for change in ({"format": "io"}, {"shots": 2}, {"task": "lab_paraphrase"})
        ),
        key_of(tiny_study, model="other"),
        key_of(tiny_study, tokenizer="other"),
        *(
            key_of(
                dataclasses.replace(tiny_study, score=dataclasses.replace(score, **{name: value}))
            )
            for name, value in [
                ("rows", 5),
                ("protocol", "paper"),
                ("quirks", "+no_stop"),
                ("method", "free"),
                ("shot_seed", 1),
                ("max_new_tokens", 5),
                ("bootstrap", 51),
                ("bootstrap_seed", 1),
                ("dtype", "bfloat16"),
            ]
        ),
    ]
    assert len({base, *others}) == 1 + len(others)


def test_score_key_does_not_change_with_what_does_not(tiny_study):
    same = [
        dataclasses.replace(
            tiny_study,
            workdir="elsewhere",
            name="other",
            keep_models=True,
            select="log:1",
            disk_budget_gb=3.0,
        ),
        dataclasses.replace(
            tiny_study,
            score=dataclasses.replace(
                tiny_study.score, mesh="data:2", batch_tokens=64, tasks="x", workdir="y"
            ),
        ),
        dataclasses.replace(
            tiny_study, score=dataclasses.replace(tiny_study.score, attention="xla")
        ),
    ]
    assert {key_of(config) for config in same} == {key_of(tiny_study)}
    assert key_of(tiny_study, dataclasses.replace(SPEC, role="cross_task")) == key_of(tiny_study)


def test_score_key_follows_the_data(series, tmp_path):
    import shutil

    shutil.copytree(series.data, tmp_path / "data")
    config = dataclasses.replace(study_of(series, tmp_path / "w"), data_root=str(tmp_path / "data"))
    before = key_of(config)
    assert before == key_of(study_of(series, tmp_path / "w"))  # the same bytes elsewhere
    path = tmp_path / "data/lab_nli/test.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    os.utime(path, (1, 1))
    assert key_of(config) != before


def test_keys_follow_what_a_task_file_says(tiny_study, tmp_path):
    text = "name: mine\nkind: classification\nfolder: lab_nli\nfields: {p: premise, h: hypothesis}\ngold: label\n"
    text += "labels: [entailment, neutral, contradiction]\ntest: test\ntemplates: {default: '%s'}\n"
    path, made = tmp_path / "mine.yaml", []
    for template in ("{p} {h} Answer:", "{p} so {h} Answer:"):
        path.write_text(text % template)
        recipe = dataclasses.replace(
            grid.recipe_of(tiny_study, tiny_study.fine_tunes[0]), task=str(path)
        )
        made += [
            key_of(tiny_study, dataclasses.replace(SPEC, task=str(path))),
            keys.train_key("m", recipe, "t"),
        ]
    assert len(set(made)) == 4


def test_train_key(tiny_study):
    recipe = grid.recipe_of(tiny_study, tiny_study.fine_tunes[0])
    base = keys.train_key("m", recipe, "t")
    matters = {
        "learning_rate": 1e-4,
        "epochs": 3,
        "rows": 15,
        "seed": 1,
        "data_seed": 1,
        "batch_size": 8,
        "quirks": "+x",
        "dtype": "bfloat16",
    }
    for name, value in matters.items():
        assert keys.train_key("m", dataclasses.replace(recipe, **{name: value}), "t") != base, name
    for name, value in [
        ("mesh", "data:2"),
        ("remat", "full"),
        ("workdir", "w"),
        ("save_every", 3),
        ("log_every", 1),
    ]:
        assert keys.train_key("m", dataclasses.replace(recipe, **{name: value}), "t") == base, name
    assert len({base, keys.train_key("n", recipe, "t"), keys.train_key("m", recipe, "u")}) == 3


def test_every_field_of_a_recipe_is_decided_on():
    # What does not change the parameters, or stands in the key by its hash.
    elsewhere = {"checkpoint", "workdir", "data_root", "remat", "mesh", "save_every", "log_every"}
    assert {field.name for field in dataclasses.fields(TrainConfig)} == elsewhere | set(
        keys._RECIPE
    )


def record(key="a" * 16):
    return {"key": key, "kind": "score"}


def test_a_cell_is_whole_or_absent(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.pd.DataFrame, "to_parquet", full)
    with pytest.raises(AmuroError, match="No space left"):
        store.write_cell(tmp_path, record(), [{"row": 0, "score": 1.0}])
    assert not store.is_done(tmp_path, "a" * 16) and not list((tmp_path / "cells").iterdir())


def test_a_damaged_record_is_not_done(tmp_path):
    store.write_cell(tmp_path, record(), [{"row": 0, "score": 1.0}])
    assert store.is_done(tmp_path, "a" * 16) and store.read_rows(tmp_path, "a" * 16)[
        "score"
    ].tolist() == [1.0]
    (store.cell_folder(tmp_path, "a" * 16) / "cell.json").write_text('{"key": "aaa')
    assert not store.is_done(tmp_path, "a" * 16)


def test_a_line_cut_off_in_the_log_is_left_out(tmp_path):
    store.log(tmp_path, "started", "k", "one")
    with (tmp_path / "cells.log").open("a") as stream:
        stream.write('{"event": "fini')
    assert [line["event"] for line in store.read_log(tmp_path)] == ["started"]


def test_one_process_at_a_time_works_in_a_folder(storage_url):
    with lease.lease(storage_url) as check:
        with pytest.raises(AmuroError, match=f"process {os.getpid()}"), lease.lease(storage_url):
            pass
        check()
    with pytest.raises(AmuroError, match="released"):
        check()
    with lease.lease(storage_url):
        pass
