"""OLMo-2: RMSNorm on the sub-layers' outputs, norm of queries and keys over their full width."""

from amuro_jax.convert.families import llama
from amuro_jax.convert.families.rope import read_rope, write_rope
from amuro_jax.convert.rules import Rule
from amuro_jax.models.config import ModelConfig

IGNORED = llama.IGNORED


def shared_fields(hf: dict) -> dict:
    """What OLMo-2 and OLMo-3 have in common."""
    bias = bool(hf.get("attention_bias", False))
    return {
        **llama.shape_fields(hf),
        **llama.special_ids(hf),
        "norm": "rmsnorm",
        "norm_eps": float(hf.get("rms_norm_eps", 1e-5)),
        "norm_scale": True,
        "norm_position": "post",
        "qk_norm": True,
        "attention_bias": bias,
        "attention_out_bias": bias,
        "activation": llama.read_activation(hf),
        "tie_embeddings": bool(hf.get("tie_word_embeddings", False)),
    }


def read_config(hf: dict) -> ModelConfig:
    """HF config → ModelConfig."""
    return ModelConfig(family="olmo2", **shared_fields(hf), rope=read_rope(hf))


def write_config(c: ModelConfig) -> dict:
    """ModelConfig → HF config."""
    head = {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"]}
    return {**head, **llama.write_shapes(c), "rms_norm_eps": c.norm_eps, **write_rope(c.rope)}


def rules(c: ModelConfig) -> tuple[Rule, ...]:
    """OLMo-2's tensors."""
    return llama.llama_rules(c, "post_attention_layernorm", "post_feedforward_layernorm")
