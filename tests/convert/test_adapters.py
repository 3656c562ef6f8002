"""Adapter folders: written by a training, opened by every verb, for their own base only; merged,
moved, and exchanged with PEFT.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from amuro_jax import checkpoint, convert
from amuro_jax.config import Recipe, ScoreConfig, Scoring, TrainConfig
from amuro_jax.convert import adapters, exporter, peft
from amuro_jax.errors import CheckpointError, ConfigError
from amuro_jax.evals import run as scoring
from amuro_jax.models.lora import Lora, has_adapters, merged
from amuro_jax.models.parameters import flatten
from amuro_jax.opened import open_checkpoint
from amuro_jax.train import run as training
from tests.study.conftest import series  # noqa: F401
from tests.test_checkpoint import flipped
from tests.train.test_lora import drawn, scores
from tests.train.tiny import MODEL

RECIPE = Recipe(
    task="lab_nli",
    rows=16,
    epochs=1,
    batch_size=8,
    learning_rate=1e-2,
    dtype="float32",
    max_length=256,
    lora_rank=2,
)
TOKENS = np.random.default_rng(0).integers(3, 64, (2, 20)).astype(np.int32)


def folder_bytes(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def base(series):  # noqa: F811
    return convert.open_checkpoint(series.checkpoints / "step10-tokens10K")


@pytest.fixture(scope="module")
def config(series, tmp_path_factory):  # noqa: F811
    return TrainConfig(
        checkpoint=str(series.checkpoints / "step10-tokens10K"),
        workdir=str(tmp_path_factory.mktemp("run")),
        data_root=str(series.data),
        recipe=RECIPE,
    )


@pytest.fixture(scope="module")
def adapter(config):
    """What `amuro train` with a rank writes, with an adapter in which nothing is zero."""
    return training.run(config)


@pytest.fixture
def strong(base, tmp_path):
    """An adapter folder whose adapter changes the model much."""
    lora = Lora(2, 8.0)
    trained = drawn(lora, checkpoint.read_config(base))
    adapters.save(tmp_path / "strong", lora, trained, base, {"form": "test"}, "0" * 16)
    return tmp_path / "strong"


def test_a_training_with_a_rank_writes_an_adapter(adapter, base):
    opened = open_checkpoint(adapter)
    lora, of = adapters.read_settings(adapter)
    assert lora == Lora(2, 4.0) and of.identity == checkpoint.model_hash(base)
    assert opened.identity == opened.source["training"]["key"] != of.identity
    _, trained = adapters.read(adapter)
    sizes = [
        sum(leaf.size for leaf in flatten(t).values())
        for t in (trained, checkpoint.load_params(base))
    ]
    assert sizes[0] < sizes[1] / 4
    # The store's own files, of one size whatever is in it, are most of an adapter this small.
    assert folder_bytes(adapter / "params") < 0.7 * folder_bytes(base / "params")
    assert has_adapters(opened.load_params())
    with pytest.raises(CheckpointError, match="(?s)an adapter, not a whole model.*--to=model"):
        checkpoint.load_params(adapter)


def test_it_is_scored_as_it_is_and_merged_alike(strong, base, series, tmp_path):  # noqa: F811
    whole = tmp_path / "merged"
    exporter.write(strong, whole, "model")
    losses = {}
    for name in (base, strong, whole):
        config = ScoreConfig(
            checkpoint=str(name),
            workdir=str(tmp_path / "scores"),
            data_root=str(series.data),
            tasks=("lab_nli",),
            shots=(0,),
            scoring=Scoring(rows=6, bootstrap=10),
        )
        (record,) = scoring.run(config)
        rows = scoring.Store.open(config.workdir).rows(record.key)
        losses[name] = np.stack(rows["choice_logprobs"])
    np.testing.assert_allclose(losses[strong], losses[whole], atol=2e-4)
    assert np.abs(losses[strong] - losses[base]).max() > 0.1
    assert checkpoint.model_hash(whole) != checkpoint.model_hash(strong)


def test_it_is_scored_on_a_mesh(strong):
    from amuro_jax import sharding

    opened = open_checkpoint(strong)
    alone = flatten(opened.load_params())
    mesh = sharding.make_mesh("data:2,fsdp:2,tensor:2")
    for name, leaf in flatten(opened.load_params(mesh)).items():
        np.testing.assert_array_equal(leaf, alone[name])
        assert leaf.sharding.mesh == mesh


def test_the_next_training_starts_from_what_it_makes(strong, config, tmp_path):
    """Full fine-tuning of an adapter, at a rate of next to nothing, is the merged model."""
    recipe = dataclasses.replace(RECIPE, lora_rank=None, learning_rate=1e-12, rows=8)
    again = dataclasses.replace(
        config, checkpoint=str(strong), workdir=str(tmp_path / "w"), recipe=recipe
    )
    tuned = flatten(checkpoint.load_params(training.run(again)))
    for name, leaf in flatten(adapters.load_params(strong, merge=True)).items():
        np.testing.assert_allclose(tuned[name], leaf, atol=1e-6, err_msg=name)


def forget_name(folder):
    """The adapter knows its base by its folder only."""
    settings = json.loads((folder / "adapter.json").read_text())
    settings["base"]["name"] = ""
    (folder / "adapter.json").write_text(json.dumps(settings))


def test_another_base_is_refused_and_a_moved_one_is_said(base, tmp_path):
    own = tmp_path / "base"
    shutil.copytree(base, own)
    lora = Lora(2, 8.0)
    adapters.save(tmp_path / "a", lora, drawn(lora, checkpoint.read_config(own)), own, {}, "k" * 16)
    forget_name(tmp_path / "a")
    wanted = checkpoint.model_hash(base)
    own.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=f"(?s){wanted}, which is not there.*--base=NAME"):
        adapters.load_params(tmp_path / "a")
    out = tmp_path / "again"
    convert.open_checkpoint(tmp_path / "a", base=str(tmp_path / "moved"), out=out)
    assert has_adapters(adapters.load_params(out))
    assert checkpoint.model_hash(out) == "k" * 16
    forget_name(out)
    identity = json.loads((tmp_path / "moved/identity.json").read_text())
    (tmp_path / "moved/identity.json").write_text(json.dumps(identity | {"key": "other"}))
    with pytest.raises(CheckpointError, match=f"(?s){wanted}, which.*is the model other"):
        adapters.load_params(out)
    with pytest.raises(CheckpointError, match=f"belongs to the model {wanted}, .* is other"):
        convert.open_checkpoint(out, base=str(tmp_path / "moved"), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_adapter_of_other_shapes_is_refused(strong):
    wide = dataclasses.replace(checkpoint.read_config(strong), mlp_size=64)
    with pytest.raises(CheckpointError, match=r"mlp/down.*stored .*48.*wants .*64"):
        adapters.read(strong, wide)


def test_a_changed_byte_is_named(strong):
    largest = max((strong / "params").rglob("*"), key=lambda path: path.stat().st_size)
    flipped(largest, largest.stat().st_size // 2)
    with pytest.raises(CheckpointError):
        adapters.read(strong)


@pytest.mark.parametrize(
    "recipe,what",
    [
        ({"lora_targets": ("q_proj",)}, "(?s)no projection 'q_proj'.*query, key, value, out"),
        ({"lora_rank": 0}, "lora_rank must be positive, got 0"),
        ({"lora_rank": None, "lora_alpha": 4.0}, "(?s)lora_alpha has no effect.*set lora_rank"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(config, tmp_path, recipe, what):
    bad = dataclasses.replace(
        config,
        workdir=str(tmp_path / "w"),
        recipe=dataclasses.replace(RECIPE, **recipe),
    )
    with pytest.raises(ConfigError, match=what):
        training.run(bad)
    assert not (tmp_path / "w").exists()


@pytest.fixture
def llama(tmp_path):
    """A tiny Llama as transformers writes it, and what PEFT is."""
    torch, library = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    hf = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    folder = tmp_path / "llama"
    transformers.LlamaForCausalLM(hf).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder, transformers, torch, library


def _write_tokenizer(folder):
    """What a conversion asks for; nothing is tokenised here."""
    from tokenizers import Tokenizer, models

    words = {f"w{i}": i for i in range(64)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))


@pytest.mark.torch
@pytest.mark.parametrize("stabilised", [False, True])
def test_peft_reads_ours_and_we_read_theirs(llama, tmp_path, stabilised):
    folder, transformers, torch, library = llama
    base = convert.open_checkpoint(folder, tmp_path / "cache")
    model = checkpoint.read_config(base)
    lora = Lora(4, 8.0, ("query", "value", "out", "down"), stabilised)
    trained = drawn(lora, model)
    adapters.save(tmp_path / "own", lora, trained, base, {"form": "test"}, "1" * 16)
    exporter.write(tmp_path / "own", tmp_path / "peft", "peft")
    hf = transformers.LlamaForCausalLM.from_pretrained(folder)
    theirs = library.PeftModel.from_pretrained(hf, tmp_path / "peft").eval()
    with torch.no_grad():
        wanted = theirs(torch.tensor(TOKENS).long()).logits.numpy()
    ours = scores(adapters.load_params(tmp_path / "own"), model, TOKENS)
    assert np.abs(ours - scores(checkpoint.load_params(base), model, TOKENS)).max() > 0.1
    np.testing.assert_allclose(ours, wanted, atol=2e-5, rtol=0)
    # and back, as PEFT itself writes it, by any verb
    theirs.save_pretrained(tmp_path / "again")
    opened = convert.open_checkpoint(tmp_path / "again", tmp_path / "cache")
    assert opened == convert.open_checkpoint(tmp_path / "again", tmp_path / "cache")
    found, again = adapters.read(opened)
    assert (found.rank, found.scale, set(found.targets)) == (4, lora.scale, set(lora.targets))
    for name, leaf in flatten(trained).items():
        np.testing.assert_array_equal(leaf, flatten(again)[name])
    # merged, as a Hugging Face folder
    exporter.write(opened, tmp_path / "hf")
    whole = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        logits = whole(torch.tensor(TOKENS).long()).logits.numpy()
    np.testing.assert_allclose(logits, wanted, atol=2e-5, rtol=0)


def test_peft_settings_that_are_not_expressed_are_refused(tmp_path):
    lora = Lora(2, 4.0, ("query",))
    peft.write(tmp_path / "a", lora, drawn(lora), MODEL)
    path = tmp_path / "a" / "adapter_config.json"
    settings = json.loads(path.read_text())
    for changed, what in [
        ({"use_dora": True}, "use_dora is True"),
        ({"target_modules": ["q_proj", "c_attn"]}, "(?s)target_modules.*unknown: c_attn"),
        ({"target_modules": ["q_proj", "v_proj"]}, "4 tensors are missing, first .*v_proj.lora_A"),
        ({"r": 3}, r"has shape \(2, 32\)"),
        ({"r": None}, "r is missing"),
    ]:
        path.write_text(json.dumps(settings | changed))
        with pytest.raises(CheckpointError, match=what):
            peft.read(tmp_path / "a", MODEL)
    path.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="(?s)does not say which model.*--base=NAME"):
        convert.open_checkpoint(tmp_path / "a", tmp_path / "cache")


def test_what_is_no_adapter_is_not_treated_as_one(base, tmp_path):
    with pytest.raises(ConfigError, match="only an adapter can be written as peft"):
        exporter.write(base, tmp_path / "x", "peft")
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="only an adapter has a base"):
        convert.open_checkpoint(base, base="somewhere", out=tmp_path / "x")


def test_merging_keeps_what_is_stored(strong, base):
    """A base in bfloat16 gives a merged model in bfloat16."""
    lora, trained = adapters.read(strong)
    half = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), checkpoint.load_params(base))
    whole = merged(lora.join(trained, half))
    assert {leaf.dtype.name for leaf in flatten(whole).values()} == {"bfloat16"}
