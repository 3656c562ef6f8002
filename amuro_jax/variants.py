"""How models are called that are made of others without a training: averages of the last
checkpoints of a series, averages of fine-tuned models over seeds, and checkpoints with noise on
their weights. No jax.

A model's `variant` (`records.ModelRef`) is what the store and its tables tell it by. Names are
written and read here alone.
"""

import dataclasses
import re

AVERAGE = "average of"


@dataclasses.dataclass(frozen=True)
class Noise:
    """Gaussian noise on the weights of a model.

    Attributes:
        sigma: standard deviation, in units of each matrix's root mean square.
        seed: of the noise.
    """

    sigma: float
    seed: int

    @property
    def variant(self) -> str:
        """`noise 0.02 seed 0`."""
        return f"noise {self.sigma:g} seed {self.seed}"


def noise_of(variant: str) -> Noise | None:
    """The noise that a variant names; None: it is of another kind."""
    match = re.fullmatch(r"noise (\S+) seed (\d+)", variant)
    return Noise(float(match[1]), int(match[2])) if match else None


def average_variant(count: int, variant: str = "") -> str:
    """`average of 4`, of models that are tuned as `variant` with that before it."""
    average = f"{AVERAGE} {count}"
    return f"{variant}, {average}" if variant else average


def average_of(variant: str) -> int | None:
    """Of how many checkpoints a model is the average, or starts from it; None: it is of one."""
    match = re.search(rf"(?:^|, ){AVERAGE} (\d+)$", variant)
    return int(match[1]) if match else None


def seeds_variant(count: int, variant: str = "") -> str:
    """`average of 3 seeds`: of the models that one checkpoint becomes under several seeds."""
    return f"{average_variant(count, variant)} seeds"


def seeds_of(variant: str) -> int | None:
    """Of how many seeds' models a model is the average; None: it is of one training."""
    match = re.search(rf"(?:^|, ){AVERAGE} (\d+) seeds$", variant)
    return int(match[1]) if match else None


def without_average(variant: str) -> str:
    """The variant of the model that starts from one checkpoint, with one seed."""
    return re.sub(rf"(?:^|, ){AVERAGE} \d+( seeds)?$", "", variant)


def is_derived(variant: str) -> bool:
    """Whether a name is one of those that are made here."""
    return noise_of(variant) is not None or without_average(variant) != variant
