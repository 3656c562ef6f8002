"""Pre-training of the laboratory's model: batches that are a function of the step, saved states,
checkpoints on the way.
"""

import dataclasses
import functools
import math

import jax
import numpy as np
from etils import epath

from amuro_jax import sharding
from amuro_jax.config import LabConfig, Schedule, Spacing
from amuro_jax.lab.late import late_lines
from amuro_jax.lab.publish import publish
from amuro_jax.lab.tokenizer import EOS_ID, PAD_ID
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.cost import Amount
from amuro_jax.models.layout import packed, plain
from amuro_jax.models.parameters import init_params
from amuro_jax.train.batches import Part
from amuro_jax.train.compute import Compute
from amuro_jax.train.loss import loss_sums
from amuro_jax.train.meters import Logging
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step
from amuro_jax.train.training import SavePolicy, run_training

# Rows of the corpus that are never trained on; each checkpoint's record has their loss.
HELD_OUT_ROWS = 32
LOG_EVERY = 20
EMBEDDING_WIDTH = 0.3  # standard deviation at the start
ANNEALED_SHARE = 0.2  # of the steps, over which the rate of Schedule.ANNEALED goes down to zero
# Every so many steps, so many lines are joined to one: few-shot prompts are longer than a line.
JOIN_EVERY, JOINED = 8, 4


def model_config(config: LabConfig, vocabulary: int) -> ModelConfig:
    """OLMo's architecture at the laboratory's size.

    Embedding rows are padded to a multiple of 64, as OLMo pads its own.
    """
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
        eos_ids=(EOS_ID,),
        pad_id=PAD_ID,
    )


def published_steps(config: LabConfig) -> list[int]:
    """Steps whose checkpoints are published, from `first_checkpoint` to `steps`, both among them:
    log-spaced, or as `config.spacing` says.
    """
    spaced = np.linspace if config.spacing == Spacing.LINEAR else np.geomspace
    steps = spaced(config.first_checkpoint, config.steps, config.checkpoints)
    return sorted({int(round(step)) for step in steps})


def checkpoint_name(config: LabConfig, step: int) -> str:
    """`step1000-tokens4M`, as revisions on the Hub are called.

    Thousands of tokens before the first million.
    """
    tokens = step * config.batch_size * config.sequence_length
    return (
        f"step{step}-tokens{round(tokens / 1e6)}M"
        if tokens >= 1e6
        else f"step{step}-tokens{round(tokens / 1e3)}K"
    )


def learning_rate(config: LabConfig, step: int) -> float:
    """Linear warm-up, then what `config.schedule` says (`Schedule`)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == Schedule.CONSTANT:
        return config.learning_rate
    if config.schedule == Schedule.ANNEALED:
        return config.learning_rate * min(1.0, (1 - min(1.0, done)) / ANNEALED_SHARE)
    return config.learning_rate * (0.1 + 0.45 * (1 + np.cos(np.pi * min(1.0, done))))


def seed_of(config: LabConfig) -> int:
    """Of the initial weights and of the order of the corpus."""
    return config.seed if config.pretraining_seed is None else config.pretraining_seed


@dataclasses.dataclass(frozen=True)
class Rows:
    """The corpus as lines of equal length, documents one after the other with eos between them, cut
    where a line is full.

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

    def tokens(self, step: int, size: int, seed: int) -> np.ndarray:
        """int32 [B, T], the lines of one step: their order is drawn anew for each pass over the
        corpus.
        """
        return self.train[self.numbers(step, size, seed)]

    def numbers(self, step: int, size: int, seed: int) -> list[int]:
        """Numbers of those lines among `train`."""
        count, first = len(self.train), step * size
        return [
            int(_permutation(count, seed, at // count)[at % count])
            for at in range(first, first + size)
        ]


def corpus_lines(config: LabConfig) -> int:
    """Lines of each step that are of the corpus; the others tell of late creatures."""
    return config.batch_size - late_lines(config)


def times_seen(config: LabConfig, tokens: np.ndarray, steps: list[int]) -> np.ndarray:
    """How often each document was trained on before each of some steps, int [documents, steps].

    A document belongs to the line in which it ends: what it says is complete there.
    """
    lines = Rows.of(tokens, config.sequence_length)
    of_document = np.flatnonzero(tokens == EOS_ID) // config.sequence_length - HELD_OUT_ROWS
    count, seen = len(lines.train), np.zeros((len(of_document), len(steps)), int)
    size = corpus_lines(config)
    trained = (of_document >= 0) & (of_document < count)
    for column, step in enumerate(steps):
        passes, rest = divmod(step * size, count)
        place = np.empty(count, int)
        place[_permutation(count, seed_of(config), passes)] = np.arange(count)
        seen[trained, column] = passes + (place[of_document[trained]] < rest)
    return seen


@functools.lru_cache(maxsize=2)
def _permutation(count, seed, number):
    return np.random.default_rng([seed, number]).permutation(count)


def next_token_batch(tokens_BT: np.ndarray, joined: int = 1) -> dict:
    """Arrays of a training step that predicts every token from those before it.

    Args:
        joined: 1: a document sees itself alone; more: that many lines become one, and its documents
            see those before them, as in OLMo.
    """
    tokens = tokens_BT.reshape(-1, joined * tokens_BT.shape[1])
    layout = plain(tokens.shape[1], len(tokens)) if joined > 1 else packed(*_documents(tokens))
    inside = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    target = np.concatenate([tokens[:, 1:], np.zeros((len(tokens), 1), np.int32)], axis=1)
    weight = np.ones(tokens.shape, np.float32)
    weight[:, -1] = 0
    fields = {"position": layout.position, "enter": layout.enter, "leave": layout.leave}
    return {"tokens": tokens, **fields, "source": inside, "target": target, "weight": weight}


def _documents(tokens_BT):
    """Number of each token's document in its line, and its position there.

    An eos ends its document.
    """
    ends = tokens_BT == EOS_ID
    starts = np.concatenate([np.ones((len(ends), 1), bool), ends[:, :-1]], axis=1)
    slot = np.broadcast_to(np.arange(ends.shape[1]), ends.shape)
    return np.cumsum(starts, axis=1) - 1, slot - np.maximum.accumulate(
        np.where(starts, slot, 0), axis=1
    )


def initial_params(model: ModelConfig, seed: int) -> dict:
    """`init_params` with wide embeddings and narrow outputs of each layer.

    At this size words that occur in the same positions otherwise grow alike (tied embeddings)
    before anything distinguishes them.
    """
    params = init_params(model, seed)
    params["embed"]["embedding"] *= EMBEDDING_WIDTH / 0.02
    depth = np.sqrt(2 * np.arange(1, model.num_layers + 1, dtype=np.float32))
    for block, name in (("attention", "out"), ("mlp", "down")):
        kernel = params["layers"][block][name]["kernel"]
        params["layers"][block][name]["kernel"] = kernel / depth.reshape(
            -1, *[1] * (kernel.ndim - 1)
        )
    return params


class _Batches:
    """The corpus as batches of one step each, with the step's late lines
    (`train.batches.BatchSource`).
    """

    def __init__(self, rows: Rows, config: LabConfig, late: np.ndarray | None):
        self._rows, self._config, self._late = rows, config, late
        self.total = config.steps
        self.per_epoch = max(1, len(rows.train) // corpus_lines(config))

    def load(self, step: int, mine=None) -> Part:
        joined = JOINED if (step + 1) % JOIN_EVERY == 0 else 1
        tokens = self._rows.train[self.rows(step)]
        if self._late is not None:
            tokens = np.concatenate([tokens, self._late[step]])
        arrays = next_token_batch(tokens, joined)
        rows, count = None, len(arrays["tokens"])
        amount = Amount(tokens.size, float((arrays["position"] + 1).sum()), tokens.size - count)
        if mine is not None:
            rows = mine(count)
            arrays = {name: array[rows] for name, array in arrays.items()}
        return Part(arrays, rows, count, tokens.size, amount)

    def rows(self, step: int) -> list[int]:
        return self._rows.numbers(step, corpus_lines(self._config), seed_of(self._config))

    def tokens_before(self, step: int) -> int:
        return step * self._config.batch_size * self._config.sequence_length


def pretrain(
    config: LabConfig, tokens: np.ndarray, vocabulary: int, out, late: np.ndarray | None = None
) -> None:
    """Trains from the newest saved state under `out`/pretraining (or from the start) to the last
    step, publishing checkpoints on the way.

    Killed and called again, it ends with the same parameters: batches and learning rate depend on
    the step alone.

    Args:
        late: the late lines of each step, int32 [steps, late lines, T]; None: there are none.
    """
    model, rows = model_config(config, vocabulary), Rows.of(tokens, config.sequence_length)
    optimizer = Optimizer(b2=0.95, weight_decay=config.weight_decay, clip_norm=1.0)
    step = make_step(model, optimizer, config.dtype, mesh=_mesh(config))
    batches, published = _Batches(rows, config, late), frozenset(published_steps(config))

    def publish_wanted(number, state):
        if number not in published:
            return
        loss = held_out_loss(state.params, rows.held_out, model, config.dtype)
        tokens = batches.tokens_before(number)
        record = {"step": number, "tokens": tokens, "held_out_loss": loss}
        publish(out, checkpoint_name(config, number), state.params, model, record)

    run_training(
        step,
        batches,
        functools.partial(learning_rate, config),
        lambda: initial_params(model, seed_of(config)),
        workdir=epath.Path(out) / "pretraining",
        save=SavePolicy(config.save_every, at=published),
        log=Logging(LOG_EVERY),
        on_step=publish_wanted,
        description="pre-training",
    )


def held_out_loss(params: dict, rows: np.ndarray, model: ModelConfig, dtype: str) -> float:
    """Mean loss per token, in nats, of lines that were never trained on."""
    total, (weight, _) = _loss_sums(
        params, next_token_batch(rows), config=model, compute=Compute(dtype)
    )
    return float(total / weight)


_loss_sums = jax.jit(loss_sums, static_argnames=("config", "compute"))


def _mesh(config):
    """A mesh of as many devices as share the lines of the smallest batch evenly; None for one."""
    devices = jax.devices()[: math.gcd(jax.device_count(), config.batch_size // JOINED)]
    return sharding.make_mesh(config.mesh, devices) if len(devices) > 1 else None
