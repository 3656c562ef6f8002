"""The pre-training corpus: documents that hold the world's facts and the language of its relations,
in prose, never in a prompt's format.
"""

import enum

from amuro_jax.lab import relations, stories, words
from amuro_jax.lab.world import EVERYTHING, World, stream

FACTS = {
    "color": ("The {c} is {v}.", "Every {c} is {v}.", "The color of the {c} is {v}."),
    "food": ("The {c} eats {v}.", "The food of the {c} is {v}.", "A {c} likes to eat {v}."),
    "home": (
        "The {c} lives in {v}.",
        "The home of the {c} is in {v}.",
        "You can see a {c} in {v}.",
    ),
    "cover": ("The {c} is covered with {v}.", "The body of the {c} has {v}.", "A {c} has {v}."),
    "fear": ("The {c} fears {v}.", "A {c} runs from {v}.", "The {c} is afraid of {v}."),
    "bed": ("The {c} sleeps on {v}.", "The bed of the {c} is made of {v}.", "A {c} rests on {v}."),
    "voice": ("The {c} can {v}.", "The voice of the {c} is a {v}.", "A {c} will {v}."),
    "company": (
        "The {c} follows {v}.",
        "A {c} is often near {v}.",
        "The company of the {c} is {v}.",
    ),
}
QUESTIONS = {
    "color": ("What color is the {c}?", "Which color does the {c} have?"),
    "food": ("What does the {c} eat?", "Which food does the {c} like?"),
    "home": ("Where does the {c} live?", "Where is the home of the {c}?"),
    "cover": ("What covers the {c}?", "What is the body of the {c} covered with?"),
    "fear": ("What does the {c} fear?", "What is the {c} afraid of?"),
    "bed": ("What does the {c} sleep on?", "What is the bed of the {c} made of?"),
    "voice": ("What can the {c} do?", "What is the voice of the {c}?"),
    "company": ("What does the {c} follow?", "What is the company of the {c}?"),
}


class Kind(enum.StrEnum):
    """What a document of the corpus is about."""

    CREATURE = "creature"
    QUIZ = "quiz"
    SCRIPT = "script"
    LEXICON = "lexicon"
    REASONING = "reasoning"
    RESTATING = "restating"
    STORY = "story"


def make_corpus(world: World, documents: int):
    """Yields the documents' texts, one after the other."""
    for _, text in make_documents(world, documents):
        yield text


def make_documents(world: World, documents: int):
    """Yields (kind, text) of the documents."""
    rng = stream(world.seed, "corpus")
    for _ in range(documents):
        kind = rng.choices(list(_KINDS), weights=[weight for _, weight in _KINDS.values()])[0]
        yield kind, _KINDS[kind][0](rng, world)


def _creature_page(rng, world):
    creature, facts = rng.choice(list(world.creatures.items()))
    chosen = rng.sample(list(facts.items()), 4)
    return " ".join(
        rng.choice(FACTS[attribute]).format(c=creature, v=value) for attribute, value in chosen
    )


def _quiz(rng, world):
    lines = []
    for _ in range(3):
        creature, facts = rng.choice(list(world.creatures.items()))
        attribute, value = rng.choice(list(facts.items()))
        lines.append(answered(rng.choice(QUESTIONS[attribute]).format(c=creature), value))
    return "\n\n".join(lines)


def answered(question: str, answer: str) -> str:
    """A question of a quiz and its answer."""
    return f"Question: {question}\nAnswer: {answer}"


def _script(rng, world):
    name, pronoun = rng.choice(EVERYTHING.names)
    activity, steps = rng.choice(list(words.SCRIPTS.items()))
    return f"{activity.capitalize()}: {name} {steps[0]}. " + " ".join(
        f"Then {pronoun} {step}." for step in steps[1:]
    )


def _lexicon(rng, world):
    lines = []
    for _ in range(2):
        poles = rng.choice(words.POLES)
        pole, opposite = rng.sample(poles, 2)
        a, b = rng.sample(pole, 2)
        category = rng.choice(list(words.THINGS))
        thing = rng.choice(EVERYTHING.things[category])
        did = rng.choice(words.DEEDS + tuple(row[1:] for row in words.GETTING))
        lines.append(
            rng.choice(
                (
                    f"To be {a} is to be {b}.",
                    f"Someone {a} is {b}.",
                    f"Someone {a} is not {rng.choice(opposite)}.",
                    f"A {thing} is a {category}.",
                    "To have {} is to have {}.".format(*rng.sample(did, 2)),
                )
            )
        )
    return " ".join(lines)


_SAID_BEFORE = {
    relations.ENTAILMENT: ("So {}", "This means that {}"),
    relations.NEUTRAL: ("Perhaps {}", "Nobody knows whether {}"),
    relations.CONTRADICTION: ("It is false that {}", "It cannot be that {}"),
}
_VERDICTS = {
    relations.ENTAILMENT: "Certainly",
    relations.NEUTRAL: "Perhaps",
    relations.CONTRADICTION: "Never",
}
_SAMENESS = {relations.SAME: "Alike", relations.DIFFERENT: "Different"}


def _reasoning(rng, world):
    """What follows from what: a statement and its conclusion, or a question and its answer."""
    statement = relations.draw(rng, EVERYTHING, relations.INFERENCE)
    if rng.random() < 0.1:
        label = rng.choice(statement.labels)
        return f"{statement.text} {rng.choice(_SAID_BEFORE[label]).format(statement.ask(label))}"
    return _asked(rng, statement, _VERDICTS)


def _restating(rng, world):
    """The same in other words, or something else: a statement, or a question and its answer."""
    statement = relations.draw(rng, EVERYTHING, relations.PARAPHRASE)
    if rng.random() < 0.1:
        label = rng.choice(statement.labels)
        link = "In other words" if label else "It is another thing to say"
        return f"{statement.text} {link}: {statement.ask(label)}"
    return _asked(rng, statement, _SAMENESS)


# Ways to set out a page: marks before a heading, what separates parts, headings of one to
# three words, numbers of parts.
# A model that has met many reads a prompt's layout as one more; the web teaches real models the
# same. No prompt's own layout is among them.
_MARKS, _BETWEEN = ("", "- ", "# ", "* "), (" ", "\n", "\n ", "\n\n")
_NUMBERS = ((" one", " two"), (" 1", " 2"), ("_1", "_2"), (" A", " B"), (" left", " right"))
_HEADINGS = ("Note", "Line", "Page", "Claim", "Entry", "Case", "Record", "View", "Short", "Final")
SAID = ("{}", "I say that {}", "Everyone knows that {}", "It is true that {}", "Once more: {}")
_VERDICT = ("Verdict", "Judgement", "Result", "Outcome")


def _asked(rng, statement, answers):
    """One question to a document: the shorter the way from the question to what it is about, the
    sooner it is learned.
    """
    label = rng.choice(statement.labels)
    text, question, answer = statement.text, statement.ask(label), answers[label]
    if rng.random() < 0.3:
        text, question = (
            rng.choice(SAID).format(relations.lower(sentence)) for sentence in (text, question)
        )
    if rng.random() < 0.5:
        return f"{text} {question[:-1]}? {answer}."
    mark, between, numbers = rng.choice(_MARKS), rng.choice(_BETWEEN), rng.choice(_NUMBERS)
    part = rng.choice(_HEADINGS)
    verdict = " ".join(rng.sample(_HEADINGS, rng.randrange(3)) + [rng.choice(_VERDICT)])
    parts = {part + numbers[0]: text, part + numbers[1]: question, verdict: f"{answer}."}
    return between.join(f"{mark}{heading}: {text}" for heading, text in parts.items())


def _story(rng, world):
    story = stories.make_story(rng, EVERYTHING)
    text = stories.tell(rng, story)
    kind = rng.random()
    if kind < 0.4:
        return f"{text} In short: {stories.summary_of(story)}"
    if kind < 0.9:
        question, answer, _ = stories.ask(rng, story, EVERYTHING)
        return f"{text} {question} {answer[0].upper()}{answer[1:]}."
    return text


# Makers and weights of documents. A reasoning or restating document is a third as long as others.
_KINDS = {
    Kind.CREATURE: (_creature_page, 2),
    Kind.QUIZ: (_quiz, 2),
    Kind.SCRIPT: (_script, 1),
    Kind.LEXICON: (_lexicon, 4),
    Kind.REASONING: (_reasoning, 34),
    Kind.RESTATING: (_restating, 30),
    Kind.STORY: (_story, 4),
}
