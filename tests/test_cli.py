"""The command line: help for newcomers, exit statuses, and errors that name file, line, key and
both sides.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from amuro_jax.cli.main import VERBS
from tests.study.conftest import series  # noqa: F401


def amuro(root, *arguments, cwd=None, **environment):
    environment = {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": "", **environment}
    return subprocess.run(
        [sys.executable, "-m", "amuro_jax", *arguments],
        env=environment,
        cwd=cwd or root,
        capture_output=True,
        text=True,
    )


def test_help_lists_every_verb(root):
    done = amuro(root, "--help")
    assert done.returncode == 0 and all(verb in done.stdout for verb in VERBS)
    assert amuro(root).returncode == 2
    unknown = amuro(root, "trian")
    assert (
        unknown.returncode == 2
        and "unknown verb 'trian'; did you mean train?" in unknown.stderr
        and "train" in unknown.stderr
    )


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_explains_itself(root, verb):
    done = amuro(root, verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"amuro {verb}" in done.stdout and "Traceback" not in done.stderr
    assert done.stdout.count("--") >= 2, "shows an example and its flags"


def test_help_names_every_field_with_its_default(root):
    done = amuro(root, "study", "--help")
    for field in ("--config.scoring.method=token_prob", "--config.recipe.epochs=3", "--dry_run"):
        assert field in done.stdout, field
    assert amuro(root, "help", "study").stdout == done.stdout
    assert "--cluster" in amuro(root, "score", "--help").stdout


def test_a_reader_who_has_seen_enough_is_no_error(root):
    script = f"{sys.executable} -m amuro_jax help | head -3"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=root, capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 3 and done.stderr == ""


def test_a_configuration_takes_an_argument(root):
    done = amuro(root, "train", "--config=configs/train/olmo1b.py:pows")
    assert done.returncode == 2 and "did you mean 'paws'" in done.stderr


@pytest.fixture
def workshop(tmp_path):
    """A local data root with one good set, and arguments of a study on nothing in particular."""
    folder = tmp_path / "data" / "paws_labeled_final"
    folder.mkdir(parents=True)
    rows = [{"sentence1": f"a{i}", "sentence2": f"b{i}", "label": i % 2} for i in range(8)]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def tasks(root, workshop, *more):
    return amuro(root, "tasks", "paws", "--show=1", f"--data_root={workshop / 'data'}", *more)


def test_a_good_set_is_shown(root, workshop):
    done = tasks(root, workshop)
    assert done.returncode == 0, done.stderr
    assert "Paraphrase Classification:" in done.stdout


@pytest.mark.parametrize(
    "line,expected",
    [
        ("{not json", "not JSON"),
        ('{"sentence1": "a", "label": 1}', "column 'sentence2' is missing"),
        ('{"sentence1": "a", "sentence2": "b", "label": -1}', "label -1"),
        ('{"sentence1": "a", "sentence2": "b", "label": 7}', "label 7"),
        ('{"sentence1": 5, "sentence2": "b", "label": 1}', "must be text"),
    ],
    ids=["json", "column", "unlabelled", "label", "type"],
)
def test_a_bad_row_is_named_by_file_and_line(root, workshop, line, expected):
    path = workshop / "data" / "paws_labeled_final" / "test.jsonl"
    path.write_text(path.read_text() + line + "\n")
    done = tasks(root, workshop)
    assert (
        done.returncode == 2
        and expected in done.stderr
        and "test.jsonl:9" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert len(done.stderr.splitlines()) < 20


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["tasks", "nosuchset"], "unknown task 'nosuchset'"),
        (["tasks", "paws", "--show=1", "--format=fancy"], "unknown format 'fancy'"),
        (
            ["train", "--config=configs/train/olmo1b.py:paws", "--config.recipe.epoch=3"],
            "did you mean 'epochs'",
        ),
        (
            ["train", "--config=configs/train/olmo1b.py:paws", "--config.recipe.epochs=many"],
            "got 'many'",
        ),
        (["train", "--config=configs/train/olmo1b.py:paws"], "checkpoint is empty"),
        (["train", "--config=configs/nothing.py"], "cannot be loaded"),
        (["train", "--config=configs/study/tiny.py"], "makes a StudyConfig"),
        (["study", "--config=configs/study/tiny.py"], "workdir is empty"),
        (["report", "--workdir=/nonexistent"], "/nonexistent"),
        (["train", "--cofig=x"], "cofig"),
        (["convert", "--checkpoint=/nonexistent/model"], "/nonexistent/model"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_mistakes_get_one_screen_and_status_2(root, arguments, expected):
    done = amuro(root, *arguments)
    assert done.returncode == 2, done.stderr[-2000:]
    assert (
        expected in done.stderr
        and "Traceback" not in done.stderr
        and len(done.stderr.splitlines()) < 25
    )


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["score"], "checkpoint is empty"),
        (
            ["score", "--config.checkpoint=a", "--config.tasks=nosuchset", "--config.workdir=w"],
            "unknown task 'nosuchset'",
        ),
        (["train", "--config=configs/nothing.py"], "a path counts from the folder you are in"),
        (["train", "--config=configs/nothing.py", "--config.epochs=1"], "configs/nothing.py"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_configurations_in_a_folder_that_is_no_checkout(root, tmp_path, arguments, expected):
    done = amuro(root, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr, (
        done.stderr[-2000:]
    )


def test_damaged_checkpoints_leave_nothing_behind(root, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    good = tmp_path / "good"
    sizes = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    transformers.OlmoForCausalLM(
        transformers.OlmoConfig(**sizes, pad_token_id=1, eos_token_id=2)
    ).save_pretrained(good)
    cases = {
        "truncated": _truncate,
        "no weights": lambda f: (f / "model.safetensors").unlink(),
        "architecture": _rename,
        "shape": _reshape,
    }
    expected = {
        "truncated": "model.safetensors",
        "no weights": "no weights",
        "architecture": "mystery",
        "shape": "(48, 32)",
    }
    for name, damage in cases.items():
        folder, out = tmp_path / name, tmp_path / f"{name} out"
        shutil.copytree(good, folder)
        damage(folder)
        done = amuro(
            root,
            "convert",
            f"--checkpoint={folder}",
            f"--out={out}",
            AMURO_CACHE=str(tmp_path / "cache"),
        )
        assert done.returncode == 2 and expected[name] in done.stderr, (
            f"{name}: {done.stderr[-1500:]}"
        )
        assert not out.exists() and not [
            path for path in tmp_path.iterdir() if ".tmp-" in path.name
        ]


def _truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _rename(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "mystery", "architectures": ["MysteryForCausalLM"]})
    )


def _reshape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "score"])
def test_programs_are_kept_in_the_workdir(root, series, tmp_path, verb):  # noqa: F811
    """As a study's are: a run that goes on after a kill does not compile again."""
    fields = {
        "checkpoint": f"{series.checkpoints}@step10-tokens10K",
        "data_root": series.data,
        "workdir": tmp_path / "work",
    }
    own = {"recipe.task": "lab_nli", "recipe.rows": 4, "recipe.epochs": 1, "recipe.batch_size": 4}
    fields |= own if verb == "train" else {"tasks": "lab_nli", "shots": 1, "scoring.rows": 3}
    done = amuro(root, verb, *(f"--config.{name}={value}" for name, value in fields.items()))
    assert done.returncode == 0, done.stderr
    assert any((tmp_path / "work" / "programs").iterdir())
