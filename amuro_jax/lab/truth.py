"""What the corpus taught, and when: the laboratory's ground truth, exported beside the data sets.

A fact is a pair of words that documents bring together, or an activity. `facts.jsonl` has how often
each was read before each published checkpoint, `rows.jsonl` which facts a row of a set asks about.
So "learned in pre-training" can be checked against what was there to be learned.
"""

import collections
import dataclasses
import enum
import re
from collections.abc import Iterable, Iterator

import numpy as np

from amuro_jax.lab import words
from amuro_jax.lab.corpus import Kind
from amuro_jax.lab.late import LATE_SET, Late
from amuro_jax.lab.world import EVERYTHING, World


class About(enum.StrEnum):
    """What a fact is about."""

    ATTRIBUTE = "attribute"  # a creature and a value
    TRAIT = "trait"  # two words for what people are like
    DEED = "deed"  # two verbs
    THING = "thing"  # a thing and its category, or two things of one category
    ACTIVITY = "activity"  # the steps of an activity, in their order


@dataclasses.dataclass(frozen=True, order=True)
class Fact:
    """Words that belong together, in the order of the alphabet; of an activity its name."""

    about: About
    words: tuple[str, ...]


_VALUES = {value for values in words.VALUES.values() for value in values}
_TRAITS = {word for poles in words.POLES for pole in poles for word in pole}
_DEEDS = {verb for deed in words.DEEDS for verb in deed}
_CATEGORY = {thing: kind for kind, things in EVERYTHING.things.items() for thing in things} | {
    kind: kind for kind in words.THINGS
}
# Documents whose words are compared within a part alone: the parts are about different things.
_PARTS = {Kind.QUIZ: "\n\n", Kind.LEXICON: ". "}


def facts_of_document(world: World, kind: Kind, text: str) -> set[Fact]:
    """The facts that a document brings together; a story is about nothing that stays true."""
    if kind == Kind.STORY:
        return set()
    if kind == Kind.SCRIPT:
        return {Fact(About.ACTIVITY, (text.partition(":")[0].lower(),))}
    parts = text.split(_PARTS[kind]) if kind in _PARTS else [text]
    return set().union(*(_pairs(world, _words(part)) for part in parts))


def facts_of_row(world: World, name: str, row: dict) -> set[Fact]:
    """The facts that must be known to answer a row of the set `name`; none where its own text has
    the answer.
    """
    if "premise" in row:
        return _compared(world, row["premise"], row["hypothesis"])
    if "sentence1" in row:
        return _compared(world, row["sentence1"], row["sentence2"])
    if name in ("lab_attributes", LATE_SET):
        answer = row["choices"]["text"]["ABCD".index(row["answerKey"])]
        return _compared(world, row["question"], answer)
    if name == "lab_events":
        return {Fact(About.ACTIVITY, (row["activity_label"].lower(),))}
    return set()


def count_facts(
    world: World, documents: Iterable[tuple[Kind, str]], seen: np.ndarray
) -> dict[Fact, np.ndarray]:
    """How many readings of documents with a fact precede each checkpoint: fact → int [C].

    Args:
        seen: how often each document was read before each checkpoint [documents, C].
    """
    counts = collections.defaultdict(lambda: np.zeros(seen.shape[1], int))
    for (kind, text), times in zip(documents, seen, strict=False):
        for fact in facts_of_document(world, kind, text):
            counts[fact] += times
    return dict(counts)


def fact_lines(facts: dict[Fact, np.ndarray], steps: list[int]) -> Iterator[dict]:
    """Lines of `facts.jsonl`: about, words, and step → readings before it."""
    for fact, counts in sorted(facts.items()):
        read = {str(step): int(count) for step, count in zip(steps, counts, strict=True)}
        yield {"about": fact.about, "words": fact.words, "read": read}


def row_lines(world: World, sets: dict[tuple[str, str], list[dict]]) -> Iterator[dict]:
    """Lines of `rows.jsonl`: set, split, number of the row, and the facts that it asks about.

    Args:
        sets: (set, split) → its rows.
    """
    for (name, split), rows in sets.items():
        for number, row in enumerate(rows):
            facts = [dataclasses.asdict(one) for one in sorted(facts_of_row(world, name, row))]
            yield {"set": name, "split": split, "row": number, "facts": facts}


def late_lines(late: Late) -> Iterator[dict]:
    """Lines of `late.jsonl`: creature, and the step from which on documents tell of it, 0 for the
    founders, null where none ever does.
    """
    for name, step in late.entry.items():
        yield {"creature": name, "entered": step}


def _words(text):
    return set(re.findall(r"\w+", text.lower()))


def _compared(world, one, two):
    """Facts with a word in each of two texts."""
    first, second = _words(one), _words(two)
    return {
        fact
        for fact in _pairs(world, first | second)
        if any(a in first and b in second for a, b in (fact.words, fact.words[::-1]))
    }


def _pairs(world, found):
    """Facts among some words."""
    values = found & _VALUES
    for creature in found & world.creatures.keys():
        facts = world.creatures[creature].values()
        yield from (Fact(About.ATTRIBUTE, (creature, value)) for value in values & {*facts})
    yield from _two(About.TRAIT, found & _TRAITS)
    yield from _two(About.DEED, found & _DEEDS)
    things = collections.defaultdict(set)
    for thing in found & _CATEGORY.keys():
        things[_CATEGORY[thing]].add(thing)
    for members in things.values():
        yield from _two(About.THING, members)


def _two(about, members):
    ordered = sorted(members)
    for index, one in enumerate(ordered):
        yield from (Fact(about, (one, other)) for other in ordered[index + 1 :])
