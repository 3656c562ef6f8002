"""Llama and all that copies its names: pre-norm RMSNorm, SwiGLU, grouped queries."""

from amuro_jax.convert.bounds import short
from amuro_jax.convert.families.rope import read_rope, write_rope
from amuro_jax.convert.rules import Rule
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ACTIVATIONS, ModelConfig

IGNORED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"model\.rotary_emb\.inv_freq")


def shape_fields(hf: dict) -> dict:
    """ModelConfig fields that every Llama-like config spells alike.

    Raises:
        CheckpointError: a size that is missing.
    """
    try:
        heads, width = hf["num_attention_heads"], hf["hidden_size"]
        return {
            "vocab_size": hf["vocab_size"],
            "hidden_size": width,
            "num_layers": hf["num_hidden_layers"],
            "num_heads": heads,
            "num_kv_heads": hf.get("num_key_value_heads") or heads,
            "head_dim": hf.get("head_dim") or width // heads,
            "mlp_size": hf["intermediate_size"],
            "max_length": hf["max_position_embeddings"],
        }
    except KeyError as error:
        raise CheckpointError(f"field {error} is missing", where="config.json") from error


# Other names in Hugging Face's table of activations for a function that the decoder has.
ACTIVATION_NAMES = {
    "swish": "silu",
    "gelu_python": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_python_tanh": "gelu_pytorch_tanh",
}


def read_activation(hf: dict, default: str = "silu") -> str:
    """Name of the activation of the MLP.

    Raises:
        CheckpointError: a function that the decoder does not have.
    """
    name = hf.get("hidden_act") or default
    name = ACTIVATION_NAMES.get(name, name) if isinstance(name, str) else name
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"unknown activation {short(name)}",
            where="config.json: hidden_act",
            hint="known: " + ", ".join([*ACTIVATIONS, *ACTIVATION_NAMES]),
        )
    return name


def read_eos_ids(hf: dict) -> tuple[int, ...]:
    """The ids in `eos_token_id` of a config.json or generation_config.json: one, several or none.

    Raises:
        CheckpointError: not integers.
    """
    stated = hf.get("eos_token_id")
    ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise CheckpointError(
            f"eos_token_id is {short(stated)}, not an id or a list of ids",
            where="config.json: eos_token_id",
        )
    return tuple(dict.fromkeys(ids))


def special_ids(hf: dict) -> dict:
    """Every eos id, the bos and the pad id."""
    return {
        "eos_ids": read_eos_ids(hf),
        "bos_id": hf.get("bos_token_id"),
        "pad_id": hf.get("pad_token_id"),
    }


def read_config(hf: dict) -> ModelConfig:
    """HF config → ModelConfig."""
    return ModelConfig(
        family="llama",
        **shape_fields(hf),
        **special_ids(hf),
        norm="rmsnorm",
        norm_eps=float(hf.get("rms_norm_eps", 1e-6)),
        norm_scale=True,
        norm_cast_first=True,
        attention_bias=bool(hf.get("attention_bias", False)),
        attention_out_bias=bool(hf.get("attention_bias", False)),
        mlp_bias=bool(hf.get("mlp_bias", False)),
        activation=read_activation(hf),
        rope=read_rope(hf),
        rope_in_fp32=False,
        tie_embeddings=bool(hf.get("tie_word_embeddings", False)),
    )


def write_shapes(c: ModelConfig) -> dict:
    """The inverse of `shape_fields` and `special_ids`, with what all Llama-like configs share."""
    return {
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "intermediate_size": c.mlp_size,
        "max_position_embeddings": c.max_length,
        "hidden_act": c.activation,
        "attention_bias": c.attention_bias,
        "tie_word_embeddings": c.tie_embeddings,
        "eos_token_id": list(c.eos_ids) if len(c.eos_ids) > 1 else c.eos_id,
        "bos_token_id": c.bos_id,
        "pad_token_id": c.pad_id,
    }


def write_config(c: ModelConfig) -> dict:
    """ModelConfig → HF config."""
    head = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    return {
        **head,
        **write_shapes(c),
        "head_dim": c.head_dim,
        "mlp_bias": c.mlp_bias,
        "rms_norm_eps": c.norm_eps,
        **write_rope(c.rope),
    }


def llama_rules(c: ModelConfig, attention_norm: str, mlp_norm: str) -> tuple[Rule, ...]:
    """Rules of the Llama naming.

    A family gives the names of its two norms and switches the rest by its config.
    """
    layer = "model.layers.{i}"
    table = [Rule("embed/embedding", "model.embed_tokens.weight", "V D -> V D")]
    norms = [
        ("final_norm", "model.norm"),
        ("layers/attention_norm", f"{layer}.{attention_norm}"),
        ("layers/mlp_norm", f"{layer}.{mlp_norm}"),
    ]
    if c.norm_scale:
        table += [Rule(f"{target}/scale", f"{source}.weight", "D -> D") for target, source in norms]
    for target, source, heads in (
        ("query", "q_proj", "H"),
        ("key", "k_proj", "G"),
        ("value", "v_proj", "G"),
    ):
        table.append(
            Rule(
                f"layers/attention/{target}/kernel",
                f"{layer}.self_attn.{source}.weight",
                f"({heads} K) D -> D {heads} K",
            )
        )
        if c.attention_bias:
            table.append(
                Rule(
                    f"layers/attention/{target}/bias",
                    f"{layer}.self_attn.{source}.bias",
                    f"({heads} K) -> {heads} K",
                )
            )
    if c.qk_norm:
        table += [
            Rule("layers/attention/query_norm/scale", f"{layer}.self_attn.q_norm.weight", "Q -> Q"),
            Rule("layers/attention/key_norm/scale", f"{layer}.self_attn.k_norm.weight", "C -> C"),
        ]
    table.append(
        Rule("layers/attention/out/kernel", f"{layer}.self_attn.o_proj.weight", "D (H K) -> H K D")
    )
    if c.attention_out_bias:
        table.append(Rule("layers/attention/out/bias", f"{layer}.self_attn.o_proj.bias", "D -> D"))
    wide, narrow = ("F D -> D F", "F"), ("D F -> F D", "D")
    for target, source, (axes, bias) in (
        ("gate", "gate_proj", wide),
        ("up", "up_proj", wide),
        ("down", "down_proj", narrow),
    ):
        table.append(Rule(f"layers/mlp/{target}/kernel", f"{layer}.mlp.{source}.weight", axes))
        if c.mlp_bias:
            table.append(
                Rule(f"layers/mlp/{target}/bias", f"{layer}.mlp.{source}.bias", f"{bias} -> {bias}")
            )
    if not c.tie_embeddings:
        table.append(Rule("unembed/kernel", "lm_head.weight", "V D -> D V"))
    return tuple(table)


def rules(c: ModelConfig) -> tuple[Rule, ...]:
    """Llama's tensors."""
    return llama_rules(c, "input_layernorm", "post_attention_layernorm")
