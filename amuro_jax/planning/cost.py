"""The time that a chip needs at least for so many FLOPs (models/cost.py) and bytes. No jax."""

import dataclasses

from amuro_jax.chips import Chip

AGAIN = {"none": 0.0, "dots": 0.05, "offload": 0.05, "full": 1.0}  # forward passes


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """The share of a datasheet's figure that is assumed to be reached. Assumptions, not measured.

    Attributes:
        products: of peak FLOP/s, in matrix products of training. MaxText publishes 55 to 70 % of
            peak for dense models of 1 to 100 B parameters on v5e and v5p.
        memory: of the memory's bandwidth.
        links: of the interconnect's.
    """

    products: float = 0.55
    memory: float = 0.8
    links: float = 0.7


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step, each part by itself; the step takes as long as the longest of them.

    Attributes:
        products: arithmetic at the assumed efficiency.
        memory: bytes read from and written to a chip's memory.
        links: bytes sent to other chips.
    """

    products: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """Parts overlap completely: no step is faster than this at these efficiencies."""
        return max(self.products, self.memory, self.links)

    @property
    def bound(self) -> str:
        """The longest part."""
        parts = dataclasses.asdict(self)
        return max(parts, key=parts.get)


def roofline(
    chip: Chip, flops: float, read: float, sent: float, efficiency: Efficiency = Efficiency()
) -> Roofline:
    """Of one chip's share: `flops`, bytes `read` (and written) in memory and `sent` to others."""
    return Roofline(
        flops / (chip.flops * efficiency.products),
        read / (chip.bandwidth * efficiency.memory),
        sent / (chip.links * efficiency.links) if sent else 0.0,
    )
