"""One jitted optimiser step: gradients summed over micro-batches, divided once, clipped, applied.

State donated.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from amuro_jax import processes, sharding
from amuro_jax.devices import compiler_options
from amuro_jax.errors import ConfigError
from amuro_jax.models.attention import Backend, best_backend
from amuro_jax.models.config import ModelConfig
from amuro_jax.train.batches import Part
from amuro_jax.train.compute import Compute, has_loop
from amuro_jax.train.objective import LanguageModelling, Objective
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.trainable import AllParameters, Trainable


@flax.struct.dataclass
class State:
    """What a step reads and writes: step count (int32 scalar), trained parameters (fp32), optimiser
    state.
    """

    step: jnp.ndarray
    params: dict
    opt_state: tuple


class Step:
    """The compiled step of one (model, optimiser, dtype, remat, micro-batches, mesh, objective,
    trainable); made by `make_step`.

    Attributes:
        traces: how often the step was traced: once per batch shape.
        state_shardings: tree of shardings of a `State`, None without a mesh.
        row_multiple: the rows of a batch are a multiple of it (micro-batches × shards).
        rate_shape: of the learning rates that a call takes.
    """

    rate_shape = ()

    def __init__(
        self,
        config: ModelConfig,
        optimizer: Optimizer,
        dtype: str = "float32",
        remat: str = "none",
        micro_batches: int = 1,
        mesh=None,
        objective: Objective = LanguageModelling(),
        trainable: Trainable = AllParameters(),
        attention: Backend | None = None,
    ):
        """
        Args:
            attention: None: the best of the platform.

        Raises:
            ConfigError: `offload` on a CPU.
        """
        self.config, self.optimizer, self.mesh, self.traces = config, optimizer, mesh, 0
        self.objective, self.trainable, self.micro_batches = objective, trainable, micro_batches
        device = (jax.devices() if mesh is None else list(mesh.devices.flat))[0]
        platform = device.platform
        if remat == "offload" and platform == "cpu":
            raise ConfigError(
                "a CPU has no host memory beside its own to keep activations in",
                where="remat=offload",
                hint="use none, dots or full",
            )
        attention = attention or best_backend(platform, dtype, mesh, gradient=True)
        loop = has_loop(config, platform, str(remat))
        together = platform == "cpu" and (mesh is None or mesh.size == 1)
        self.compute = Compute(str(dtype), str(remat), attention, loop, together)
        shards = sharding.batch_divisor(mesh) if mesh is not None else 1
        self.row_multiple = micro_batches * shards
        self.transform = optimizer.transform()
        self.state_shardings = None if mesh is None else self._shardings()
        out = None if mesh is None else (self.state_shardings, sharding.replicated(mesh))
        self.options = compiler_options(device)
        self.jitted = jax.jit(
            self._update, donate_argnums=0, out_shardings=out, compiler_options=self.options
        )
        self._start = jax.jit(self._first_state, out_shardings=self.state_shardings)

    def init(self, params: dict, seed: int = 0) -> State:
        """A state at step 0 from a model's parameters, which are copied: the step donates its
        state.

        Args:
            seed: draws the trained parameters that the model does not have yet.
        """
        trained, _ = self.trainable.split(params, self.config, seed)
        return self._start(trained)

    def frozen(self, params: dict) -> dict:
        """What each call takes beside the state: the model's parameters that are not trained."""
        return self.trainable.split(params, self.config, 0)[1]

    def _first_state(self, trained):
        return State(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, trained), self.transform.init(trained)
        )

    def abstract_state(self) -> State:
        """Shapes and dtypes of a state, what a restore asks for."""
        params = self.trainable.abstract(self.config)
        return State(
            jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(self.transform.init, params)
        )

    def __call__(
        self, state: State, batch: dict, learning_rate: float, frozen: dict | None = None
    ) -> tuple[State, dict]:
        """One update; `batch` holds the arrays that the objective collates.

        Metrics are scalars still on the device.
        """
        # A number of numpy: several processes give the same one, where jax's lies on one device.
        rate, frozen = np.float32(learning_rate), {} if frozen is None else frozen
        if self.mesh is None:
            return self.jitted(state, frozen, batch, rate)
        batch = {
            name: jax.device_put(array, sharding.batch_sharding(self.mesh, array.ndim))
            for name, array in batch.items()
        }
        with jax.set_mesh(self.mesh):
            return self.jitted(state, frozen, batch, rate)

    def place(self, part: Part) -> dict:
        """A step's batch on the devices: this process's rows of it on its own."""
        return _placed(part, self.mesh, sharding.batch_sharding)

    def mine(self, count: int) -> np.ndarray:
        """Numbers of a batch's rows that this process builds; all where it is alone."""
        return processes.rows_of(count, sharding.batch_sharding(self.mesh, 1))

    def batch_sharding(self):
        """Of a batch's arrays [B, …] on the mesh."""
        return sharding.batch_sharding(self.mesh)

    def _shardings(self):
        abstract = self.abstract_state()
        axes = self.trainable.axes(self.config)
        params = sharding.shardings(axes, abstract.params, self.mesh)
        replicated = sharding.replicated(self.mesh)
        moments = optax.tree_utils.tree_map_params(
            self.transform,
            lambda _, placed: placed,
            abstract.opt_state,
            params,
            transform_non_params=lambda _: replicated,
        )
        return State(replicated, params, moments)

    def _update(self, state: State, frozen, batch, learning_rate, compute: Compute | None = None):
        self.traces += 1
        gradients, loss, weight, sums = self._gradients(state.params, frozen, batch, compute)
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        updates, opt_state = self.transform.update(gradients, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, updates)
        metrics = {
            "loss": loss / weight,
            **{name: total / weight for name, total in sums.items()},
            "grad_norm": optax.tree.norm(gradients),
            "update_norm": learning_rate * optax.tree.norm(updates),
            "weight": weight,
        }
        return State(state.step + 1, params, opt_state), metrics

    def _sums(self, params, batch, compute=None):
        return self.objective.sums(
            params, batch, config=self.config, compute=compute or self.compute
        )

    def _gradients(self, trained, frozen, batch, compute):
        """Sums over the whole batch, so that micro-batches of unequal weight count as one batch
        would.
        """

        def sums(trained, part):
            return self._sums(self.trainable.join(trained, frozen), part, compute)

        def gradients(part):
            (loss, (weight, totals)), gradient = jax.value_and_grad(sums, has_aux=True)(
                trained, part
            )
            return gradient, loss, weight, totals

        if self.micro_batches == 1:
            return gradients(batch)
        parts = jax.tree.map(self._split, batch)
        first = jax.tree.map(lambda array: array[0], parts)
        zero = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gradients, first)
        )
        total, _ = jax.lax.scan(
            lambda total, part: (jax.tree.map(jnp.add, total, gradients(part)), None), zero, parts
        )
        return total

    def _split(self, array):
        """[B, …] → [M, B / M, …], rows dealt round-robin so that each micro-batch is spread over
        all shards of the batch.
        """
        return jnp.moveaxis(array.reshape(-1, self.micro_batches, *array.shape[1:]), 1, 0)


class StackedStep:
    """A `Step` for several models of one shape at once: states, frozen parameters, metrics and
    learning rates have a leading axis `checkpoint`, sharded over the mesh's `data`; the batch is
    the same for all.
    """

    def __init__(self, step: Step, members: int):
        """
        Raises:
            ConfigError: the mesh's `data` axis does not divide the members.
        """
        self.step, self.members, self.mesh, self.trainable = (
            step,
            members,
            step.mesh,
            step.trainable,
        )
        shards = 1 if step.mesh is None else step.mesh.shape["data"]
        if members % shards:
            raise ConfigError(
                f"{members} checkpoints cannot be shared evenly by {shards} devices",
                where="mesh",
                hint="make the mesh's data axis a divisor of their number",
            )
        self.row_multiple, self.rate_shape = step.row_multiple // shards, (members,)
        self.state_shardings = None if step.mesh is None else self._leading(step.state_shardings)
        out = None
        if step.mesh is not None:
            out = (self.state_shardings, self._leading(sharding.replicated(step.mesh)))
        self.jitted = jax.jit(
            self._every_member(),
            donate_argnums=0,
            out_shardings=out,
            compiler_options=step.options,
        )
        self._start = jax.jit(jax.vmap(step._first_state), out_shardings=self.state_shardings)

    def init(self, params: list[dict], seed: int = 0) -> State:
        """The states of all members at step 0.

        Raises:
            ConfigError: members of different shapes.
        """
        split = [self.trainable.split(tree, self.step.config, seed)[0] for tree in params]
        return self._start(_stacked(split))

    def frozen(self, params: list[dict]) -> dict:
        """Parameters that are not trained, of all members."""
        return _stacked([self.step.frozen(tree) for tree in params])

    def abstract_state(self) -> State:
        """Shapes and dtypes of the states."""
        return jax.tree.map(self.of_members, self.step.abstract_state())

    def of_members(self, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The shape of one member's array → that of all members', where it lies on the mesh."""
        placed = None if leaf.sharding is None else self._leading(leaf.sharding)
        return jax.ShapeDtypeStruct((self.members, *leaf.shape), leaf.dtype, sharding=placed)

    def batch_sharding(self):
        """Of a batch's arrays on the mesh: each member has all of them."""
        return self._rows(self.mesh)

    def __call__(self, states: State, batch: dict, learning_rates, frozen: dict | None = None):
        """One update of every member; `learning_rates` has one for each."""
        rates, frozen = np.asarray(learning_rates, np.float32), {} if frozen is None else frozen
        if self.mesh is None:
            return self.jitted(states, frozen, batch, rates)
        rows = self._rows(self.mesh)
        batch = {name: jax.device_put(array, rows) for name, array in batch.items()}
        with jax.set_mesh(self.mesh):
            return self.jitted(states, frozen, batch, rates)

    def place(self, part: Part) -> dict:
        """A step's batch on the devices, the same for all members."""
        return _placed(part, self.mesh, self._rows)

    def mine(self, count: int) -> np.ndarray:
        """Numbers of a batch's rows that this process builds."""
        return processes.rows_of(count, self._rows(self.mesh))

    def _every_member(self):
        """(states, frozen, batch, rates) → (states, metrics): the update of every member."""
        step, mesh = self.step, self.mesh
        by_itself = mesh is not None and mesh.size == mesh.shape["data"]
        attention = step.compute.attention
        if by_itself:
            attention = dataclasses.replace(attention, mesh=None)
        elif mesh is not None and mesh.size > 1:
            # A kernel that is spread over a mesh by hand would not see that its rows are those of
            # one checkpoint: there XLA's attention, which the compiler splits.
            attention = Backend()
        compute = dataclasses.replace(step.compute, attention=attention)
        update = functools.partial(step._update, compute=compute)
        device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
        in_turn = device.platform == "cpu" and (mesh is None or by_itself)
        every = _in_turn(update) if in_turn else jax.vmap(update, in_axes=(0, 0, None, 0))
        if not by_itself:
            return every
        # Each device runs the plain program of its own members, fused attention included, and sends
        # nothing.
        own = PartitionSpec("data")
        inputs = (own, own, PartitionSpec(), own)
        return jax.shard_map(every, mesh=mesh, in_specs=inputs, out_specs=own, check_vma=False)

    @staticmethod
    def _rows(mesh, ndim=1):
        return NamedSharding(mesh, PartitionSpec("fsdp"))

    def _leading(self, shardings):
        return jax.tree.map(
            lambda one: NamedSharding(self.mesh, PartitionSpec("data", *one.spec)), shardings
        )


def _in_turn(update):
    """The update of every member, one after another: XLA's batched products of small matrices take
    1.7 times the processor time of separate ones on a CPU (benchmarks/stacked.py).
    """

    def every(states, frozen, batch, rates):
        def one(member):
            state, own, rate = member
            return update(state, own, batch, rate)

        return jax.lax.map(one, (states, frozen, rates))

    return every


def _placed(part, mesh, rows_sharding):
    if mesh is None:
        return part.arrays
    placed = {}
    for name, array in part.arrays.items():
        rows = rows_sharding(mesh, array.ndim)
        if part.rows is None:
            placed[name] = jax.device_put(array, rows)
        else:
            placed[name] = processes.place_rows(part.rows, array, part.count, rows)
    return placed


def _stacked(trees):
    shapes = [jax.tree.map(jnp.shape, tree) for tree in trees]
    if different := next((i for i, other in enumerate(shapes) if other != shapes[0]), None):
        raise ConfigError(
            f"checkpoints 0 and {different} have parameters of different shapes",
            where="checkpoints",
            hint="train them one after the other",
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@functools.lru_cache(maxsize=32)
def make_step(
    config: ModelConfig,
    optimizer: Optimizer,
    dtype: str = "float32",
    remat: str = "none",
    micro_batches: int = 1,
    mesh=None,
    objective: Objective = LanguageModelling(),
    trainable: Trainable = AllParameters(),
) -> Step:
    """The one `Step` of these arguments: all checkpoints and recipes of a study share it."""
    return Step(config, optimizer, dtype, remat, micro_batches, mesh, objective, trainable)


@functools.lru_cache(maxsize=8)
def make_stacked_step(step: Step, members: int) -> StackedStep:
    """The one `StackedStep` of a step and a number of members."""
    return StackedStep(step, members)
