"""A checkpoint folder as it came, opened: its configuration, its rules, and where each tensor lies.

Reads no weights.
"""

import dataclasses
from pathlib import Path

import numpy as np
import yaml

from amuro_jax import files
from amuro_jax.convert import containers, families, rules, tensors
from amuro_jax.convert.bounds import MAX_CONFIG, check_size
from amuro_jax.convert.families import native_olmo
from amuro_jax.convert.tensors import FLOATS, StoredTensor
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class CheckpointSource:
    """An opened checkpoint folder.

    Attributes:
        form: hf | native_olmo | hf_olmo.
        expected: source tensor name → its shape and the rules that read it, in reading order.
        table: the same names → where they lie.
    """

    folder: Path
    form: str
    config: ModelConfig
    rules: tuple[rules.Rule, ...]
    expected: dict[str, rules.Tensor]
    table: dict[str, StoredTensor]


def identify(folder) -> tuple[str, ModelConfig]:
    """(form, ModelConfig) of a folder, from its config.json or config.yaml alone.

    Raises:
        CheckpointError: neither is there, or an architecture that is not covered.
    """
    folder = Path(folder)
    if (folder / "config.json").is_file():
        check_size(folder / "config.json", MAX_CONFIG)
        hf = files.read_json(folder / "config.json")
        if not isinstance(hf, dict):
            raise CheckpointError(
                f"expected a JSON object, got {type(hf).__name__}", where=folder / "config.json"
            )
        if hf.get("model_type") in ("hf_olmo", "olmo") and "d_model" in hf:
            return "hf_olmo", _located(folder / "config.json", lambda: native_olmo.read_config(hf))
        return "hf", _located(
            folder / "config.json",
            lambda: families.config_from_hf(hf, read_generation_config(folder)),
        )
    if (folder / "config.yaml").is_file():
        values = _read_yaml(folder / "config.yaml")
        return "native_olmo", _located(
            folder / "config.yaml", lambda: native_olmo.read_config(values)
        )
    raise CheckpointError("not a checkpoint: neither config.json nor config.yaml", where=folder)


def read_generation_config(folder) -> dict:
    """generation_config.json of a folder; empty where there is none.

    Raises:
        CheckpointError: it is no JSON object.
    """
    path = Path(folder) / "generation_config.json"
    if not path.is_file():
        return {}
    check_size(path, MAX_CONFIG)
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"expected a JSON object, got {type(values).__name__}", where=path)
    return values


def _located(path, action):
    try:
        return action()
    except CheckpointError as error:
        raise CheckpointError(
            error.what, where=f"{path.parent}/{error.where}", hint=error.hint
        ) from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(
            f"a field has a value of the wrong kind: {str(error)[:300]}", where=path
        ) from error


class _ConfigLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without merge keys: merges of merges grow exponentially, and no OLMo file has any."""

    def flatten_mapping(self, node):
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merge keys (<<) are not read")


def _read_yaml(path):
    check_size(path, MAX_CONFIG)
    try:
        values = yaml.load(path.read_text(), Loader=_ConfigLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"not valid YAML: {str(error)[:300]}", where=path) from error
    model = values.get("model", values) if isinstance(values, dict) else None
    if not isinstance(model, dict) or "d_model" not in model:
        raise CheckpointError("no `model` block with d_model", where=path)
    return model


def open_source(folder) -> CheckpointSource:
    """Opens a checkpoint folder and checks that its tensors are exactly those of its model.

    Raises:
        CheckpointError: see `identify`, `containers.read_table`, `rules.check_table`; a dtype that
            is no float of 16 or 32 bits.
    """
    folder = Path(folder)
    form, config = identify(folder)
    table = containers.read_table(folder)
    table_rules, ignored = _rules(form, config)
    table = _aliases(form, config, table)
    table = _without_tied_copy(form, config, table, folder)
    expected = rules.expected_tensors(table_rules, config)
    checked = rules.check_table(table, expected, ignored, where=folder)
    for tensor in checked.values():
        if tensor.dtype not in FLOATS:
            raise CheckpointError(
                f"{tensor.name} is stored as {tensor.dtype.name}; converted are float32, float16 "
                "and bfloat16",
                where=tensor.path,
            )
    return CheckpointSource(
        folder, form, config, table_rules, expected, {name: checked[name] for name in expected}
    )


def _rules(form, config):
    if form == "hf":
        family = families.get_family(config.family)
        return family.rules(config), family.IGNORED
    return native_olmo.rules(config, "model." if form == "hf_olmo" else ""), native_olmo.IGNORED


def _aliases(form, config, table):
    """Other names under which transformers has written the same tensor."""
    names = getattr(families.get_family(config.family), "ALIASES", {}) if form == "hf" else {}
    return {
        names[name] if name in names and names[name] not in table else name: tensor
        for name, tensor in table.items()
    }


def _without_tied_copy(form, config, table, folder):
    """Drops an unembedding that repeats the tied embedding.

    Raises:
        CheckpointError: the configuration ties them, the tensors differ.
    """
    if not config.tie_embeddings:
        return table
    untied, _ = _rules(form, dataclasses.replace(config, tie_embeddings=False))
    names = {rule.target: rule.source for rule in untied}
    embed, unembed = table.get(names["embed/embedding"]), table.get(names["unembed/kernel"])
    if unembed is None or embed is None:
        return table
    if not _same(embed, unembed):
        what = (
            f"the configuration ties the embeddings, but {unembed.name} differs from {embed.name}"
        )
        raise CheckpointError(
            what,
            where=folder,
            hint="one of config.json: tie_word_embeddings and the weights is wrong",
        )
    return {name: tensor for name, tensor in table.items() if name != names["unembed/kernel"]}


def _same(a, b, rows: int = 4096):
    if (a.path, a.offset, a.strides) == (b.path, b.offset, b.strides) and a.shape == b.shape:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    blocks = ((start, min(start + rows, a.shape[0])) for start in range(0, a.shape[0], rows))
    return all(
        np.array_equal(
            tensors.read(a, *block).view(np.uint8), tensors.read(b, *block).view(np.uint8)
        )
        for block in blocks
    )
