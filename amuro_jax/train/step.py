"""One jitted optimiser step: gradients summed over micro-batches, divided once, clipped, applied.

State donated.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import optax

from amuro_jax import sharding
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params, logical_axes
from amuro_jax.train.loss import loss_sums
from amuro_jax.train.optimizer import Optimizer


@flax.struct.dataclass
class State:
    """What a step reads and writes: step count (int32 scalar), parameters (fp32), optimiser state."""

    step: jnp.ndarray
    params: dict
    opt_state: tuple


class Step:
    """The compiled step of one (model, optimiser, dtype, remat, micro-batches, mesh); made by
    `make_step`.

    Attributes:
        traces: how often the step was traced: once per batch shape.
        state_shardings: tree of shardings of a `State`, None without a mesh.
    """

    def __init__(
        self,
        config: ModelConfig,
        optimizer: Optimizer,
        dtype: str,
        remat: str,
        micro_batches: int,
        mesh,
    ):
        self.config, self.optimizer, self.mesh, self.traces = config, optimizer, mesh, 0
        self._loss = functools.partial(
            loss_sums, config=config, dtype=jnp.dtype(dtype), remat=remat
        )
        self._micro_batches = micro_batches
        self.transform = optimizer.transform()
        self.state_shardings = None if mesh is None else self._shardings()
        out = None if mesh is None else (self.state_shardings, sharding.replicated(mesh))
        self.jitted = jax.jit(self._update, donate_argnums=0, out_shardings=out)
        self._start = jax.jit(self._first_state, out_shardings=self.state_shardings)

    def init(self, params: dict) -> State:
        """A state at step 0. `params` are copied, since the step donates its state."""
        return self._start(params)

    def _first_state(self, params):
        return State(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params), self.transform.init(params)
        )

    def abstract_state(self) -> State:
        """Shapes and dtypes of a state, what a restore asks for."""
        params = abstract_params(self.config)
        return State(
            jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(self.transform.init, params)
        )

    def __call__(self, state: State, batch: dict, learning_rate: float) -> tuple[State, dict]:
        """One update; `batch` holds the arrays of `train.batches.Batch`.

        Metrics are scalars still on the device.
        """
        if self.mesh is not None:
            batch = {
                name: jax.device_put(array, sharding.batch_sharding(self.mesh, array.ndim))
                for name, array in batch.items()
            }
            with jax.set_mesh(self.mesh):
                return self.jitted(state, batch, jnp.float32(learning_rate))
        return self.jitted(state, batch, jnp.float32(learning_rate))

    def _shardings(self):
        abstract = self.abstract_state()
        params = sharding.shardings(logical_axes(self.config), abstract.params, self.mesh)
        whole = sharding.replicated(self.mesh)
        moments = optax.tree_utils.tree_map_params(
            self.transform,
            lambda _, placed: placed,
            abstract.opt_state,
            params,
            transform_non_params=lambda _: whole,
        )
        return State(whole, params, moments)

    def _update(self, state: State, batch, learning_rate):
        self.traces += 1
        gradients, loss, weight, hits = self._gradients(state.params, batch)
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        updates, opt_state = self.transform.update(gradients, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, updates)
        metrics = {
            "loss": loss / weight,
            "accuracy": hits / weight,
            "grad_norm": optax.tree.norm(gradients),
            "weight": weight,
        }
        return State(state.step + 1, params, opt_state), metrics

    def _gradients(self, params, batch):
        """Sums over the whole batch, so that micro-batches of unequal weight count as one batch
        would.
        """
        value_and_grad = jax.value_and_grad(self._loss, has_aux=True)
        if self._micro_batches == 1:
            (loss, (weight, hits)), gradients = value_and_grad(params, batch)
            return gradients, loss, weight, hits

        def add(total, micro):
            (loss, (weight, hits)), gradients = value_and_grad(params, micro)
            return jax.tree.map(jnp.add, total, (gradients, loss, weight, hits)), None

        zero = (jax.tree.map(jnp.zeros_like, params), *(jnp.zeros((), jnp.float32),) * 3)
        total, _ = jax.lax.scan(add, zero, jax.tree.map(self._split, batch))
        return total

    def _split(self, array):
        """[B, …] → [M, B / M, …], rows dealt round-robin so that each micro-batch is spread over
        all shards of the batch.
        """
        return jnp.moveaxis(array.reshape(-1, self._micro_batches, *array.shape[1:]), 1, 0)


@functools.lru_cache(maxsize=32)
def make_step(
    config: ModelConfig,
    optimizer: Optimizer,
    dtype: str = "float32",
    remat: str = "none",
    micro_batches: int = 1,
    mesh=None,
) -> Step:
    """The one `Step` of these arguments: all checkpoints and recipes of a study share it."""
    return Step(config, optimizer, dtype, remat, micro_batches, mesh)
