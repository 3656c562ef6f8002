"""The laboratory's world: its seed fixes what is true of it. Pure Python, no jax.

Randomness is a stream per name (`stream(seed, "corpus")`), so that one part can grow without moving
another.
"""

import dataclasses
import random
from collections.abc import Container

from amuro_jax.lab import words


def stream(seed: int, name: str) -> random.Random:
    """A generator that depends on the seed and the name alone."""
    return random.Random(f"amuro-lab/{seed}/{name}")


@dataclasses.dataclass(frozen=True)
class Side:
    """The words a text may use: those of the fine-tuning sets, the ones held out from them, or all.

    Attributes:
        names: (name, pronoun) pairs.
        poles: per dimension, two tuples of words that mean the same.
        things: category → things.
    """

    names: tuple[tuple[str, str], ...]
    poles: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    things: dict[str, tuple[str, ...]]
    places: tuple[str, ...]
    times: tuple[str, ...]
    trades: tuple[str, ...]


INSIDE = Side(
    words.NAMES,
    words.POLES,
    {k: v[0] for k, v in words.THINGS.items()},
    words.PLACES,
    words.TIMES,
    words.TRADES,
)
OUTSIDE = Side(
    words.OTHER_NAMES,
    words.POLES,
    {k: v[1] for k, v in words.THINGS.items()},
    words.OTHER_PLACES,
    words.OTHER_TIMES,
    words.OTHER_TRADES,
)
EVERYTHING = Side(
    words.NAMES + words.OTHER_NAMES,
    words.POLES,
    {k: v[0] + v[1] for k, v in words.THINGS.items()},
    words.PLACES + words.OTHER_PLACES,
    words.TIMES + words.OTHER_TIMES,
    words.TRADES + words.OTHER_TRADES,
)


@dataclasses.dataclass(frozen=True)
class World:
    """What is true: creature → attribute → value.

    Everything else (meanings, kinds of things, scripts) is in `words`.
    """

    seed: int
    creatures: dict[str, dict[str, str]]


def make_world(seed: int, creatures: int) -> World:
    """The world of a seed: invented creatures, each with one value of every attribute."""
    return World(seed, make_creatures(stream(seed, "creatures"), creatures, words.ATTRIBUTES))


def make_creatures(
    rng: random.Random, count: int, attributes: dict[str, tuple[str, ...]], taken: Container = ()
) -> dict[str, dict[str, str]]:
    """Creature → attribute → value, of invented names that are not `taken`: a name tells nothing of
    the values, and each value is as common as any other.
    """
    names = rng.sample([name for name in _syllables() if name not in taken], count)
    columns = {attribute: _evenly(rng, values, count) for attribute, values in attributes.items()}
    return {
        name: {attribute: column[index] for attribute, column in columns.items()}
        for index, name in enumerate(names)
    }


def _evenly(rng, values, count):
    """`count` values, each equally often, so that a value's frequency does not help to guess."""
    column = [values[index % len(values)] for index in range(count)]
    rng.shuffle(column)
    return column


def _syllables():
    """Invented names of two syllables: bolmi, dasku, …"""
    heads = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in "lmnrs"]
    tails = [a + b for a in "bdfgkmnptvz" for b in "aiou"]
    return [head + tail for head in heads for tail in tails]
