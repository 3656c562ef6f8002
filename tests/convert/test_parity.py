"""Every family and variant: the same logits as HF torch, and HF → Orbax → HF bit for bit."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from amuro_jax import checkpoint, convert
from amuro_jax.convert import containers, exporter, families, tensors, verify
from amuro_jax.models.layout import padded
from tests.convert import builders

transformers = pytest.importorskip("transformers", reason="makes the checkpoints")

pytestmark = pytest.mark.parametrize("variant", builders.VARIANTS)


def test_logits_and_round_trip(variant, tmp_path):
    hf = builders.build(variant)
    source = builders.save(variant, tmp_path / "hf", max_shard_size="20KB")
    folder = convert.open_checkpoint(source, tmp_path / "cache")
    config, params = checkpoint.read_config(folder), checkpoint.load_params(folder)

    tokens, masks = verify.example_tokens(config)
    for side, mask in masks.items():
        difference = verify.logit_difference(params, config, hf, tokens, mask)
        assert difference < 1e-4, f"{variant}, {side} padding: {difference}"
    if variant in families.FAMILIES:  # once per family: it is one more compilation
        assert bf16_error(params, config, hf, tokens, masks["left"]) < 0.05

    exporter.export(folder, tmp_path / "back", shard_bytes=20_000)
    before, after = containers.read_table(source), containers.read_table(tmp_path / "back")
    assert set(before) == set(after)
    for name in before:
        assert before[name].dtype == after[name].dtype
        assert np.array_equal(tensors.read(before[name]), tensors.read(after[name])), name
    assert len(containers.weight_files(tmp_path / "back")) > 1


def bf16_error(params, config, hf, tokens, mask):
    """Relative error of bf16 compute against the fp32 reference, over real tokens."""
    reference = verify.run_reference(hf, tokens, mask)[0][mask]
    ours = np.asarray(verify.run_model(params, tokens, padded(mask), config, jnp.bfloat16))[mask]
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def test_config_written_from_scratch_loads_the_same_model(variant, tmp_path):
    """Without the source's config.json, the one written must describe the same model to
    transformers.
    """
    hf = builders.build(variant)
    folder = convert.open_checkpoint(builders.save(variant, tmp_path / "hf"), tmp_path / "cache")
    config = checkpoint.read_config(folder)
    (folder / "tokenizer" / "config.json").unlink()
    exporter.export(folder, tmp_path / "back")
    assert (
        families.config_from_hf(json.loads((tmp_path / "back" / "config.json").read_text()))
        == config
    )
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "back", attn_implementation="eager"
    ).eval()
    assert (
        families.config_from_hf(json.loads(again.config.to_json_string(use_diff=False))) == config
    )
    tokens, masks = verify.example_tokens(config)
    ours, theirs = (
        verify.run_reference(m, tokens, masks["left"])[0][masks["left"]] for m in (hf, again)
    )
    assert np.abs(ours - theirs).max() < 1e-4  # sdpa against eager attention
