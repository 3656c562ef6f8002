"""What only tests compare: some pairs of traits, and some deeds and things altogether.

The world has few words. Were every pair of them in the training rows, fine-tuning could learn the
table of relations by heart, from any checkpoint. So tests ask about what no training row compares:
who answers must know it from pre-training, which compares everything. Of traits, pairs are
held out, such that every word is in as many held-out pairs of every relation as any other: how
often a word goes with a label in training says nothing about the label in tests.
"""

import functools
import re

from amuro_jax.lab import words
from amuro_jax.lab.world import INSIDE, stream

_TRAIT = {
    word: (number, side, i)
    for number, poles in enumerate(words.POLES)
    for side in (0, 1)
    for i, word in enumerate(poles[side])
}
_DEED = {verb: number for number, deed in enumerate(words.DEEDS) for verb in deed}
_OTHER_THINGS = {thing for _, others in words.THINGS.values() for thing in others}


def for_training(seed: int, *texts: str) -> bool:
    """Whether a row of these texts may be trained on."""
    return not _is_test_only(seed, texts)


def for_test(seed: int, *texts: str) -> bool:
    """Whether a row of these texts may be in a test.

    A single text (a story) compares nothing and may be in either split.
    """
    return len(texts) == 1 or _is_test_only(seed, texts)


def _is_test_only(seed, texts):
    if len(texts) == 1:
        return False
    one, two = (re.findall(r"\w+", text) for text in texts)
    if any(word in held_out_words(seed) for word in one + two):
        return True
    return any(is_held_out(seed, a, b) for a in one for b in two if a in _TRAIT and b in _TRAIT)


def is_held_out(seed: int, one: str, two: str) -> bool:
    """Whether a pair of different traits is reserved for tests.

    Words of a pole are numbered 0 to 3. Numbers whose exclusive or is k pair every word of one pole
    with exactly one of another pole (or, for k > 0, of the same): a third of the pairs that mean
    the same and a quarter of the others are reserved.
    """
    (*pole, i), (*other, j) = sorted((_TRAIT[one], _TRAIT[two]))
    return i ^ j == _chosen(seed, tuple(pole), tuple(other))


@functools.cache
def _chosen(seed, pole, other):
    return stream(seed, f"held/{pole}/{other}").randrange(pole == other, 4)


@functools.cache
def held_out_words(seed: int) -> frozenset[str]:
    """A third of the deeds (both their verbs), one thing of each category, and the things of the
    out-of-domain tests.
    """
    rng = stream(seed, "held words")
    deeds = rng.sample(range(len(words.DEEDS)), len(words.DEEDS) // 3)
    things = {rng.choice(things) for things in INSIDE.things.values()}
    return frozenset(
        {verb for verb, deed in _DEED.items() if deed in deeds} | things | _OTHER_THINGS
    )
