"""Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`, read and
written without torch.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from amuro_jax import files
from amuro_jax.convert import families, safetensors, tensors
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.lora import BLOCKS, Lora
from amuro_jax.models.parameters import flatten, unflatten

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_NEEDED = ("r", "lora_alpha", "target_modules")
_PREFIX = "base_model.model."
# What changes an adapter's meaning and is not expressed here, with the value that is.
_PLAIN = {
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "layers_to_transform": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "lora_bias": False,
}


def write(folder, lora: Lora, trained: dict, config: ModelConfig, base_name: str = "") -> None:
    """Writes an adapter as PEFT's `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        base_name: what PEFT is to load as the base: a Hub name or a folder.

    Raises:
        CheckpointError: a projection that is a part of a fused one in HF's model.
    """
    values, modules = {}, set()
    for name, tensor in _peft_tensors(lora, config, folder).items():
        layer, leaf, inputs = tensor
        array = np.asarray(flatten(trained)[leaf])[layer]
        width = math.prod(array.shape[:inputs]) if leaf.endswith("lora_a") else lora.rank
        values[name] = np.ascontiguousarray(array.reshape(width, -1).T)
        modules.add(name.split(".")[-3])
    settings = _PLAIN | {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "use_rslora": lora.rank_stabilised,
        "lora_dropout": 0.0,
        "target_modules": sorted(modules),
    }
    with files.atomic_folder(folder) as scratch:
        files.write_json(scratch / CONFIG, settings)
        shapes = {name: (value.shape, value.dtype) for name, value in values.items()}
        safetensors.write(scratch / WEIGHTS, shapes, values.values())


def is_peft(folder) -> bool:
    """Whether a folder holds an adapter in PEFT's format."""
    return (epath.Path(folder) / CONFIG).exists()


def read_base_name(folder) -> str:
    """Hub name or folder of the model that a PEFT adapter says it belongs to; "" where it does not
    say.
    """
    return files.read_json(epath.Path(folder) / CONFIG).get("base_model_name_or_path") or ""


def read(folder, config: ModelConfig) -> tuple[Lora, dict]:
    """(settings, adapters) of a PEFT folder.

    Raises:
        CheckpointError: settings that are not expressed here, or tensors that are missing, unknown
            or of another shape than the model's.
    """
    folder = epath.Path(folder)
    settings = files.read_json(folder / CONFIG)
    for name, plain in ({"peft_type": "LORA"} | _PLAIN).items():
        if settings.get(name, plain) not in (plain, None, [], {}, False):
            raise CheckpointError(
                f"{name} is {settings[name]!r}; only {plain!r} can be read",
                where=folder / CONFIG,
            )
    if missing := [name for name in _NEEDED if settings.get(name) is None]:
        raise CheckpointError(f"{missing[0]} is missing", where=folder / CONFIG)
    lora = _lora_of(settings, config, folder)
    stored = safetensors.read_header(folder / WEIGHTS)
    expected, shapes = _peft_tensors(lora, config, folder), lora.shapes(config)
    if missing := sorted(set(expected) - set(stored)):
        raise CheckpointError(
            f"{len(missing)} tensors are missing, first {missing[0]}", where=folder
        )
    if extra := sorted(set(stored) - set(expected)):
        raise CheckpointError(f"{len(extra)} tensors are unknown, first {extra[0]}", where=folder)
    trained = {leaf: np.zeros(shape, np.float32) for leaf, shape in shapes.items()}
    for name, (layer, leaf, _) in expected.items():
        array, own = tensors.read(stored[name]).T.astype(np.float32), trained[leaf][layer]
        if array.size != own.size or lora.rank not in array.shape:
            raise CheckpointError(
                f"{name} has shape {array.T.shape}, the model's kernel needs {own.shape}",
                where=folder,
            )
        own[...] = array.reshape(own.shape)
    return lora, jax.tree.map(jnp.asarray, unflatten(trained))


def _lora_of(settings, config, where):
    """The settings of a PEFT adapter, with our names of its modules."""
    modules = {
        name: module for name, (module, is_complete) in _modules(config).items() if is_complete
    }
    named = {module.split(".")[-1]: name for name, module in modules.items()}
    modules_named = settings["target_modules"]
    if isinstance(modules_named, str) or (unknown := sorted(set(modules_named) - set(named))):
        raise CheckpointError(
            f"target_modules is {modules_named!r}; known are {', '.join(sorted(named))}",
            where=where,
            hint=None if isinstance(modules_named, str) else f"unknown: {unknown[0]}",
        )
    targets = tuple(name for name in BLOCKS if name in {named[module] for module in modules_named})
    return Lora(
        settings["r"], float(settings["lora_alpha"]), targets, bool(settings.get("use_rslora"))
    )


def _modules(config):
    """Our name of a projection → HF's module (`model.layers.{i}.self_attn.q_proj`), and whether it
    is the whole module, not a part of a fused one.
    """
    modules = {}
    for rule in families.get_family(config.family).rules(config):
        parts = rule.target.split("/")
        if parts[0] != "layers" or parts[-1] != "kernel" or parts[2] not in BLOCKS:
            continue
        letters = [letter for group in reversed(rule.groups) for letter in group]
        is_complete = rule.rows is None and rule.pick is None and letters == rule.letters
        modules[parts[2]] = rule.source.removesuffix(".weight"), is_complete
    return modules


def _peft_tensors(lora, config, where):
    """PEFT tensor name → (layer, leaf of our tree, input axes of its kernel)."""
    inputs = lora.inputs(config)
    targets = {name.split("/")[2]: name for name in inputs}
    modules, tensors = _modules(config), {}
    for target, kernel in targets.items():
        name, is_complete = modules[target]
        if not is_complete:
            raise CheckpointError(
                f"{target} is a part of {name} in HF's {config.family}: an adapter of it has no "
                "equal in PEFT",
                where=where,
                hint="merge the adapter and export the model: amuro export --to=hf",
            )
        for layer in range(config.num_layers):
            module = _PREFIX + name.format(i=layer)
            for part, leaf in (("lora_A", "lora_a"), ("lora_B", "lora_b")):
                own = kernel.replace("kernel", leaf)
                tensors[f"{module}.{part}.weight"] = (layer, own, inputs[kernel])
    return tensors
