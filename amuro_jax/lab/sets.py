"""The laboratory's data sets, in the native columns of the real sets they stand for (MNLI, PAWS,
SocialIQa, XSum, ARC, HellaSwag).
"""

from amuro_jax.errors import ConfigError
from amuro_jax.lab import holdout, relations, stories, words
from amuro_jax.lab.corpus import QUESTIONS, SAID
from amuro_jax.lab.late import LATE_SET, Late
from amuro_jax.lab.world import INSIDE, OUTSIDE, World, stream

# Rows of the training split of the multiple-choice sets, from which only shots are drawn.
SHOT_ROWS = 32


def make_sets(world: World, train_rows: int, test_rows: int) -> dict[str, dict[str, list[dict]]]:
    """{set: {split: rows}}; labels are balanced, and no text of a test split is in its training
    split.

    Tests of pairs compare words that no training row compares (`holdout`).

    Raises:
        ConfigError: more rows than the world has.
    """
    sets = {}
    for name, make in {
        "lab_nli": _nli,
        "lab_paraphrase": _paraphrase,
        "lab_question": _question,
        "lab_summary": _summary,
    }.items():
        texts = set()  # of both splits
        test = _distinct(
            world.seed, name, make, (INSIDE, False), test_rows, texts, holdout.for_test
        )
        train = _distinct(
            world.seed,
            f"{name}/train",
            make,
            (INSIDE, False),
            train_rows,
            texts,
            holdout.for_training,
        )
        sets[name] = {"train": _numbered(name, train), "test": _numbered(name, test)}
        other = _distinct(
            world.seed, f"{name}_ood", make, (OUTSIDE, True), test_rows, set(), holdout.for_test
        )
        sets[f"{name}_ood"] = {"test": _numbered(name, other)}
    said = _distinct(
        world.seed, "lab_paraphrase_said", _said, (OUTSIDE,), test_rows, set(), holdout.for_test
    )
    sets["lab_paraphrase_said"] = {"test": _numbered("lab_paraphrase", said)}
    sets["lab_attributes"] = _split(_attributes(world), test_rows, "lab_attributes")
    sets["lab_events"] = _split(_events(world), test_rows, "lab_events")
    return sets


def _distinct(seed, name, make, side, count, texts, fits):
    """`count` rows that fit, of texts not yet among `texts`, which grows: the labels take turns,
    then the rows are shuffled.
    """
    rng, rows = stream(seed, name), []
    for _ in range(50 * count):
        row, text = make(rng, *side, len(rows))
        if text not in texts and fits(seed, *text):
            texts.add(text)
            rows.append(row)
        if len(rows) == count:
            rng.shuffle(rows)
            return rows
    raise ConfigError(
        f"the world has fewer than {count} different rows of {name}",
        where="config.train_rows",
        hint="ask for fewer rows",
    )


def _nli(rng, side, other, number):
    premise, hypothesis, label = relations.inference(rng, side, number, other)
    return {"premise": premise, "hypothesis": hypothesis, "label": label}, (premise, hypothesis)


def _paraphrase(rng, side, other, number):
    first, second, label = relations.paraphrase(rng, side, number, other)
    return {"sentence1": first, "sentence2": second, "label": label}, (first, second)


def _said(rng, side, number):
    """Portraits of other people, set in the ways of saying that the corpus uses and no training row
    does: out of domain for fine-tuning alone.
    """
    label = number % 2
    statement = relations.portrait(rng, side, label)
    first, second = (
        rng.choice(SAID[1:]).format(relations.lower(text))
        for text in (statement.text, statement.ask(label))
    )
    row = {"sentence1": first, "sentence2": second, "label": label}
    return row, (first, second)


def _question(rng, side, other, number):
    story = stories.make_story(rng, side)
    context = stories.tell(rng, story, other, ending=False)
    question, right, wrong = stories.ask(rng, story, side)
    position = number % 3
    answers = wrong[:position] + [right] + wrong[position:]
    row = {
        "context": context,
        "question": question,
        **dict(zip(("answerA", "answerB", "answerC"), answers, strict=True)),
        "label": str(position + 1),
    }
    return row, (context,)


def _summary(rng, side, other, number):
    story = stories.make_story(rng, side)
    document = stories.tell(rng, story, other)
    return {"document": document, "summary": stories.summary_of(story)}, (document,)


_IDS = {"lab_nli": ("idx", int), "lab_paraphrase": ("id", int), "lab_summary": ("id", str)}


def _numbered(name, rows):
    if name not in _IDS:
        return rows
    column, kind = _IDS[name]
    return [row | {column: kind(number)} for number, row in enumerate(rows)]


def _split(rows, test_rows, name):
    if len(rows) < test_rows + SHOT_ROWS:
        raise ConfigError(
            f"{name} has {len(rows)} rows, {test_rows} + {SHOT_ROWS} are needed",
            where="config.test_rows",
            hint="ask for fewer",
        )
    return {"train": rows[test_rows : test_rows + SHOT_ROWS], "test": rows[:test_rows]}


def _attributes(world):
    rng = stream(world.seed, "lab_attributes")
    keys = [
        (creature, attribute, number)
        for creature, facts in world.creatures.items()
        for attribute in facts
        for number in range(2)
    ]
    rng.shuffle(keys)
    return [_attribute_row(rng, world, *key) for key in keys]


def late_set(late: Late) -> dict[str, list[dict]]:
    """Split → rows of the set about late creatures: of each that is asked about every attribute in
    every wording; the training split, from which only shots are drawn, is about the founders.
    """
    rng = stream(late.world.seed, LATE_SET)
    founders = [name for name in late.world.creatures if name not in late.asked]
    train = _late_rows(rng, late.world, founders)
    return {"train": train[:SHOT_ROWS], "test": _late_rows(rng, late.world, late.asked)}


def _late_rows(rng, world, creatures):
    keys = [
        (creature, attribute, number)
        for creature in creatures
        for attribute in world.creatures[creature]
        for number in range(len(QUESTIONS[attribute]))
    ]
    rng.shuffle(keys)
    return [_attribute_row(rng, world, *key) for key in keys]


def _attribute_row(rng, world, creature, attribute, number):
    right = world.creatures[creature][attribute]
    texts = rng.sample([value for value in words.VALUES[attribute] if value != right], 3)
    index = rng.randrange(4)
    texts.insert(index, right)
    return {
        "id": f"{creature}-{attribute}-{number}",
        "question": QUESTIONS[attribute][number].format(c=creature),
        "choices": {"text": texts, "label": list("ABCD")},
        "answerKey": "ABCD"[index],
    }


def _events(world):
    rng = stream(world.seed, "lab_events")
    keys = [
        (activity, step, person)
        for activity in words.SCRIPTS
        for step in (1, 2, 3)
        for person in INSIDE.names
    ]
    rng.shuffle(keys)
    return [_event_row(rng, number, *key) for number, key in enumerate(keys)]


def _event_row(rng, number, activity, step, person):
    """The next step, against another step of the same activity and two of other activities."""
    steps, (name, pronoun) = words.SCRIPTS[activity], person
    others = rng.sample([other for other in words.SCRIPTS if other != activity], 2)
    endings = [rng.choice([steps[index] for index in range(4) if index != step])] + [
        rng.choice(words.SCRIPTS[other]) for other in others
    ]
    right = rng.randrange(4)
    endings.insert(right, steps[step])
    text = f"{name} {steps[0]}. " + "".join(f"Then {pronoun} {done}. " for done in steps[1:step])
    return {
        "ind": number,
        "activity_label": activity.capitalize(),
        "ctx": f"{text}Then {pronoun}",
        "endings": [ending + "." for ending in endings],
        "label": str(right),
    }
