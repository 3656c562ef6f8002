"""OLMo's own format and the hf_olmo wrapper, made by OLMo's own code: same logits, and a faithful
way to HF.
"""

import importlib
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from amuro_jax import checkpoint, convert
from amuro_jax.convert import exporter, verify
from amuro_jax.errors import CheckpointError
from amuro_jax.models.layout import plain

torch = pytest.importorskip("torch", reason="makes the checkpoints")

SMALL = {
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 3,
    "mlp_hidden_size": 96,
    "max_sequence_length": 256,
    "vocab_size": 90,
    "embedding_size": 128,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "rope": True,
    "include_bias": False,
    "activation_type": "swiglu",
    "block_type": "sequential",
    "layer_norm_type": "default",
    "layer_norm_with_affine": False,
    "bias_for_layer_norm": False,
    "weight_tying": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "init_device": "cpu",
}
OLMO2 = {
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "norm_after": True,
    "attention_layer_norm": True,
    "rope_theta": 500000,
}
VARIANTS = {
    "1b": {},
    "7b": {"weight_tying": False, "clip_qkv": 0.05, "n_kv_heads": 2},
    "affine": {"layer_norm_with_affine": True, "bias_for_layer_norm": True},
    "biases": {"include_bias": True},
    "rms": {"layer_norm_type": "rms", "layer_norm_with_affine": True},
    "olmo2": {**OLMO2, "weight_tying": False, "layer_norm_eps": 1e-6},
}


def build(changes):
    olmo_config = pytest.importorskip("olmo.config", reason="ai2-olmo is not installed")
    olmo_model = importlib.import_module("olmo.model")
    torch.manual_seed(0)
    model = olmo_model.OLMo(olmo_config.ModelConfig(**{**SMALL, **changes})).eval()
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn_like(parameter) * 0.2 + (
            1 if "norm" in name and name.endswith("weight") else 0
        )
    return model


def save_native(model, changes, folder):
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"model": {**SMALL, **changes}, "run_name": "test"})
    )
    return folder


def logits(folder, tokens):
    config = checkpoint.read_config(folder)
    return np.asarray(
        verify.run_model(
            checkpoint.load_params(folder), jnp.asarray(tokens), plain(*tokens.shape[::-1]), config
        )
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_native_model_gives_the_same_logits(variant, tmp_path):
    model = build(VARIANTS[variant])
    tokens = np.random.default_rng(0).integers(0, 90, (2, 128))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    folder = convert.open_checkpoint(
        save_native(model, VARIANTS[variant], tmp_path / "native"), tmp_path / "cache"
    )
    assert np.abs(logits(folder, tokens) - theirs).max() < 1e-4
    config = checkpoint.read_config(folder)
    assert (config.vocab_size, config.mlp_size, config.eos_id) == (128, 48, 2)


@pytest.mark.parametrize("variant", ["1b", "7b", "olmo2"])
def test_native_exports_to_hf(variant, tmp_path):
    """By way of the converted folder, transformers gets the same model as OLMo's own code had."""
    model = build(VARIANTS[variant])
    folder = convert.open_checkpoint(
        save_native(model, VARIANTS[variant], tmp_path / "native"), tmp_path / "cache"
    )
    exporter.export(folder, tmp_path / "hf")
    hf = verify.load_reference(tmp_path / "hf")
    tokens = np.random.default_rng(1).integers(0, 90, (1, 128))
    with torch.no_grad():
        assert (
            hf(torch.tensor(tokens)).logits - model(torch.tensor(tokens)).logits
        ).abs().max() < 1e-4


def test_native_that_hf_cannot_express_is_not_exported(tmp_path):
    model = build(VARIANTS["affine"])
    folder = convert.open_checkpoint(
        save_native(model, VARIANTS["affine"], tmp_path / "native"), tmp_path / "cache"
    )
    with pytest.raises(CheckpointError, match="cannot express norm_scale = True"):
        exporter.export(folder, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_hf_olmo_wrapper_has_the_same_parameters(tmp_path):
    model = build({})
    native = convert.open_checkpoint(
        save_native(model, {}, tmp_path / "native"), tmp_path / "cache"
    )
    wrapped = tmp_path / "wrapped"
    wrapped.mkdir()
    torch.save(
        {f"model.{name}": value for name, value in model.state_dict().items()},
        wrapped / "pytorch_model.bin",
    )
    (wrapped / "config.json").write_text(json.dumps({"model_type": "hf_olmo", **SMALL}))
    other = convert.open_checkpoint(wrapped, tmp_path / "cache")
    tokens = np.random.default_rng(2).integers(0, 90, (1, 16))
    assert np.array_equal(logits(native, tokens), logits(other, tokens))


@pytest.mark.parametrize(
    "changes",
    [
        {"alibi": True},
        {"block_type": "llama"},
        {"activation_type": "gelu"},
        {"rope": False},
        {"block_group_size": 2},
        {"alibi": True, "rope": False},
        {"bias_for_layer_norm": True, **OLMO2},
        {"include_bias": True, **OLMO2, "bias_for_layer_norm": None},
    ],
)
def test_settings_the_decoder_lacks_are_refused_by_name(changes, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {**SMALL, **changes}}))
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=next(iter(changes))):
        convert.open_checkpoint(tmp_path, tmp_path / "cache")


def test_merges_of_merges_in_yaml_are_refused_at_once(tmp_path):
    lines = ["a0: &a0 {x: 1}"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]")
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    (tmp_path / "model.pt").write_bytes(b"")
    started = time.process_time()
    with pytest.raises(CheckpointError, match="merge keys"):
        convert.open_checkpoint(tmp_path, tmp_path / "cache")
    assert time.process_time() - started < 2
