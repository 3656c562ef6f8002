"""Real rows, real tokenizer, a random OLMo of 21 M parameters: convert → train → score through the
command line (needs the real data).
"""

import json
import os
import subprocess
import sys

import pytest

from amuro_jax.results.store import Store

pytestmark = pytest.mark.slow
CONFIG = {
    "vocab_size": 50304,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "tie_word_embeddings": True,
    "pad_token_id": 1,
    "eos_token_id": 50279,
    "bos_token_id": None,
    "max_position_embeddings": 2048,
    "clip_qkv": None,
}


@pytest.fixture(scope="module")
def checkpoint(shared, tmp_path_factory):
    """A folder as transformers saves it, with the real OLMo tokenizer beside the weights."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("real") / "hf"
    torch.manual_seed(0)
    model = transformers.OlmoForCausalLM(transformers.OlmoConfig(**CONFIG))
    assert 20e6 < model.num_parameters() < 22e6
    model.save_pretrained(folder)
    source = shared / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json"
    (folder / "tokenizer.json").write_text(source.read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})
    )
    return folder


def amuro(root, cache, *arguments):
    """Runs the command line; returns what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "AMURO_CACHE": str(cache),
        "XLA_FLAGS": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "amuro_jax", *arguments],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_convert_train_score_on_real_rows(checkpoint, shared, root):
    work = checkpoint.parent
    cache = work / "cache"
    amuro(root, cache, "convert", f"--checkpoint={checkpoint}", f"--out={work / 'flax'}")
    for task in ("paws", "mnli_matched"):
        run = [
            f"--config=configs/train/olmo1b.py:{task}",
            f"--config.checkpoint={work / 'flax'}",
            f"--config.data_root={shared}",
        ]
        run += [
            f"--config.workdir={work / task}",
            "--config.recipe.epochs=1",
            "--config.recipe.rows=64",
            "--config.recipe.dtype=float32",
        ]
        run += ["--config.recipe.learning_rate=5e-4", "--config.run.log_every=1"]
        amuro(root, cache, "train", *run)
        losses = [
            json.loads(line)["loss"]
            for line in (work / task / "metrics.jsonl").read_text().splitlines()
        ]
        assert len(losses) == 8 and losses[-1] < losses[0] - 2  # from ln 50304 = 10.8
        provenance = json.loads((work / task / "model" / "provenance.json").read_text())
        record = provenance["training"]
        assert record["recipe"]["task"] == task and record["metrics"]["rows"] == 64
    run = [
        f"--config.checkpoint={work / 'paws' / 'model'}",
        f"--config.data_root={shared}",
        f"--config.workdir={work / 'scores'}",
    ]
    run += [
        "--config.tasks=paws,mnli_matched",
        "--config.formats=default,instruct,io",
        "--config.scoring.rows=20",
        "--config.shots=2",
    ]
    amuro(root, cache, "score", "--config=configs/score/default.py", *run)
    store = Store.open(work / "scores")
    records = store.records()
    assert len(records) == 6
    for record in records:
        metrics = record.metrics
        assert (
            metrics["n"] == 20
            and 0 <= metrics["low"] <= metrics["value"] <= metrics["high"] <= 1
            and metrics["majority"] >= 0.3
        )
        assert len(store.rows(record.key)) == 20
