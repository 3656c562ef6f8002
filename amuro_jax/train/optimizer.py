"""AdamW and the study's schedule: linear warm-up, then linear decay to zero (paper, "Models")."""

import dataclasses
import math

import jax
import optax


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What shapes the update besides the learning rate, which is an argument of each step.

    Hashable: a key of compiled steps.

    Attributes:
        moment_dtype: of the first moment; None: float32. The second stays float32: it moves by a
            thousandth of itself a step, which bfloat16 rounds away.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    moment_dtype: str | None = None

    def transform(self) -> optax.GradientTransformation:
        """Gradient → descent direction before the learning rate: clip by global norm, Adam,
        decoupled weight decay on matrices.
        """
        parts = [optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm else []
        parts.append(optax.scale_by_adam(self.b1, self.b2, self.eps, mu_dtype=self.moment_dtype))
        if self.weight_decay:
            parts.append(optax.add_decayed_weights(self.weight_decay, mask=_matrices))
        return optax.chain(*parts)


def _matrices(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def warmup_steps(total: int, fraction: float, rounded_down: bool = False) -> int:
    """Steps of warm-up: `total` × `fraction`, rounded up as transformers does.

    Args:
        rounded_down: as the study's released trainer does (67 of 2,250 steps at 3 %, not 68).
    """
    exact = round(total * fraction, 6)  # 100 × 0.07 is 7.000000000000001
    return math.floor(exact) if rounded_down else math.ceil(exact)


def linear_schedule(peak: float, total: int, warmup: int):
    """step (from 0) → learning rate: rises over `warmup` steps, then falls linearly to zero at step
    `total` (transformers' `linear`).
    """

    def rate(step: int) -> float:
        if step < warmup:
            return peak * step / max(1, warmup)
        return peak * max(0.0, (total - step) / max(1, total - warmup))

    return rate
