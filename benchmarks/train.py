"""Training against HF transformers on torch with the study's own recipe (micro-batch 1 × 8): ratio
of medians, same rows, losses compared first.

    python benchmarks/train.py [--hidden=384 --layers=8 --mlp=1024 --vocab=50304 --rows=8
    --length=96 --rounds=5]

Both do full AdamW steps (clip 1.0) in fp32 on CPU, on classification rows of mixed length with two
predicted tokens each.
Interleaved, after a warm-up.
"""

import statistics
import time

import jax
import numpy as np
from absl import app, flags

from amuro_jax.data.types import TrainExample
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.train.batches import pad_batch
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step

SIZES = {
    "hidden": 384,
    "layers": 8,
    "mlp": 1024,
    "vocab": 50304,
    "rows": 8,
    "length": 96,
    "rounds": 5,
}
for _name, _value in SIZES.items():
    flags.DEFINE_integer(_name, _value, _name)


def make_rows(f) -> list[list[TrainExample]]:
    """Batches of rows between half the length and the whole, two predicted tokens each, as label
    and eos.
    """
    rng, batches = np.random.default_rng(0), []
    for _ in range(f.rounds + 1):
        lengths = rng.integers(f.length // 2, f.length + 1, f.rows)
        batches.append(
            [
                TrainExample(rng.integers(0, f.vocab, n).astype(np.int32), np.arange(n) >= n - 2, i)
                for i, n in enumerate(lengths)
            ]
        )
    return batches


def torch_model(f, params):
    """transformers' OLMo with the same parameters."""
    import torch
    import transformers

    config = transformers.OlmoConfig(
        vocab_size=f.vocab,
        hidden_size=f.hidden,
        intermediate_size=f.mlp,
        num_hidden_layers=f.layers,
        num_attention_heads=f.hidden // 64,
        tie_word_embeddings=True,
        pad_token_id=1,
        eos_token_id=2,
    )
    model, flat = (
        transformers.OlmoForCausalLM(config),
        {name: np.asarray(leaf) for name, leaf in flatten(params).items()},
    )
    names = {
        "q_proj": "attention/query",
        "k_proj": "attention/key",
        "v_proj": "attention/value",
        "o_proj": "attention/out",
    }
    names |= {f"{name}_proj": f"mlp/{name}" for name in ("gate", "up", "down")}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "layers." not in name:
                tensor.copy_(torch.tensor(flat["embed/embedding"]))
                continue
            kernel = flat[f"layers/{names[name.split('.')[-2]]}/kernel"][int(name.split(".")[2])]
            matrix = (
                kernel.reshape(-1, f.hidden)
                if "o_proj" in name or "down" in name
                else kernel.reshape(f.hidden, -1)
            )
            tensor.copy_(torch.tensor(matrix.T.copy()))
    return model


def torch_step(model, optimizer, rows):
    """The study's recipe: one row at a time, loss over completion tokens, 8 rows per update.

    Full logits, as HF's loss makes them.
    """
    import torch

    total, count = 0.0, sum(int(row.loss_mask[1:].sum()) for row in rows)
    for row in rows:
        labels = torch.tensor(np.where(row.loss_mask, row.tokens, -100)).long()[None]
        tokens = torch.tensor(row.tokens).long()[None]
        loss = model(tokens, labels=labels).loss * int(row.loss_mask[1:].sum()) / count
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def main(_):
    """Prints one table."""
    import torch

    f = flags.FLAGS
    config = ModelConfig(
        "olmo", f.vocab, f.hidden, f.layers, f.hidden // 64, f.hidden // 64, 64, f.mlp, 2048
    )
    params, batches = init_params(config, 0), make_rows(f)
    model = torch_model(f, params)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    step = make_step(config, Optimizer(clip_norm=1.0))
    state, ours, theirs, gap = step.init(params), [], [], 0.0
    for number, rows in enumerate(batches):
        started = time.perf_counter()
        state, metrics = step(state, pad_batch(rows, f.rows, 4).arrays(), 1e-4)
        loss = float(jax.block_until_ready(metrics["loss"]))
        middle = time.perf_counter()
        other = torch_step(model, optimizer, rows)
        gap = max(gap, abs(loss - other))
        if number:  # the first compiles
            ours.append(middle - started)
            theirs.append(time.perf_counter() - middle)
    assert gap < 1e-3, f"losses differ by {gap}"
    tokens = np.mean([sum(len(row.tokens) for row in rows) for rows in batches])
    a, b = statistics.median(ours), statistics.median(theirs)
    sizes = (
        f"{config.num_parameters / 1e6:.1f} M parameters, "
        f"{f.rows} rows of {f.length // 2}–{f.length} tokens"
    )
    print(f"{sizes}, fp32, {torch.get_num_threads()} torch threads")
    print(f"largest difference of losses over {len(batches)} steps: {gap:.1e}")
    print(f"{'':<34}{'s/step':>9}{'tokens/s':>10}")
    print(f"{'HF + torch, micro-batch 1 × 8':<34}{b:>9.3f}{tokens / b:>10.0f}")
    print(f"{'amuro_jax':<34}{a:>9.3f}{tokens / a:>10.0f}")
    print(f"ratio {b / a:.2f}")


if __name__ == "__main__":
    app.run(main)
