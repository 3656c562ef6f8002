"""Pre-training of the laboratory's model: batches that are a function of the step, saved states, checkpoints on the way."""

import dataclasses
import time

import jax
import numpy as np
from etils import epath

from amuro_jax import checkpoint, logs, sharding
from amuro_jax.config import LabConfig
from amuro_jax.lab.publish import publish
from amuro_jax.lab.tokenizer import EOS_ID, PAD_ID
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.layout import plain
from amuro_jax.models.parameters import init_params
from amuro_jax.train.fine_tune import latest_state, save_state
from amuro_jax.train.loss import loss_sums
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import State, Step, make_step

HELD_OUT_ROWS = 32  # rows of the corpus that are never trained on; their loss stands beside each checkpoint
LOG_EVERY = 20


def model_config(config: LabConfig, vocabulary: int) -> ModelConfig:
    """OLMo's architecture at the laboratory's size; embedding rows are padded to a multiple of 64, as OLMo pads its own."""
    size = config.model
    return ModelConfig(
        family="olmo",
        vocab_size=-(-vocabulary // 64) * 64,
        hidden_size=size.hidden_size,
        num_layers=size.num_layers,
        num_heads=size.num_heads,
        num_kv_heads=size.num_heads,
        head_dim=size.hidden_size // size.num_heads,
        mlp_size=size.mlp_size,
        max_length=size.max_length,
        eos_id=EOS_ID,
        pad_id=PAD_ID,
    )


def published_steps(config: LabConfig) -> list[int]:
    """Steps whose checkpoints are published: log-spaced from `first_checkpoint` to `steps`, both among them."""
    steps = np.geomspace(config.first_checkpoint, config.steps, config.checkpoints)
    return sorted({int(round(step)) for step in steps})


def checkpoint_name(config: LabConfig, step: int) -> str:
    """`step1000-tokens4M`, as revisions on the Hub are called; thousands of tokens before the first million."""
    tokens = step * config.batch_size * config.sequence_length
    return f"step{step}-tokens{round(tokens / 1e6)}M" if tokens >= 1e6 else f"step{step}-tokens{round(tokens / 1e3)}K"


def learning_rate(config: LabConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.45 * (1 + np.cos(np.pi * min(1.0, done))))


@dataclasses.dataclass(frozen=True)
class Rows:
    """The corpus as lines of equal length, documents one after the other with eos between them, cut where a line is full.

    Attributes:
        train: int32 [N, T].
        held_out: int32 [HELD_OUT_ROWS, T].
    """

    train: np.ndarray
    held_out: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, length: int) -> "Rows":
        """Cuts the token stream into lines."""
        rows = tokens[: len(tokens) // length * length].reshape(-1, length)
        return cls(rows[HELD_OUT_ROWS:], rows[:HELD_OUT_ROWS])

    def batch(self, step: int, size: int, seed: int) -> dict:
        """Batch of one step: lines in an order drawn anew for each pass over the corpus."""
        at = np.arange(step * size, (step + 1) * size)
        passes = {number: np.random.default_rng([seed, number]).permutation(len(self.train)) for number in set(at // len(self.train))}
        return next_token_batch(self.train[[passes[i // len(self.train)][i % len(self.train)] for i in at]])


def next_token_batch(tokens_BT: np.ndarray) -> dict:
    """Arrays of a training step that predicts every token from those before it; documents of a line see each other, as in OLMo."""
    batch, length = tokens_BT.shape
    layout = plain(length, batch)
    target = np.concatenate([tokens_BT[:, 1:], np.zeros((batch, 1), np.int32)], axis=1)
    weight = np.ones((batch, length), np.float32)
    weight[:, -1] = 0
    source = np.ascontiguousarray(layout.position)
    return {
        "tokens": tokens_BT, "position": source, "enter": layout.enter, "leave": layout.leave, "source": source, "target": target, "weight": weight
    }  # fmt: skip


def pretrain(config: LabConfig, tokens: np.ndarray, vocabulary: int, out) -> None:
    """Trains from the newest saved state under `out`/pretraining (or from the start) to the last step, publishing checkpoints on the way.

    Killed and called again, it ends with the same parameters: batches and learning rate depend on the step alone.
    """
    workdir, model = epath.Path(out) / "pretraining", model_config(config, vocabulary)
    rows = Rows.of(tokens, config.sequence_length)
    mesh = sharding.make_mesh(config.mesh) if jax.device_count() > 1 else None
    step = make_step(model, Optimizer(b2=0.95, weight_decay=config.weight_decay, clip_norm=1.0), config.dtype, mesh=mesh)
    state, start = _resume(step, model, config.seed, workdir)
    writer = logs.MetricsWriter(workdir, start)
    wanted = set(published_steps(config))
    bar = logs.progress_bar(config.steps, "pre-training", initial=start)
    began, batch_tokens = time.time(), config.batch_size * config.sequence_length
    for number in range(start + 1, config.steps + 1):
        state, metrics = step(state, rows.batch(number - 1, config.batch_size, config.seed), learning_rate(config, number - 1))
        bar.update()
        if number % LOG_EVERY == 0 or number == config.steps:
            loss, speed = float(metrics["loss"]), (number - start) * batch_tokens / (time.time() - began)
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s")
            writer.write(number, loss=loss, learning_rate=learning_rate(config, number - 1), tokens_per_second=speed)
        if number in wanted:
            loss = held_out_loss(state.params, rows.held_out, model, config.dtype)
            record = {"step": number, "tokens": number * batch_tokens, "held_out_loss": loss}
            publish(out, checkpoint_name(config, number), state.params, model, record)
        if number in wanted or number % config.save_every == 0:
            save_state(workdir, state, number)
    bar.close()
    writer.close()


def held_out_loss(params: dict, rows: np.ndarray, model: ModelConfig, dtype: str) -> float:
    """Mean loss per token, in nats, of lines that were never trained on."""
    total, (weight, _) = _loss_sums(params, next_token_batch(rows), config=model, dtype=dtype, remat="none")
    return float(total / weight)


_loss_sums = jax.jit(loss_sums, static_argnames=("config", "dtype", "remat"))


def _resume(step: Step, model: ModelConfig, seed: int, workdir) -> tuple[State, int]:
    found = latest_state(workdir)
    if found is None:
        return step.init(init_params(model, seed)), 0
    path, number = found
    return checkpoint.restore_tree(path, step.abstract_state(), step.state_shardings), number
