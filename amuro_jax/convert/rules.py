"""Invertible rules between the tensors of a checkpoint and the stacked parameter tree.

A rule is a line such as `(H K) D -> D H K`: the source's axes, groups in brackets, and the
target's. The same line reads, writes and checks. Letters: V embedding rows, D model width, H query
heads, G key/value heads, K head width, Q = H·K, C = G·K, F mlp width.
"""

import dataclasses
import functools
import math
import re

import numpy as np

from amuro_jax.convert.tensors import StoredTensor
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter ← one tensor, or a part of one.

    Attributes:
        target: flat name in the parameter tree; names under `layers/` are stacked over layers.
        source: tensor name, `{i}` for the layer.
        axes: `source axes -> target axes`. A number among the source's axes is an axis of that size
            of which `pick` is used.
        rows: (first, last) of axis 0, where several parameters lie one after the other in one
            tensor.
        pick: index along the numbered axis.
    """

    target: str
    source: str
    axes: str
    rows: tuple[int, int] | None = None
    pick: int | None = None

    @property
    def stacked(self) -> bool:
        """Whether there is one source tensor per layer."""
        return "{i}" in self.source

    @property
    def groups(self) -> list[list[str]]:
        """The source's axes: letters of each group."""
        return _groups(self.axes.split("->")[0])

    @property
    def letters(self) -> list[str]:
        """The target's axes."""
        return self.axes.split("->")[1].split()

    @property
    def lead(self) -> str:
        """Outermost letter of the source: what blocks of rows are cut along."""
        return self.groups[0][0]


@functools.cache
def _parse(text):
    return tuple(tuple(part.strip("()").split()) for part in re.findall(r"\([^)]*\)|\S+", text))


def _groups(text):
    return [list(group) for group in _parse(text)]


def sizes(config: ModelConfig) -> dict[str, int]:
    """Letter → size."""
    c = config
    heads = {
        "H": c.num_heads,
        "G": c.num_kv_heads,
        "K": c.head_dim,
        "Q": c.num_heads * c.head_dim,
        "C": c.num_kv_heads * c.head_dim,
    }
    return {"V": c.vocab_size, "D": c.hidden_size, "F": c.mlp_size, **heads}


def _size(letter, size):
    return int(letter) if letter.isdigit() else size[letter]


def part_shape(rule: Rule, size: dict[str, int]) -> tuple[int, ...]:
    """Shape of the rule's part of its source tensor."""
    return tuple(math.prod(_size(letter, size) for letter in group) for group in rule.groups)


def target_shape(rule: Rule, config: ModelConfig) -> tuple[int, ...]:
    """Shape of the parameter, layers included."""
    size = sizes(config)
    return (config.num_layers,) * rule.stacked + tuple(size[letter] for letter in rule.letters)


def view(rule: Rule, rows: np.ndarray, size: dict[str, int]) -> np.ndarray:
    """A view of source rows (a whole number of the leading letter's steps) with the target's axes;
    writing to it writes the source.

    Source → target is `np.ascontiguousarray(view(...))`; target → source is `view(...)[...] =
    target`.
    """
    letters = [letter for group in rule.groups for letter in group]
    inner = [_size(letter, size) for letter in letters]
    inner[0] = rows.size // math.prod(inner[1:])
    split = rows.reshape(inner)
    if rule.pick is not None:
        axis = next(i for i, letter in enumerate(letters) if letter.isdigit())
        split = split[(slice(None),) * axis + (rule.pick,)]
        letters = letters[:axis] + letters[axis + 1 :]
    return split.transpose([letters.index(letter) for letter in rule.letters])


def rows_per_step(rule: Rule, size: dict[str, int]) -> int:
    """Source rows per step of the leading letter."""
    return math.prod(_size(letter, size) for letter in rule.groups[0][1:])


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One source tensor as the rules see it: full shape and the rules that take parts of it."""

    name: str
    shape: tuple[int, ...]
    layer: int | None
    rules: tuple[Rule, ...]


def expected_tensors(rules: tuple[Rule, ...], config: ModelConfig) -> dict[str, Tensor]:
    """Every source tensor that the rules read, with its full shape, in the rules' order, layer by
    layer.
    """
    size, by_source = sizes(config), {}
    for rule in rules:
        by_source.setdefault(rule.source, []).append(rule)
    flat = [source for source in by_source if "{i}" not in source]
    layered = [source for source in by_source if "{i}" in source]
    names = [(source, None) for source in flat] + [
        (source, i) for i in range(config.num_layers) for source in layered
    ]
    tensors = {}
    for source, layer in names:
        group = tuple(by_source[source])
        shape = part_shape(group[0], size)
        rows = max((rule.rows[1] for rule in group if rule.rows), default=shape[0])
        name = source.format(i=layer)
        tensors[name] = Tensor(name, (rows, *shape[1:]), layer, group)
    return tensors


def check_table(
    table: dict[str, StoredTensor], expected: dict[str, Tensor], ignored: tuple[str, ...], *, where
) -> dict[str, StoredTensor]:
    """The tensors to read, without the buffers whose names match `ignored`.

    Raises:
        CheckpointError: a tensor that is missing, unknown, or of another shape or kind than the
            model's, with both sides.
    """
    stored = {
        name: tensor
        for name, tensor in table.items()
        if not any(re.fullmatch(pattern, name) for pattern in ignored)
    }
    missing, extra = sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected))
    if missing or extra:
        lines = [
            f"{len(missing)} tensors of the model are missing, {len(extra)} in the checkpoint are "
            "unknown"
        ]
        lines += [f"    missing: {name} {expected[name].shape}" for name in missing[:5]]
        lines += [f"    unknown: {name[:200]} {stored[name].describe()}" for name in extra[:5]]
        raise CheckpointError(
            "\n".join(lines),
            where=where,
            hint="do config.json and the weights belong to the same model?",
        )
    wrong = [name for name, tensor in stored.items() if tensor.shape != expected[name].shape]
    if wrong:
        lines = [f"{len(wrong)} tensors have another shape than the model"]
        lines += [
            f"    {name}: stored {stored[name].shape}, the model wants {expected[name].shape}"
            for name in wrong[:5]
        ]
        raise CheckpointError(
            "\n".join(lines),
            where=f"{where}: {wrong[0]}",
            hint="do config.json and the weights belong to the same model?",
        )
    return stored
