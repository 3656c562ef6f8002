"""OLMo (1B, 7B, 0424, 0724 in the HF naming): LayerNorm without parameters, SwiGLU, optional
clipping of q, k and v.
"""

from amuro_jax.convert.families import llama
from amuro_jax.convert.families.rope import read_rope, write_rope
from amuro_jax.convert.rules import Rule
from amuro_jax.models.config import ModelConfig

IGNORED = llama.IGNORED


def read_config(hf: dict) -> ModelConfig:
    """HF config → ModelConfig."""
    bias = bool(hf.get("attention_bias", False))
    return ModelConfig(
        family="olmo",
        **llama.shape_fields(hf),
        **llama.special_ids(hf),
        norm="layernorm",
        norm_eps=1e-5,  # fixed in the HF code
        clip_qkv=None if hf.get("clip_qkv") is None else float(hf["clip_qkv"]),
        attention_bias=bias,
        attention_out_bias=bias,
        activation=llama.read_activation(hf),
        rope=read_rope(hf),
        tie_embeddings=bool(hf.get("tie_word_embeddings", False)),
    )


def write_config(c: ModelConfig) -> dict:
    """ModelConfig → HF config."""
    head = {"model_type": "olmo", "architectures": ["OlmoForCausalLM"]}
    return {**head, **llama.write_shapes(c), "clip_qkv": c.clip_qkv, **write_rope(c.rope)}


def rules(c: ModelConfig) -> tuple[Rule, ...]:
    """OLMo's tensors: Llama's names, no norm has a parameter."""
    return llama.llama_rules(c, "input_layernorm", "post_attention_layernorm")
