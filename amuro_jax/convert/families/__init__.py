"""The families this decoder covers: per family, HF config both ways, rules, and buffers that hold
no parameter.
"""

import dataclasses

from amuro_jax.convert.bounds import short
from amuro_jax.convert.families import gpt_neox, llama, olmo, olmo2, olmo3
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig

FAMILIES = {"olmo": olmo, "olmo2": olmo2, "olmo3": olmo3, "gpt_neox": gpt_neox, "llama": llama}


def get_family(name: str):
    """The module of a family, by its HF `model_type`.

    Raises:
        CheckpointError: an architecture that is not covered.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise CheckpointError(
            f"unknown architecture {short(name)}",
            where="config.json: model_type",
            hint="covered: " + ", ".join(FAMILIES),
        )
    return FAMILIES[name]


def config_from_hf(hf: dict, generation: dict | None = None) -> ModelConfig:
    """ModelConfig of an HF config.json, with the eos ids that `generation` (generation_config.json)
    adds to its own.

    Raises:
        CheckpointError: an unknown architecture, or settings that the decoder does not have.
    """
    if quantised := hf.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise CheckpointError(
            f"quantised weights ({short(method)}) are not converted",
            where="config.json: quantization_config",
        )
    config = get_family(hf.get("model_type")).read_config(hf)
    more = llama.read_eos_ids(generation or {})
    return dataclasses.replace(config, eos_ids=tuple(dict.fromkeys(config.eos_ids + more)))


def config_to_hf(config: ModelConfig) -> dict:
    """HF config.json of a ModelConfig.

    Raises:
        CheckpointError: HF's architecture of that name cannot express the configuration.
    """
    hf = get_family(config.family).write_config(config)
    if (back := config_from_hf(hf)) != config:
        mine, theirs = config.to_json(), back.to_json()
        name = next(name for name in mine if mine[name] != theirs[name])
        raise CheckpointError(
            f"HF's {config.family} architecture cannot express {name} = {mine[name]!r} "
            f"(it has {theirs[name]!r})",
            where="model.json",
        )
    return hf
