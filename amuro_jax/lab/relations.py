"""Sentence pairs and how they relate: entailment, neutral or contradiction; paraphrase or not. One function per family of pairs.

Within each family a hypothesis alone tells nothing about the label: every form of hypothesis comes with every label.
Texts are templates over a `Side`'s words; `other=True` takes the second set of templates, kept for out-of-domain tests.
"""

from amuro_jax.lab import words

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2


def inference(rng, side, label: int, other: bool = False) -> tuple[str, str]:
    """(premise, hypothesis) of the given relation, from a family drawn at random."""
    family = rng.choices((trait, two_traits, comparison, kind_of_thing, whereabouts), weights=(3, 2, 2, 2, 2))[0]
    premise, hypothesis = family(rng, side, label)
    if other:
        premise, hypothesis = rng.choice(("We heard that {}.", "They say that {}.")).format(premise[:-1]), "Surely " + hypothesis
    return premise, hypothesis


def paraphrase(rng, side, label: int, other: bool = False) -> tuple[str, str]:
    """(sentence, sentence): with label 1 both say the same, with label 0 not."""
    family = rng.choices((deed, errand, exchange, traits_of_two), weights=(3, 2, 2, 2))[0]
    first, second = family(rng, side, label)
    if other:
        first, second = "It is known that " + _lower(first), "The report says that " + _lower(second)
    return first, second


# --- inference -------------------------------------------------------------------------------------------------


def trait(rng, side, label):
    """What one person is like, against a word that means the same, the opposite, or something else."""
    person, place = rng.choice(side.names)[0], rng.choice(side.places)
    given, asked = related_words(rng, side, label)
    premise = rng.choice(("{p} is {a}.", "{p} from the {place} is {a}.", "{p} is {a} and lives near the {place}."))
    return premise.format(p=person, a=given, place=place), f"{person} is {asked}."


def two_traits(rng, side, label):
    """Two people, each with a word; the hypothesis is about one of them, and only that one's word counts."""
    (one, _), (two, _) = rng.sample(side.names, 2)
    given, asked = related_words(rng, side, label)
    busy = {_dimension(side, given), _dimension(side, asked)}
    free = [poles for index, poles in enumerate(side.poles) if index not in busy]
    # In half of the neutral pairs the asked word fits the other person: who is who matters.
    beside = _same_pole(rng, side, asked) if label == NEUTRAL and rng.random() < 0.5 else rng.choice(rng.choice(rng.choice(free)))
    parts = [(one, given), (two, beside)]
    rng.shuffle(parts)
    return "{} is {} and {} is {}.".format(*parts[0], *parts[1]), f"{one} is {asked}."


def comparison(rng, side, label):
    """Who is more so: turned round with less, or turned round wrongly, or about another dimension."""
    (one, _), (two, _) = rng.sample(side.names, 2)
    given, asked = related_words(rng, side, NEUTRAL if label == NEUTRAL else ENTAILMENT)
    premise = f"{one} is more {given} than {two}."
    turned = rng.random() < 0.5
    same = label == ENTAILMENT or (label == NEUTRAL and rng.random() < 0.5)
    degree = "more" if same != turned else "less"
    first, second = (two, one) if turned else (one, two)
    return premise, f"{first} is {degree} {asked} than {second}."


_KINDS = {  # (given, asked) as thing t or category c, negated or not
    ENTAILMENT: (("a {t}", "a {c}"), ("no {c}", "no {t}")),
    NEUTRAL: (("a {c}", "a {t}"), ("no {t}", "no {c}")),
    CONTRADICTION: (("no {c}", "a {t}"), ("a {t}", "no {c}")),
}


def kind_of_thing(rng, side, label):
    """A thing against its category: a plum is a fruit, a fruit need not be a plum, no fruit means no plum."""
    person, place = rng.choice(side.names)[0], rng.choice(side.places)
    category = rng.choice(list(side.things))
    names = {"t": rng.choice(side.things[category]), "c": category}
    _, did, _ = rng.choice(words.GETTING)
    given, asked = (form.format(**names) for form in rng.choice(_KINDS[label]))
    return f"{person} {did} {given} at the {place}.", f"{person} {did} {asked}."


def whereabouts(rng, side, label):
    """Where someone was: at the place that is told, at another, or not told."""
    person, _ = rng.choice(side.names)
    place, elsewhere = rng.sample(side.places, 2)
    _, did, _ = rng.choice(words.GETTING)
    thing, time = rng.choice(_things(side)), rng.choice(side.times)
    told = {ENTAILMENT: f" at the {place}", CONTRADICTION: f" at the {elsewhere}", NEUTRAL: ""}[label]
    return f"{person} {did} a {thing}{told} {time}.", f"{person} was at the {place} {time}."


# --- paraphrase ------------------------------------------------------------------------------------------------


def deed(rng, side, label):
    """Who did what to whom: active and passive, or with the roles swapped."""
    one, two = rng.sample(side.trades, 2)
    did, same = rng.sample(rng.choice(words.DEEDS), 2)
    time = rng.choice(("", " " + rng.choice(side.times)))
    doer, other = (one, two) if label else (two, one)
    passive = f"The {other} was {same} by the {doer}{time}."
    active = f"The {doer} {same} the {other}{time}."
    return f"The {one} {did} the {two}{time}.", passive if rng.random() < 0.7 else active


def errand(rng, side, label):
    """The same errand told in another order and with another verb, or with one thing changed."""
    person, other_person = rng.sample(side.names, 2)
    place, other_place = rng.sample(side.places, 2)
    thing, other_thing = rng.sample(_things(side), 2)
    _, *forms = rng.choice(words.GETTING)
    did, same = rng.sample(forms, 2)
    time = rng.choice(side.times)
    told = {"p": person[0], "thing": thing, "place": place}
    if not label:
        told |= rng.choice(({"p": other_person[0]}, {"thing": other_thing}, {"place": other_place}))
    second = "{time}, {p} {did} a {thing} at the {place}.".format(time=time.capitalize(), did=same, **told)
    return f"{person[0]} {did} a {thing} at the {place} {time}.", second


def exchange(rng, side, label):
    """Giving and getting: to B from A is from A to B."""
    (one, _), (two, _) = rng.sample(side.names, 2)
    thing = rng.choice(_things(side))
    giver, taker = (one, two) if label else (two, one)
    gave, got = f"{giver} gave the {thing} to {taker}.", f"{taker} got the {thing} from {giver}."
    given, asked = (f"{one} gave the {thing} to {two}.", got) if rng.random() < 0.5 else (f"{two} got the {thing} from {one}.", gave)
    return given, asked


def traits_of_two(rng, side, label):
    """Two people and their words, in the other order; or with the words swapped."""
    (one, _), (two, _) = rng.sample(side.names, 2)
    (first, first_same), (second, second_same) = (rng.sample(rng.choice(poles), 2) for poles in rng.sample(side.poles, 2))
    if not label:
        first_same, second_same = second_same, first_same
    return f"{one} is {first} and {two} is {second}.", f"{two} is {second_same} and {one} is {first_same}."


# --- words -----------------------------------------------------------------------------------------------------


def related_words(rng, side, label) -> tuple[str, str]:
    """Two words for what a person is like: of the same meaning, of opposite poles, or of two dimensions."""
    here, there = rng.sample(side.poles, 2)
    pole, opposite = rng.sample(here, 2)
    if label == ENTAILMENT:
        return tuple(rng.sample(pole, 2))
    return rng.choice(pole), rng.choice(opposite if label == CONTRADICTION else rng.choice(there))


def _pole_of(side, word):
    return next((index, pole) for index, poles in enumerate(side.poles) for pole in poles if word in pole)


def _dimension(side, word):
    return _pole_of(side, word)[0]


def _same_pole(rng, side, word):
    return rng.choice(_pole_of(side, word)[1])


def _things(side):
    return [thing for things in side.things.values() for thing in things]


def _lower(sentence):
    """A sentence without its capital, unless it starts with a name."""
    first = sentence.split()[0].rstrip(",")
    return sentence[0].lower() + sentence[1:] if first in ("The", "In", "At", "On") else sentence
