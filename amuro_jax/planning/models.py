"""The shape of a model by the name of its checkpoint, without its weights."""

from amuro_jax import checkpoint
from amuro_jax.convert import resolver, source
from amuro_jax.convert.families import config_from_hf
from amuro_jax.errors import CheckpointError, ConfigError
from amuro_jax.models.config import ModelConfig

_LLAMA3 = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 5e5}
_OLMO = {"model_type": "olmo", "hidden_act": "silu", "rope_theta": 1e4, "clip_qkv": None}
# config.json of models that are planned before anything is downloaded (their model cards).
_HF = {
    "allenai/OLMo-1B-hf": _OLMO
    | {
        "vocab_size": 50304,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "eos_token_id": 50279,
    },
    "meta-llama/Meta-Llama-3-8B": _LLAMA3
    | {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "eos_token_id": 128001,
    },
}
_HF |= {
    "EleutherAI/pythia-160m": {
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "vocab_size": 50304,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
        "eos_token_id": 0,
    },
    "allenai/OLMo-2-0425-1B": {
        "model_type": "olmo2",
        "hidden_act": "silu",
        "vocab_size": 100352,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5e5,
        "tie_word_embeddings": False,
        "eos_token_id": 100257,
    },
}
SAME = {"allenai/OLMo-1B": "allenai/OLMo-1B-hf"}


def model_config(name: str) -> ModelConfig:
    """The configuration of a checkpoint, or of the first one in a folder of them.

    Raises:
        ConfigError: a Hub name that is neither in the table nor converted already.
        CheckpointError: a folder that holds no model.
    """
    base, _ = resolver.split_name(name)
    if (known := _HF.get(SAME.get(base, base))) is not None:
        return config_from_hf(known)
    folder = resolver.find_folder(name)
    if folder is None:
        raise ConfigError(
            "the shape of this model is not known here",
            where=name,
            hint="give its folder (with config.json), or one of " + ", ".join([*_HF, *SAME]),
        )
    if resolver.is_converted(folder):
        return checkpoint.read_config(folder)
    try:
        return source.identify(folder)[1]
    except CheckpointError:
        for member in sorted(folder.iterdir()):
            if resolver.is_converted(member):
                return checkpoint.read_config(member)
            if (member / "config.json").is_file() or (member / "config.yaml").is_file():
                return source.identify(member)[1]
        raise
