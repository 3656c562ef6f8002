"""Low-rank adapters: trained beside frozen parameters, saved apart, merged exactly, and exchanged
with PEFT.

An adapter of a kernel W [in, out] is A [in, rank] and B [rank, out]; the model computes
x W + scale · (x A) B. In the parameter tree they are `lora_a` and `lora_b` beside `kernel`, so that
training and scoring read a model with an adapter as they read one without.
Source: Hu et al. 2021, arXiv 2106.09685; rank-stabilised scale: arXiv 2312.03732.
"""

import dataclasses
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from amuro_jax import checkpoint, files
from amuro_jax.convert import families, safetensors, tensors
from amuro_jax.errors import CheckpointError, ConfigError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params, flatten, logical_axes, unflatten

BLOCKS = {"query": "attention", "key": "attention", "value": "attention", "out": "attention"}
BLOCKS |= {"gate": "mlp", "up": "mlp", "down": "mlp"}
_PEFT_PREFIX = "base_model.model."
# What changes an adapter's meaning and is not expressed here, with the value that is.
_PEFT_PLAIN = {
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "layers_to_transform": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "lora_bias": False,
}


@dataclasses.dataclass(frozen=True)
class Lora:
    """A `Trainable`: adapters of some projections in every layer.

    Attributes:
        rank: columns of A.
        alpha: the scale is alpha / rank.
        targets: names of projections (BLOCKS); None: all that the model has.
        rank_stabilised: the scale is alpha / sqrt(rank).
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | None = None
    rank_stabilised: bool = False

    has_frozen = True

    def __post_init__(self):
        if self.rank < 1:
            raise ConfigError(
                f"the rank of an adapter must be positive, got {self.rank}", where="lora_rank"
            )

    @property
    def scale(self) -> float:
        """Factor of the adapters' product."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def kernels(self, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Flat name → shape [layers, *in, *out] of each kernel that gets an adapter.

        Raises:
            ConfigError: a target that the model does not have.
        """
        shapes = {name: leaf.shape for name, leaf in flatten(abstract_params(config)).items()}
        known = [n for n, block in BLOCKS.items() if f"layers/{block}/{n}/kernel" in shapes]
        for name in self.targets or ():
            if name not in known:
                raise ConfigError(
                    f"{config.family} has no projection {name!r}",
                    where="lora_targets",
                    hint="its projections are " + ", ".join(known),
                )
        chosen = [f"layers/{BLOCKS[name]}/{name}/kernel" for name in self.targets or known]
        return {name: shapes[name] for name in chosen}

    def split(self, params: dict, config: ModelConfig, seed: int = 0) -> tuple[dict, dict]:
        """(adapters, params): A is drawn as in PEFT (uniform, bounded by fan_in ** -0.5), B is 0,
        so that the first step starts from the model itself.
        """
        trained = {}
        for name, shape in self._shapes(config).items():
            if name.endswith("lora_b"):
                trained[name] = jnp.zeros(shape, jnp.float32)
                continue
            bound = math.prod(shape[1:-1]) ** -0.5
            key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
            trained[name] = jax.random.uniform(key, shape, jnp.float32, -bound, bound)
        return unflatten(trained), params

    def join(self, trained: dict, frozen: dict) -> dict:
        """The frozen tree with the adapters in it, their scale in `lora_b`."""
        return unflatten(flatten(frozen) | self._scaled(trained))

    def merge(self, trained: dict, frozen: dict) -> dict:
        """The tree without adapters that gives the same model: W + scale · A B, in fp32."""
        adapters, merged = self._scaled(trained), dict(flatten(frozen))
        for name in (name for name in adapters if name.endswith("lora_a")):
            kernel = name.replace("lora_a", "kernel")
            merged[kernel] = _merged(
                merged[kernel], adapters[name], adapters[name.replace("lora_a", "lora_b")]
            )
        return unflatten(merged)

    def abstract(self, config: ModelConfig) -> dict:
        """Shapes of the adapters."""
        shapes = self._shapes(config)
        return unflatten({n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()})

    def axes(self, config: ModelConfig) -> dict:
        """Logical axes of the adapters: those of their kernel, the rank on none."""
        kernels, found = flatten(logical_axes(config)), {}
        for name, inputs in self._inputs(config).items():
            axes, lead = kernels[name], name.removesuffix("kernel")
            found[lead + "lora_a"] = (*axes[: 1 + inputs], None)
            found[lead + "lora_b"] = (axes[0], None, *axes[1 + inputs :])
        return unflatten(found)

    def _scaled(self, trained):
        return {
            name: leaf * self.scale if name.endswith("lora_b") else leaf
            for name, leaf in flatten(trained).items()
        }

    def _inputs(self, config):
        """Kernel → its number of input axes: heads and head width come into `out`, width into the
        others.
        """
        return {name: 2 if "/out/" in name else 1 for name in self.kernels(config)}

    def _shapes(self, config):
        kernels, shapes = self.kernels(config), {}
        for name, inputs in self._inputs(config).items():
            layers, *rest = kernels[name]
            lead = name.removesuffix("kernel")
            shapes[lead + "lora_a"] = (layers, *rest[:inputs], self.rank)
            shapes[lead + "lora_b"] = (layers, self.rank, *rest[inputs:])
        return shapes


@jax.jit
def _merged(kernel, lora_a, lora_b):
    layers, rank = lora_b.shape[:2]
    product = jnp.einsum(
        "lir,lro->lio",
        lora_a.reshape(layers, -1, rank),
        lora_b.reshape(layers, rank, -1),
        precision=jax.lax.Precision.HIGHEST,
    )
    return kernel + product.reshape(kernel.shape).astype(kernel.dtype)


def save_adapter(folder, lora: Lora, trained: dict, base: str, provenance: dict) -> None:
    """Writes an adapter folder: `adapter.json`, `params/`, `provenance.json`.

    Args:
        base: identity of the model that it was trained beside.
    """
    with files.atomic_folder(folder) as scratch:
        checkpoint.save_tree(scratch / "params", trained)
        files.write_json(scratch / "adapter.json", dataclasses.asdict(lora) | {"base": base})
        files.write_json(scratch / "provenance.json", provenance)


def load_adapter(folder, config: ModelConfig, base: str) -> tuple[Lora, dict]:
    """(settings, adapters) of an adapter folder.

    Raises:
        CheckpointError: no adapter, one of another model than `base`, or of other shapes.
    """
    path = epath.Path(folder) / "adapter.json"
    if not path.exists():
        raise CheckpointError("not an adapter: adapter.json is missing", where=folder)
    settings = files.read_json(path)
    if settings["base"] != base:
        raise CheckpointError(
            f"the adapter belongs to the model {settings['base']}, this model is {base}",
            where=folder,
        )
    targets = settings["targets"] and tuple(settings["targets"])
    lora = Lora(settings["rank"], settings["alpha"], targets, settings["rank_stabilised"])
    stored = checkpoint.stored_tree(epath.Path(folder) / "params")
    target = lora.abstract(config)
    _check_shapes(flatten(stored), flatten(target), folder)
    return lora, checkpoint.restore_tree(epath.Path(folder) / "params", target)


def _check_shapes(found, wanted, where):
    for name in sorted(set(found) | set(wanted)):
        theirs = tuple(found[name].shape) if name in found else "nothing"
        mine = tuple(wanted[name].shape) if name in wanted else "nothing"
        if theirs != mine:
            raise CheckpointError(f"{name}: stored {theirs}, the model wants {mine}", where=where)


def export_peft(
    folder, lora: Lora, trained: dict, config: ModelConfig, base_name: str = ""
) -> None:
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
    settings = _PEFT_PLAIN | {
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
        files.write_json(scratch / "adapter_config.json", settings)
        shapes = {name: (value.shape, value.dtype) for name, value in values.items()}
        safetensors.write(scratch / "adapter_model.safetensors", shapes, values.values())


def import_peft(folder, config: ModelConfig) -> tuple[Lora, dict]:
    """(settings, adapters) of a PEFT folder.

    Raises:
        CheckpointError: settings that are not expressed here, or tensors that are missing, unknown
            or of another shape than the model's.
    """
    folder = epath.Path(folder)
    settings = files.read_json(folder / "adapter_config.json")
    for name, plain in ({"peft_type": "LORA"} | _PEFT_PLAIN).items():
        if settings.get(name, plain) not in (plain, None, [], {}, False):
            raise CheckpointError(
                f"{name} is {settings[name]!r}; only {plain!r} can be read",
                where=folder / "adapter_config.json",
            )
    lora = _lora_of(settings, config, folder)
    found = safetensors.read_header(folder / "adapter_model.safetensors")
    wanted, shapes = _peft_tensors(lora, config, folder), lora._shapes(config)
    if missing := sorted(set(wanted) - set(found)):
        raise CheckpointError(
            f"{len(missing)} tensors are missing, first {missing[0]}", where=folder
        )
    if extra := sorted(set(found) - set(wanted)):
        raise CheckpointError(f"{len(extra)} tensors are unknown, first {extra[0]}", where=folder)
    trained = {leaf: np.zeros(shape, np.float32) for leaf, shape in shapes.items()}
    for name, (layer, leaf, _) in wanted.items():
        array, own = tensors.read(found[name]).T.astype(np.float32), trained[leaf][layer]
        if array.size != own.size or lora.rank not in array.shape:
            raise CheckpointError(
                f"{name} has shape {array.T.shape}, the model's kernel needs {own.shape}",
                where=folder,
            )
        own[...] = array.reshape(own.shape)
    return lora, jax.tree.map(jnp.asarray, unflatten(trained))


def _lora_of(settings, config, where):
    """The settings of a PEFT adapter, with our names of its modules."""
    named = {
        module.split(".")[-1]: name for name, module in _modules(config, BLOCKS, where).items()
    }
    given = settings["target_modules"]
    if isinstance(given, str) or (unknown := sorted(set(given) - set(named))):
        raise CheckpointError(
            f"target_modules is {given!r}; known are {', '.join(sorted(named))}",
            where=where,
            hint=None if isinstance(given, str) else f"unknown: {unknown[0]}",
        )
    targets = tuple(name for name in BLOCKS if name in {named[module] for module in given})
    return Lora(
        settings["r"], float(settings["lora_alpha"]), targets, bool(settings.get("use_rslora"))
    )


def _modules(config, targets, where):
    """Our name of a projection → HF's module (`model.layers.{i}.self_attn.q_proj`)."""
    found = {}
    for rule in families.get_family(config.family).rules(config):
        parts = rule.target.split("/")
        if parts[0] != "layers" or parts[-1] != "kernel" or parts[2] not in targets:
            continue
        letters = [letter for group in reversed(rule.groups) for letter in group]
        if rule.rows is not None or rule.pick is not None or letters != rule.letters:
            raise CheckpointError(
                f"{parts[2]} is a part of {rule.source} in HF's {config.family}: an adapter of it "
                "has no equal in PEFT",
                where=where,
                hint="merge the adapter and export the model",
            )
        found[parts[2]] = rule.source.removesuffix(".weight")
    return found


def _peft_tensors(lora, config, where):
    """PEFT tensor name → (layer, leaf of our tree, input axes of its kernel)."""
    inputs = lora._inputs(config)
    targets = {name.split("/")[2]: name for name in inputs}
    modules, found = _modules(config, targets, where), {}
    for target, kernel in targets.items():
        for layer in range(config.num_layers):
            module = _PEFT_PREFIX + modules[target].format(i=layer)
            for part, leaf in (("lora_A", "lora_a"), ("lora_B", "lora_b")):
                name = kernel.replace("kernel", leaf)
                found[f"{module}.{part}.weight"] = (layer, name, inputs[kernel])
    return found
