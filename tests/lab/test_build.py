"""The build: stages that go on after a kill, checkpoints that transformers loads, settings that
cannot be mixed.
"""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from amuro_jax.cli import configure
from amuro_jax.config import LabConfig
from amuro_jax.errors import ConfigError
from amuro_jax.lab import pretrain
from amuro_jax.lab.build import build, validate
from amuro_jax.lab.corpus import make_corpus
from amuro_jax.lab.tokenizer import EOS_ID, PAD_ID, read_tokenizer
from amuro_jax.lab.world import make_world
from tests.lab.conftest import tiny

QUIET = {"say": lambda _: None}


def contents(folder):
    """Bytes of every published file; the logs hold times."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "pretraining" not in p.parts
    }


def test_the_layout_is_the_documented_one(lab):
    manifest = json.loads((lab / "lab.json").read_text())
    names = [entry["name"] for entry in manifest["checkpoints"]]
    assert sorted(p.name for p in (lab / "checkpoints").iterdir()) == sorted(names)
    assert names[0] == "step1-tokens0K" and names[-1].startswith("step12-")
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
    } <= {p.name for p in (lab / "checkpoints" / names[0]).iterdir()}
    assert (
        manifest["sets"] == sorted(p.name for p in (lab / "data").iterdir())
        and len(manifest["sets"]) == 11
    )
    assert all(np.isfinite(entry["held_out_loss"]) for entry in manifest["checkpoints"])


def test_the_series_of_the_default_has_at_least_eight_checkpoints_first_and_last_among_them():
    steps = pretrain.published_steps(LabConfig())
    assert (
        len(steps) >= 8
        and steps[0] == LabConfig().first_checkpoint
        and steps[-1] == LabConfig().steps
    )
    ratios = np.diff(np.log(steps))
    assert ratios.max() < 1.1 * ratios.min()


def test_a_checkpoint_gives_the_logits_of_transformers(lab):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    import jax.numpy as jnp

    from amuro_jax import checkpoint
    from amuro_jax.convert.resolver import open_checkpoint
    from amuro_jax.models.forward import forward, logits
    from amuro_jax.models.layout import plain

    folder = sorted((lab / "checkpoints").glob("step12-*"))[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(model).__name__ == "OlmoForCausalLM"
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 40))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    mine = open_checkpoint(folder, lab / "cache")
    config = checkpoint.read_config(mine)
    params = checkpoint.load_params(mine)
    hidden, _ = forward(params, jnp.asarray(tokens, jnp.int32), plain(40, 2), config=config)
    assert np.abs(np.asarray(logits(params, hidden, config)) - theirs).max() < 1e-4


def test_transformers_reads_the_tokenizer(lab):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(lab / "tokenizer")
    text = "Mara is glad. Mara is happy? Certainly."
    assert theirs(text)["input_ids"] == read_tokenizer(lab / "tokenizer").encode(text).ids
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (EOS_ID, PAD_ID, None)
    assert theirs.decode(theirs(text)["input_ids"]) == text


def test_finished_means_no_work(lab):
    before = {p: p.stat().st_mtime_ns for p in lab.rglob("*") if p.is_file()}
    build(tiny(lab), **QUIET)
    assert before == {p: p.stat().st_mtime_ns for p in before}


class Killed(Exception):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("at", [1, 4, 7, 11])
def test_killed_and_run_again_gives_the_same_files(lab, tmp_path, monkeypatch, at):
    real, calls = pretrain.next_token_batch, []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == at + 1:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(pretrain, "next_token_batch", dies)
    with pytest.raises(Killed):
        build(tiny(tmp_path / "lab"), **QUIET)
    assert not (tmp_path / "lab" / "lab.json").exists()
    monkeypatch.setattr(pretrain, "next_token_batch", real)
    build(tiny(tmp_path / "lab"), **QUIET)
    again, whole = (
        contents(tmp_path / "lab"),
        {name: data for name, data in contents(lab).items() if not name.startswith("cache")},
    )
    assert again.keys() == whole.keys()
    assert [name for name in whole if again[name] != whole[name]] == []


def test_a_folder_begun_with_other_settings_is_refused(lab):
    with pytest.raises(ConfigError, match="seed was 0 when this folder was started, now it is 1"):
        build(tiny(lab, seed=1), **QUIET)


WRONG = [
    ("out", ""),
    ("steps", 0),
    ("first_checkpoint", 99),
    ("dtype", "int8"),
    ("sequence_length", 4096),
    ("batch_size", 6),
]


@pytest.mark.parametrize("field,value", WRONG)
def test_settings_that_cannot_be_meant(tmp_path, field, value):
    with pytest.raises(ConfigError) as caught:
        build(tiny(tmp_path / "x", **{field: value}), **QUIET)
    assert field in str(caught.value) and not (tmp_path / "x").exists()


def test_schedules_of_the_rate(tmp_path):
    def rates(schedule):
        config = tiny(tmp_path, schedule=schedule, steps=102)
        return np.array([pretrain.learning_rate(config, step) for step in range(config.steps)])

    peak = LabConfig().learning_rate
    constant, annealed = rates("constant"), rates("annealed")
    assert np.all(constant[2:] == peak) and np.allclose(annealed[2:83], peak)
    assert np.all(np.diff(annealed[82:]) < 0) and 0 < annealed[-1] < 0.1 * peak
    assert np.array_equal(rates(None), rates("cosine")) and not np.array_equal(
        rates(None), constant
    )


def test_another_pretraining_seed_is_the_same_world(lab, tmp_path):
    """Data, corpus and tokenizer stay; initial weights and the order of the lines do not."""
    build(tiny(tmp_path / "other", pretraining_seed=5), **QUIET)
    ours, other = contents(lab), contents(tmp_path / "other")
    same = {name for name in ours if ours[name] == other.get(name)}
    for name in ours:
        expected = name.startswith(("data", "corpus", "tokenizer")) or name.endswith("rows.jsonl")
        if expected or name.endswith((".safetensors", "facts.jsonl")):
            assert (name in same) == expected, name
    again = build(tiny(lab, schedule=None, pretraining_seed=None), **QUIET)
    assert again == lab / "lab.json"
    with pytest.raises(ConfigError, match="pretraining_seed was 5"):
        build(tiny(tmp_path / "other"), **QUIET)
    with pytest.raises(ConfigError, match="schedule was None .* now it is 'constant'"):
        build(tiny(lab, schedule="constant"), **QUIET)


def test_a_document_sees_itself_alone_and_positions_start_anew():
    batch = pretrain.next_token_batch(np.asarray([[5, 6, EOS_ID, 7, 8, 9, EOS_ID, 4]], np.int32))
    assert batch["enter"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 2]]
    assert batch["position"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
    assert batch["target"].tolist() == [[6, EOS_ID, 7, 8, 9, EOS_ID, 4, 0]] and batch[
        "weight"
    ].tolist() == [[1.0] * 7 + [0.0]]


def test_joined_lines_see_each_other():
    batch = pretrain.next_token_batch(np.arange(16, dtype=np.int32).reshape(4, 4), joined=2)
    assert (
        batch["tokens"].shape == (2, 8)
        and batch["position"].tolist() == [list(range(8))] * 2
        and not batch["enter"].any()
    )


def test_each_pass_reads_every_line_once():
    rows = pretrain.Rows(np.arange(12).reshape(6, 2), np.zeros((1, 2)))
    for first in (0, 3):
        seen = np.concatenate(
            [rows.tokens(step, 2, seed=1)[:, 0] for step in range(first, first + 3)]
        )
        assert sorted(seen.tolist()) == [0, 2, 4, 6, 8, 10]


def test_the_corpus_holds_facts_but_no_prompt():
    world = make_world(0, 8)
    text = "\n".join(make_corpus(world, 3000))
    assert text == "\n".join(make_corpus(make_world(0, 8), 3000))
    assert not re.search(r"###|entailment|neutral|contradiction|Input|Paraphrase|Summary", text)
    for creature, facts in world.creatures.items():
        assert all(re.search(rf"{creature}[^\n]*{value}", text) for value in facts.values())


def test_attribute_values_are_equally_common():
    world = make_world(5, 16)
    for attribute in ("color", "food", "home", "cover", "fear"):
        values = [facts[attribute] for facts in world.creatures.values()]
        assert {values.count(value) for value in values} == {2}


def test_help_tells_a_newcomer_what_to_type(root):
    out = subprocess.run(
        [sys.executable, "-m", "amuro_jax", "lab", "--help"],
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert "configs/lab/default.py" in out.stdout and "goes on where it stood" in out.stdout


def test_worlds_differ_by_their_seed_alone(root):
    one, other = (
        configure.load_config(f"{root}/configs/lab/worlds.py{name}", LabConfig)
        for name in ("", ":7")
    )
    assert (one.seed, other.seed) == (0, 7) and dataclasses.replace(other, seed=0) == one
    with pytest.raises(ConfigError, match="not a seed: 'x'"):
        configure.load_config(f"{root}/configs/lab/worlds.py:x", LabConfig)


def test_long_laboratories_share_their_world(root):
    def config(argument):
        return configure.load_config(f"{root}/configs/lab/long.py:{argument}", LabConfig)

    one, other = config("16,annealed,3"), config("48,constant,0")
    assert (one.model.hidden_size, one.schedule, one.pretraining_seed) == (16, "annealed", 3)
    same = {"model": one.model, "schedule": one.schedule, "pretraining_seed": 3}
    assert dataclasses.replace(other, **same) == one
    validate(dataclasses.replace(one, out="there"))
    for wrong in ("16,annealed", "16,other,0", "18,constant,0", "16,constant,0,more"):
        with pytest.raises(ConfigError, match="not WIDTH,SCHEDULE,SEED"):
            config(wrong)
