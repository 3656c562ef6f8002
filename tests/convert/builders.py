"""Tiny random Hugging Face models, one entry per family and variant.

A new family is a new entry here.
"""

import copy
import functools

import pytest

torch = pytest.importorskip("torch", reason="reference models need torch")
transformers = pytest.importorskip("transformers", reason="reference models need transformers")

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 5e5,
}
LLAMA3["original_max_position_embeddings"] = 64
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 8.0,
    "beta_slow": 2.0,
    "rope_theta": 5e5,
}
SHARP = {
    "rope_theta": 1e4,
    "original_max_position_embeddings": 4096,
    "truncate": False,
    "attention_factor": 1.3,
}  # every field matters
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
OLMO3_ROPE = {
    "full_attention": YARN,
    "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
}

VARIANTS = {
    "olmo": ("Olmo", {"tie_word_embeddings": True}),
    "olmo-untied-gqa-clip": (
        "Olmo",
        {"tie_word_embeddings": False, "num_key_value_heads": 2, "clip_qkv": 0.05},
    ),
    "olmo-bias-linear": (
        "Olmo",
        {
            "attention_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        },
    ),
    "olmo2": ("Olmo2", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "olmo2-gqa": ("Olmo2", {"num_key_value_heads": 1, "rms_norm_eps": 1e-6}),
    "olmo3": ("Olmo3", {"sliding_window": 16, "num_hidden_layers": 5}),
    "olmo3-gqa-yarn": (
        "Olmo3",
        {
            "sliding_window": 24,
            "num_hidden_layers": 5,
            "num_key_value_heads": 2,
            "rope_parameters": OLMO3_ROPE,
        },
    ),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt_neox-serial-no-bias": (
        "GPTNeoX",
        {"use_parallel_residual": False, "attention_bias": False, "rope_parameters": PARTIAL},
    ),
    "llama": ("Llama", {}),
    "llama-gqa-llama3": ("Llama", {"num_key_value_heads": 2, "rope_parameters": LLAMA3}),
    "llama-bias-headdim-tied": (
        "Llama",
        {"attention_bias": True, "mlp_bias": True, "head_dim": 16, "tie_word_embeddings": True},
    ),
    "llama-swish": ("Llama", {"hidden_act": "swish"}),
    "gpt_neox-gelu-fast": ("GPTNeoX", {"hidden_act": "gelu_fast"}),
    "llama-yarn": ("Llama", {"head_dim": 16, "rope_parameters": {**YARN, **SHARP}}),
}


@functools.cache
def build(variant: str):
    """The torch model of a variant, fp32, every parameter random (biases and norms too, so that a
    wrong rule shows).
    """
    name, changes = VARIANTS[variant]
    values = {**SIZES, **changes}
    config = getattr(transformers, f"{name}Config")(**values)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data = 1 + noise if "norm" in name and name.endswith("weight") else noise
    return model


def save(variant: str, folder, dtype=torch.float32, **options):
    """Saves a variant as an HF folder and returns the folder."""
    model = build(variant)
    if dtype != torch.float32:
        model = copy.deepcopy(model).to(dtype)
    model.save_pretrained(str(folder), **options)
    return folder
