"""Every configuration of a study is valid, and its plan is listed without the network."""

import dataclasses
import types

import pytest

from amuro_jax.cli.configure import load_config
from amuro_jax.config import StudyConfig
from amuro_jax.study import grid, plan

CONFIGS = {
    "answers:full": 28,
    "answers:short": 11,
    "answers:short_text": 7,
    "facts": 1,
    "lab": 5,
    "long": 21,
    "lora_vs_full": 13,
    "lora_vs_full:tiny": 5,
    "olmo1b": 6,
    "olmo2_1b": 6,
    "overtraining": 22,
    "paper_llama3_8b": 5,
    "paper_olmo1b": 6,
    "prompt_sensitivity": 3,
    "pythia_160m": 3,
    "quirks": 9,
    "seeds": 11,
    "tiny": 3,
    "worlds": 13,
}


def test_every_file_is_looked_at(root):
    names = {path.stem for path in (root / "configs/study").glob("*.py")}
    assert names == {name.partition(":")[0] for name in CONFIGS}


@pytest.mark.parametrize("name,models", CONFIGS.items())
def test_it_is_valid_and_its_jobs_are_listed(root, tmp_path, name, models):
    """Models of one checkpoint: the base, and each way, seed and chosen rate."""
    file, _, argument = name.partition(":")
    path = f"{root}/configs/study/{file}.py" + (f":{argument}" if argument else "")
    config = load_config(path, StudyConfig)
    config = dataclasses.replace(config, workdir=str(tmp_path), suite=config.suite or "nowhere")
    grid.validate(config)
    one = types.SimpleNamespace(name="nowhere@step1", revision="step1", step=1, tokens=1000)
    text = plan.describe(config, [one])
    assert f"1 checkpoints × {models} models" in text
    assert "\n  to do  score  step1 base" in text
