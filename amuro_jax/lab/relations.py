"""Sentence pairs and how they relate: entailment, neutral or contradiction; paraphrase or not. One
function per family of pairs.

A family makes a `Statement`, which gives second sentences of each relation. Within a
family a second sentence alone tells nothing about the relation: every form of it comes with every
label, equally often. Texts are templates over a `Side`'s words; `other=True` wraps them otherwise,
for out-of-domain tests.
"""

import dataclasses
from collections.abc import Callable

from amuro_jax.lab import words

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2
DIFFERENT, SAME = 0, 1


@dataclasses.dataclass(frozen=True)
class Statement:
    """A sentence, the relations that another sentence can have to it, and `ask(label)`, which draws
    such a sentence.
    """

    text: str
    labels: tuple[int, ...]
    ask: Callable[[int], str]


def inference(rng, side, number: int, other: bool = False) -> tuple[str, str, int]:
    """(premise, hypothesis, label) of row `number`: labels and families take turns, so that a
    family tells nothing about the label.
    """
    label, turn = number % 3, number // 3
    statement = _turn(INFERENCE, turn)(rng, side, label)
    premise, hypothesis = statement.text, statement.ask(label)
    if other:
        premise, hypothesis = (
            rng.choice(("We heard that {}.", "They say that {}.")).format(premise[:-1]),
            "Surely " + hypothesis,
        )
    return premise, hypothesis, label


def paraphrase(rng, side, number: int, other: bool = False) -> tuple[str, str, int]:
    """(sentence, sentence, label) of row `number`: with label 1 both say the same, with label 0
    not.
    """
    label, turn = number % 2, number // 2
    statement = _turn(PARAPHRASE, turn)(rng, side, label)
    first, second = statement.text, statement.ask(label)
    if other:
        first, second = "It is known that " + lower(first), "The report says that " + lower(second)
    return first, second, label


def _turn(families, turn):
    """The family whose turn it is, each as often as its weight says."""
    order = [family for family, weight in families.items() for _ in range(weight)]
    return order[turn % len(order)]


def draw(rng, side, families: dict) -> Statement:
    """A statement of a family drawn by weight, with any of its labels."""
    family = rng.choices(list(families), weights=list(families.values()))[0]
    return family(rng, side, None)


# --- inference
# -------------------------------------------------------------------------------------------------

_ALL = (ENTAILMENT, NEUTRAL, CONTRADICTION)


def trait(rng, side, label):
    """What one person is like, against a word of the same, the opposite, or another meaning."""
    person, word = rng.choice(side.names)[0], any_word(rng, side)
    return Statement(
        f"{person} is {word}.",
        _ALL,
        lambda label: f"{person} is {related_word(rng, side, word, label)}.",
    )


# Statement → what follows, what may be and what cannot be: t and u are things of the
# category c.
_KINDS = {
    "a {t}": {
        ENTAILMENT: ("a {c}",),
        NEUTRAL: ("a {u}", "no {u}"),
        CONTRADICTION: ("no {c}", "no {t}"),
    },
    "a {t} and a {u}": {ENTAILMENT: ("a {t}", "a {c}"), CONTRADICTION: ("no {t}", "no {c}")},
    "a {c}": {NEUTRAL: ("a {t}", "no {t}"), CONTRADICTION: ("no {c}",)},
    "no {t}": {NEUTRAL: ("a {c}", "no {c}", "a {u}"), CONTRADICTION: ("a {t}",)},
    "no {c}": {ENTAILMENT: ("no {t}",), CONTRADICTION: ("a {t}", "a {c}")},
    "nothing": {ENTAILMENT: ("no {t}", "no {c}"), CONTRADICTION: ("a {t}", "a {c}")},
}
_ASKED = ("a {t}", "no {t}", "a {c}", "no {c}")


def kind_of_thing(rng, side, label):
    """A thing against its category: a plum is a fruit, a fruit need not be a plum, no fruit means
    no plum.
    """
    person = rng.choice(side.names)[0]
    category, (_, did, _) = rng.choice(list(side.things)), rng.choice(words.GETTING)
    names = dict(zip("tu", rng.sample(side.things[category], 2), strict=True), c=category)
    forms = [rng.choice(_ASKED)] if label is not None else _ASKED
    statement = rng.choice(
        [
            statement
            for statement, question in _KINDS.items()
            if label is None or set(_as_t(question.get(label, ()))) & set(forms)
        ]
    )

    def ask(label):
        fitting = [form for form in _KINDS[statement][label] if _as_t([form])[0] in forms]
        return f"{person} {did} {rng.choice(fitting).format(**names)}."

    return Statement(f"{person} {did} {statement.format(**names)}.", tuple(_KINDS[statement]), ask)


def _as_t(forms):
    return [form.replace("{u}", "{t}") for form in forms]


INFERENCE = {trait: 4, kind_of_thing: 1}


# --- paraphrase
# ------------------------------------------------------------------------------------------------

_BOTH = (DIFFERENT, SAME)


def deed(rng, side, label):
    """Who did what to whom, active and passive.

    With a verb that means the same, or with another.
    """
    one, two = rng.sample(side.trades, 2)
    (did, same), (another, _) = (rng.sample(deeds, 2) for deeds in rng.sample(words.DEEDS, 2))

    def ask(label):
        verb = same if label == SAME else another
        return (
            f"The {two} was {verb} by the {one}."
            if rng.random() < 0.5
            else f"The {one} {verb} the {two}."
        )

    return Statement(f"The {one} {did} the {two}.", _BOTH, ask)


def portrait(rng, side, label):
    """What one person is like, said with another word that means the same or does not."""
    person, word = rng.choice(side.names)[0], any_word(rng, side)

    def ask(label):
        kind = ENTAILMENT if label == SAME else rng.choice((NEUTRAL, CONTRADICTION))
        return f"You may call {person} {related_word(rng, side, word, kind)}."

    return Statement(f"{person} is {word}.", _BOTH, ask)


PARAPHRASE = {portrait: 3, deed: 1}


# --- words


def any_word(rng, side) -> str:
    """A word for what a person is like."""
    return rng.choice(rng.choice(rng.choice(side.poles)))


def related_word(rng, side, word: str, label: int) -> str:
    """A word that means the same as `word`, the opposite, or something of another dimension."""
    number, pole = _pole_of(side, word)
    if label == ENTAILMENT:
        return rng.choice([same for same in side.poles[number][pole] if same != word])
    if label == CONTRADICTION:
        return rng.choice(side.poles[number][1 - pole])
    return rng.choice(
        rng.choice(rng.choice([poles for index, poles in enumerate(side.poles) if index != number]))
    )


def _pole_of(side, word):
    return next(
        (number, pole)
        for number, poles in enumerate(side.poles)
        for pole in (0, 1)
        if word in poles[pole]
    )


def lower(sentence):
    """A sentence without its capital, unless it starts with a name."""
    return sentence[0].lower() + sentence[1:] if sentence.split()[0] in ("The", "You") else sentence
