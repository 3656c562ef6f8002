"""ModelConfig: one frozen description of a decoder that covers every family. Imports no jax."""

import dataclasses

from amuro_jax.errors import CheckpointError

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu")
MAX_LAYERS = 10_000  # the deepest published decoders have some hundred
MAX_SIZE = 2**31 - 1  # of any other size: an index into an axis is an int32


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding of one kind of layer.

    Attributes:
        theta: base of the wavelengths.
        kind: default | linear | llama3 | yarn (HF `rope_type`).
        factor, low_freq_factor, high_freq_factor, original_max_length: llama3 and yarn (HF names,
            spelled out).
        beta_fast, beta_slow, attention_factor, truncate: yarn; `attention_factor` multiplies cos
            and sin (0: 0.1 ln(factor) + 1).
    """

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_length: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0
    truncate: bool = True


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of a decoder-only language model; comes from the checkpoint, never from flags.

    Attributes:
        family: olmo | olmo2 | olmo3 | gpt_neox | llama (HF `model_type`).
        vocab_size: rows of the embedding, padding rows included.
        head_dim: K; hidden_size need not be num_heads × head_dim.
        norm: layernorm | rmsnorm; `norm_scale`, `norm_bias`: whether it has those parameters.
        norm_cast_first: RMSNorm casts to the compute dtype before the multiply by its scale
            (llama), not after (olmo2).
        norm_position: pre (on the sub-layer's input) | post (on its output, before the residual
            add).
        parallel_residual: attention and MLP read the same input (gpt_neox).
        qk_norm: RMSNorm over the full query and key width, before the head split.
        clip_qkv: clamp of queries, keys and values to ±value, or None.
        rotary_fraction: leading share of each head that is rotated.
        rope_in_fp32: rotate in fp32 (olmo*), else cos and sin are cast to the compute dtype first.
        window: keys a sliding layer sees, itself included; None: all.
        sliding_layers: per layer, True where the window applies; empty: none.
        sliding_rope: rope of the sliding layers where it differs from `rope`.
        eos_ids: every id that ends a text; the first is the one that training writes.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_size: int
    max_length: int
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    norm_scale: bool = False
    norm_bias: bool = False
    norm_cast_first: bool = False
    norm_position: str = "pre"
    parallel_residual: bool = False
    qk_norm: bool = False
    clip_qkv: float | None = None
    attention_bias: bool = False
    attention_out_bias: bool = False
    gated_mlp: bool = True
    mlp_bias: bool = False
    activation: str = "silu"
    rope: Rope = Rope()
    sliding_rope: Rope | None = None
    rotary_fraction: float = 1.0
    rope_in_fp32: bool = True
    window: int | None = None
    sliding_layers: tuple[bool, ...] = ()
    tie_embeddings: bool = True
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    pad_id: int | None = None

    def __post_init__(self):
        limits = dict.fromkeys(
            "vocab_size hidden_size num_layers num_heads num_kv_heads head_dim mlp_size "
            "max_length".split(),
            MAX_SIZE,
        )
        for name, most in {**limits, "num_layers": MAX_LAYERS}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
                raise CheckpointError(
                    f"{name} must be an integer from 1 to {most}, got {str(value)[:80]!r}",
                    where=f"model config: {name}",
                )
        if self.activation not in ACTIVATIONS:
            raise CheckpointError(
                f"unknown activation {str(self.activation)[:80]!r}",
                where="model config: activation",
                hint="known: " + ", ".join(ACTIVATIONS),
            )
        if self.num_heads % self.num_kv_heads:
            raise CheckpointError(
                f"{self.num_heads} query heads cannot share {self.num_kv_heads} key/value heads",
                where="model config",
            )
        if self.sliding_layers and len(self.sliding_layers) != self.num_layers:
            raise CheckpointError(
                f"{len(self.sliding_layers)} layer types for {self.num_layers} layers",
                where="model config: layer_types",
            )
        if any(self.sliding_layers) and not self.window:
            raise CheckpointError(
                "sliding layers without a window size", where="model config: sliding_window"
            )

    @property
    def eos_id(self) -> int | None:
        """The end of text that training writes."""
        return self.eos_ids[0] if self.eos_ids else None

    @property
    def rotary_dim(self) -> int:
        """Leading channels of each head that are rotated."""
        return int(self.head_dim * self.rotary_fraction)

    @property
    def attention_weights(self) -> int:
        """Elements of one layer's query, key, value and output matrices."""
        return self.hidden_size * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)

    @property
    def mlp_weights(self) -> int:
        """Elements of one layer's MLP matrices."""
        return self.hidden_size * self.mlp_size * (2 + self.gated_mlp)

    @property
    def num_parameters(self) -> int:
        """Number of scalars in the parameter tree."""
        d, f, kv = self.hidden_size, self.mlp_size, self.num_kv_heads * self.head_dim
        q = self.num_heads * self.head_dim
        norm = d * (self.norm_scale + self.norm_bias)
        attention = (
            self.attention_weights
            + self.attention_bias * (q + 2 * kv)
            + self.attention_out_bias * d
            + self.qk_norm * (q + kv)
        )
        mlp = self.mlp_weights + self.mlp_bias * ((1 + self.gated_mlp) * f + d)
        embeddings = self.vocab_size * d * (1 if self.tie_embeddings else 2)
        return self.num_layers * (attention + mlp + 2 * norm) + norm + embeddings

    def to_json(self) -> dict:
        """Plain values, every field present."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> "ModelConfig":
        """The inverse of `to_json`.

        Raises:
            CheckpointError: an unknown or missing field.
        """
        try:
            values = dict(values)
            for name in ("rope", "sliding_rope"):
                if values.get(name) is not None:
                    values[name] = Rope(**values[name])
            for name in ("sliding_layers", "eos_ids"):
                values[name] = tuple(values.get(name, ()))
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"not a model configuration of this version: {error}", where="model.json"
            ) from error
