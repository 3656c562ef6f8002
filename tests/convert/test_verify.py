"""Verify finds each fault that it names: altered weights (with the first layer that departs), NaN,
a wrong tokenizer, confused eos ids.
"""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from amuro_jax import checkpoint
from amuro_jax.convert import verify
from amuro_jax.errors import CheckpointError


def resave(folder, out, change, config=None, tokenizer=None):
    """A copy of a converted folder with other parameters, configuration or tokenizer."""
    params = jax.tree.map(np.array, checkpoint.load_params(folder))
    change(params)
    config = config or checkpoint.read_config(folder)
    checkpoint.save_model(
        out, params, config, tokenizer or folder / "tokenizer", checkpoint.read_provenance(folder)
    )
    return out


def results(checks):
    return {check.name: check for check in checks}


def nothing(params):
    pass


def test_sound_checkpoint_passes_every_check(olmo_hf, olmo_converted):
    checks = verify.verify(olmo_converted, olmo_hf)
    assert [check.name for check in checks if check.ok is False] == []
    assert {"names and shapes", "finite", "tensors", "logits"} <= {
        check.name for check in checks if check.ok
    }
    verify.require(checks, olmo_converted)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_ladder_names_the_first_layer_that_departs(olmo_hf, olmo_converted, tmp_path, layer):
    def change(params):
        params["layers"]["mlp"]["down"]["kernel"][layer] *= 1.01

    found = results(verify.verify(resave(olmo_converted, tmp_path / "m", change), olmo_hf))
    assert (
        found["tensors"].ok is False and f"layers.{layer}.mlp.down_proj" in found["tensors"].detail
    )
    assert found["logits"].ok is False and f"layer {layer}:" in found["logits"].detail
    with pytest.raises(CheckpointError, match=f"layer {layer}"):
        verify.require(found.values(), "here")


def test_ladder_names_the_embedding_and_the_unembedding(olmo_hf, olmo_converted, tmp_path):
    hf = verify.load_reference(olmo_hf)
    config = checkpoint.read_config(olmo_converted)
    params = checkpoint.load_params(olmo_converted)
    tokens, masks = verify.example_tokens(config, 16)
    assert "unembedding" in verify.departure(params, config, hf, tokens, masks["left"])
    params["embed"]["embedding"] = params["embed"]["embedding"] + 1e-2
    assert "the embedding" in verify.departure(params, config, hf, tokens, masks["left"])


def test_nan_is_found_in_its_layer(olmo_converted, tmp_path):
    def change(params):
        params["layers"]["attention"]["query"]["kernel"][1, 0, 0, :2] = np.nan

    found = results(verify.verify(resave(olmo_converted, tmp_path / "m", change)))
    assert found["finite"].ok is False and found["finite"].detail.startswith(
        "2 of 1024 values of layers/attention/query/kernel[1]"
    )


def test_wrong_configuration_is_seen_before_anything_is_run(olmo_hf, olmo_converted, tmp_path):
    folder = shutil.copytree(olmo_converted, tmp_path / "m")
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**values, "mlp_size": 64}))
    found = results(verify.verify(folder))
    assert (
        found["names and shapes"].ok is False and "(3, 48, 32)" in found["names and shapes"].detail
    )
    (folder / "model.json").write_text(
        json.dumps({**values, "rope": {**values["rope"], "theta": 5e5}})
    )
    found = results(verify.verify(folder, olmo_hf))
    assert (
        found["configuration"].ok is False
        and "rope" in found["configuration"].detail
        and "logits" not in found
    )


def make_tokenizer(folder, tokens, eos):
    """A word-level tokenizer whose ids are the positions in `tokens`."""
    folder.mkdir(parents=True)
    model = tokenizers.models.WordLevel(
        {token: i for i, token in enumerate(tokens)}, unk_token=tokens[0]
    )
    tokenizers.Tokenizer(model).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    return folder


def check_tokenizer(olmo_converted, tmp_path, tokens, eos, **ids):
    config = dataclasses.replace(checkpoint.read_config(olmo_converted), **ids)
    tokenizer = make_tokenizer(tmp_path / "tokenizer", tokens, eos)
    return results(
        verify.verify(resave(olmo_converted, tmp_path / "m", nothing, config, tokenizer))
    )


def test_eos_confusion_is_found(olmo_converted, tmp_path):
    """The published quirk: config says one id, the tokenizer means another, and one of the two is
    an address placeholder.
    """
    tokens = ["<|endoftext|>", "a", "|||IP_ADDRESS|||"]
    found = check_tokenizer(olmo_converted, tmp_path, tokens, "<|endoftext|>", eos_ids=(2,))
    assert found["eos"].ok is False
    assert (
        "config: 2 ('|||IP_ADDRESS|||')" in found["eos"].detail
        and "tokenizer_config: 0 ('<|endoftext|>')" in found["eos"].detail
    )


def test_two_ends_of_text_that_disagree_are_found(olmo_converted, tmp_path):
    found = check_tokenizer(
        olmo_converted, tmp_path, ["<|endoftext|>", "a", "<|im_end|>"], "<|im_end|>", eos_ids=(0,)
    )
    assert found["eos"].ok is False and "disagree" in found["eos"].detail


def test_consistent_eos_that_is_no_end_of_text_is_found(olmo_converted, tmp_path):
    found = check_tokenizer(
        olmo_converted,
        tmp_path,
        ["<|endoftext|>", "a", "|||IP_ADDRESS|||"],
        "|||IP_ADDRESS|||",
        eos_ids=(2,),
    )
    assert found["eos"].ok is False and "does not look like" in found["eos"].detail


def test_good_tokenizer_passes_and_one_too_large_does_not(olmo_converted, tmp_path):
    found = check_tokenizer(
        olmo_converted, tmp_path / "good", ["<|endoftext|>", "a"], "<|endoftext|>", eos_ids=(0,)
    )
    assert found["eos"].ok and found["tokenizer"].ok
    found = check_tokenizer(
        olmo_converted, tmp_path / "large", ["</s>", *map(str, range(200))], "</s>", eos_ids=(0,)
    )
    assert found["tokenizer"].ok is False and "ids up to 200 in 96" in found["tokenizer"].detail


def test_real_olmo_tokenizer(olmo_converted, tmp_path, shared):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    shutil.copy(
        shared / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json", folder / "tokenizer.json"
    )
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = dataclasses.replace(
        checkpoint.read_config(olmo_converted), vocab_size=50304, eos_ids=(50279,)
    )
    assert verify._eos(folder, tokenizer, config).ok
    assert verify._eos(folder, tokenizer, dataclasses.replace(config, eos_ids=(0,))).ok is False


def test_bf16_compute_is_close(olmo_hf, olmo_converted):
    config, params = checkpoint.read_config(olmo_converted), checkpoint.load_params(olmo_converted)
    tokens, masks = verify.example_tokens(config)
    difference = verify.logit_difference(
        params, config, verify.load_reference(olmo_hf), tokens, masks["right"], jnp.bfloat16
    )
    assert 1e-5 < difference < 0.5
