"""Low-rank adapters of a model's projections: how they are trained, read and merged.

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

from amuro_jax.errors import ConfigError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params, flatten, logical_axes, unflatten

BLOCKS = {"query": "attention", "key": "attention", "value": "attention", "out": "attention"}
BLOCKS |= {"gate": "mlp", "up": "mlp", "down": "mlp"}
ADAPTER = ("lora_a", "lora_b")  # beside `kernel` in the parameter tree


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
                f"the rank of an adapter must be positive, got {self.rank}",
                where="config.recipe.lora_rank",
            )

    @property
    def scale(self) -> float:
        """Factor of the adapters' product."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def kernels(self, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Flat name → shape [layers, *in, *out] of each kernel that gets an adapter.

        Raises:
            ConfigError: a target that the model does not have or that is named twice, or a rank
                above the model's width, which no projection has.
        """
        if self.rank > config.hidden_size:
            raise ConfigError(
                f"an adapter of rank {self.rank} for a model of width {config.hidden_size}: no "
                "projection has a rank above its width",
                where="config.recipe.lora_rank",
                hint="8 to 64 are usual",
            )
        shapes = {name: leaf.shape for name, leaf in flatten(abstract_params(config)).items()}
        known = [n for n, block in BLOCKS.items() if f"layers/{block}/{n}/kernel" in shapes]
        for name in self.targets or ():
            if name not in known:
                raise ConfigError(
                    f"{config.family} has no projection {name!r}",
                    where="config.recipe.lora_targets",
                    hint="its projections are " + ", ".join(known),
                )
        if len(set(self.targets or ())) < len(self.targets or ()):
            raise ConfigError(
                "a projection is named twice: " + ", ".join(self.targets),
                where="config.recipe.lora_targets",
            )
        chosen = [f"layers/{BLOCKS[name]}/{name}/kernel" for name in self.targets or known]
        return {name: shapes[name] for name in chosen}

    def split(self, params: dict, config: ModelConfig, seed: int = 0) -> tuple[dict, dict]:
        """(adapters, params): A is drawn as in PEFT (uniform, bounded by fan_in ** -0.5), B is 0,
        so that the first step starts from the model itself.
        """
        trained = {}
        for name, shape in self.shapes(config).items():
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

    def abstract(self, config: ModelConfig) -> dict:
        """Shapes of the adapters."""
        shapes = self.shapes(config)
        return unflatten({n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()})

    def axes(self, config: ModelConfig) -> dict:
        """Logical axes of the adapters: those of their kernel, the rank on none."""
        kernels, axes_of_adapter = flatten(logical_axes(config)), {}
        for name, inputs in self.inputs(config).items():
            axes, lead = kernels[name], name.removesuffix("kernel")
            axes_of_adapter[lead + "lora_a"] = (*axes[: 1 + inputs], None)
            axes_of_adapter[lead + "lora_b"] = (axes[0], None, *axes[1 + inputs :])
        return unflatten(axes_of_adapter)

    def _scaled(self, trained):
        return {
            name: leaf * self.scale if name.endswith("lora_b") else leaf
            for name, leaf in flatten(trained).items()
        }

    def inputs(self, config: ModelConfig) -> dict[str, int]:
        """Kernel → its number of input axes: heads and head width come into `out`, width into the
        others.
        """
        return {name: 2 if "/out/" in name else 1 for name in self.kernels(config)}

    def shapes(self, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Flat name → shape of each leaf of the adapter."""
        kernels, shapes = self.kernels(config), {}
        for name, inputs in self.inputs(config).items():
            layers, *rest = kernels[name]
            lead = name.removesuffix("kernel")
            shapes[lead + "lora_a"] = (layers, *rest[:inputs], self.rank)
            shapes[lead + "lora_b"] = (layers, self.rank, *rest[inputs:])
        return shapes


def has_adapters(params: dict) -> bool:
    """Whether a parameter tree holds adapters beside its kernels (`Lora.join`)."""
    return any(name.endswith("/lora_a") for name in flatten(params))


def merged(params: dict) -> dict:
    """The tree without adapters that gives the same model: W + A B, the scale being in B, in fp32.
    A tree without adapters stays as it is.
    """
    flat = flatten(params)
    plain = {name: leaf for name, leaf in flat.items() if not name.endswith(ADAPTER)}
    for name in (name for name in flat if name.endswith("/lora_a")):
        kernel = name.replace("lora_a", "kernel")
        plain[kernel] = _merged(flat[kernel], flat[name], flat[name.replace("lora_a", "lora_b")])
    return unflatten(plain)


@jax.jit
def _merged(kernel, lora_a, lora_b):
    layers, rank = lora_b.shape[:2]
    product = jnp.einsum(
        "lir,lro->lio",
        lora_a.reshape(layers, -1, rank),
        lora_b.reshape(layers, rank, -1),
        precision=jax.lax.Precision.HIGHEST,
    )
    return (kernel + product.reshape(kernel.shape)).astype(kernel.dtype)
