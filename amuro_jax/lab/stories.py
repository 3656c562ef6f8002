"""Short stories: an event in a few sentences.

Their summary; questions about them with right and wrong answers.
"""

import dataclasses

from amuro_jax.lab import words

_PRONOUNS = {"she": ("she", "her"), "he": ("he", "him")}


@dataclasses.dataclass(frozen=True)
class Story:
    """What happened: `actor` went to `place`, got `thing` (a `getting` row of words), `friend` felt
    `feeling` and got it.

    Attributes:
        actor, friend: (name, pronoun).
        getting: (base, past, same) of the verb.
    """

    actor: tuple[str, str]
    friend: tuple[str, str]
    place: str
    time: str
    thing: str
    getting: tuple[str, str, str]
    feeling: str


def make_story(rng, side) -> Story:
    """A story from the words of `side`."""
    actor, friend = rng.sample(side.names, 2)
    thing = rng.choice([thing for things in side.things.values() for thing in things])
    return Story(
        actor,
        friend,
        rng.choice(side.places),
        rng.choice(side.times),
        thing,
        rng.choice(words.GETTING),
        rng.choice(words.FEELINGS),
    )


def _fields(story):
    he, him = _PRONOUNS[story.actor[1]]
    friend_he, friend_him = _PRONOUNS[story.friend[1]]
    return {
        "A": story.actor[0],
        "he": he,
        "He": he.capitalize(),
        "him": him,
        "B": story.friend[0],
        "b": friend_he,
        "bhim": friend_him,
        "place": story.place,
        "time": story.time,
        "Time": story.time.capitalize(),
        "thing": story.thing,
        "verb": story.getting[0],
        "did": story.getting[1],
        "same": story.getting[2],
        "feeling": story.feeling,
    }


_OPENINGS = (
    "{A} went to the {place} {time}.",
    "{Time}, {A} walked to the {place}.",
    "{A} came to the {place} {time}.",
)
_MIDDLES = ("There {he} {did} a {thing}.", "{He} {did} a {thing} there.", "{He} {same} a {thing}.")
_TURNS = (
    "{B} was {feeling}, so {A} gave {bhim} the {thing}.",
    "{A} saw that {B} was {feeling} and gave {bhim} the {thing}.",
)
_ENDINGS = ("Then {he} went home.", "{B} thanked {him}.", "They talked all day.", "{B} smiled.")
_OTHER_OPENINGS = (
    "{Time}, {A} was seen at the {place}.",
    "The people at the {place} saw {A} {time}.",
)
_OTHER_TURNS = (
    "As {B} was {feeling}, the {thing} was for {bhim}.",
    "{B} got the {thing} from {A}, because {b} was {feeling}.",
)


def tell(rng, story: Story, other: bool = False, ending: bool = True) -> str:
    """The story in three or four sentences."""
    parts = [_OTHER_OPENINGS if other else _OPENINGS, _MIDDLES, _OTHER_TURNS if other else _TURNS]
    parts += [_ENDINGS] if ending else []
    return " ".join(rng.choice(part) for part in parts).format(**_fields(story))


def summary_of(story: Story) -> str:
    """One sentence with what counts."""
    return "{A} {did} a {thing} at the {place} for {B}.".format(**_fields(story))


_QUESTIONS = {
    "place": "Where did {A} go?",
    "thing": "What did {A} {verb}?",
    "friend": "Who got the {thing} from {A}?",
    "feeling": "How did {B} feel?",
    "time": "When did {A} go to the {place}?",
}


def ask(rng, story: Story, side) -> tuple[str, str, list[str]]:
    """(question, right answer, two wrong answers): the kind of the answers shows the topic."""
    topic = rng.choice(list(_QUESTIONS))
    right = {
        "place": f"to the {story.place}",
        "friend": story.friend[0],
        "thing": f"a {story.thing}",
    }.get(topic) or getattr(story, topic)
    wrong = rng.sample([answer for answer in _answers(topic, story, side) if answer != right], 2)
    return _QUESTIONS[topic].format(**_fields(story)), right, wrong


def _answers(topic, story, side):
    if topic == "place":
        return [f"to the {place}" for place in side.places]
    if topic == "thing":
        return [f"a {thing}" for things in side.things.values() for thing in things]
    if topic == "friend":
        return [name for name, _ in side.names if name != story.actor[0]]
    return words.FEELINGS if topic == "feeling" else words.TIMES + words.OTHER_TIMES
