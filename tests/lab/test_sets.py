"""The data sets: labels checked against the world by a reader that shares no code with the writer,
splits, balance, columns.
"""

import collections
import itertools
import re

import pytest

from amuro_jax.errors import ConfigError
from amuro_jax.lab import words
from amuro_jax.lab.sets import make_sets
from amuro_jax.lab.world import make_world

POLE = {
    word: (number, pole)
    for number, poles in enumerate(words.POLES)
    for pole in (0, 1)
    for word in poles[pole]
}
KIND = {
    thing: category
    for category, both in words.THINGS.items()
    for things in both
    for thing in things
}
VERB = {form: row[-2] for row in words.DEEDS + words.GETTING for form in row[-2:]}


@pytest.fixture(scope="module", params=[0, 7])
def world(request):
    return make_world(request.param, 40)


@pytest.fixture(scope="module")
def sets(world):
    return make_sets(world, 1200, 300)


def plain(text):
    text = re.sub(
        r"^(We heard that|They say that|Surely|It is known that|The report says that|I say that"
        r"|Everyone knows that|It is true that|Once more:) ",
        "",
        text,
    )
    return text[0].upper() + text[1:]


def label_of_traits(given, asked):
    if given == asked:
        return 0
    return 2 if given[0] == asked[0] else 1


def label_of_havings(told, asked):
    """All ways to have things of the category that agree with what is told.

    What is asked holds in all, some or none.
    """
    things = [word for phrase in (told, asked) for word in re.findall(r"\w+", phrase)]
    category = next(KIND.get(word, word) for word in things if word in KIND or word in words.THINGS)
    members = [thing for thing, kind in KIND.items() if kind == category]
    ways = [
        set(way)
        for size in range(len(members) + 1)
        for way in itertools.combinations(members, size)
    ]

    def holds(phrase, way):
        if phrase == "nothing":
            return not way
        parts = re.findall(r"(a|no) (\w+)", phrase)
        return all(
            bool(way & ({noun} if noun in KIND else set(members))) == (article == "a")
            for article, noun in parts
        )

    answers = {holds(asked, way) for way in ways if holds(told, way)}
    return 1 if len(answers) == 2 else 0 if answers == {True} else 2


def nli_label(premise, hypothesis):
    premise, hypothesis = plain(premise), plain(hypothesis)
    assert premise.split()[0] == hypothesis.split()[0]
    if found := re.fullmatch(r"\w+ is (\w+)\.", hypothesis):
        return label_of_traits(POLE[premise.rstrip(".").split()[-1]], POLE[found[1]])
    place = re.search(r" at the (\w+)\.", premise)
    if found := re.fullmatch(r"\w+ was at the (\w+)\.", hypothesis):
        return 1 if place is None else 0 if place[1] == found[1] else 2
    told, asked = (
        re.fullmatch(r"\w+ (\w+) (.+?)( at the \w+)?\.", text) for text in (premise, hypothesis)
    )
    assert told[1] == asked[1]
    return label_of_havings(told[2], asked[2])


def meaning(sentence):
    sentence = plain(sentence)
    if found := re.fullmatch(r"(\w+) is (\w+)\.|You may call (\w+) (\w+)\.", sentence):
        return found[1] or found[3], POLE[found[2] or found[4]]
    if found := re.fullmatch(r"The (\w+) was (\w+) by the (\w+)\.", sentence):
        return found[3], VERB[found[2]], found[1]
    if found := re.fullmatch(r"The (\w+) (\w+) the (\w+)\.", sentence):
        return found[1], VERB[found[2]], found[3]
    found = re.fullmatch(r"(?:At the (\w+), )?(\w+) (\w+) a (\w+)(?: at the (\w+))?\.", sentence)
    return found[2], VERB[found[3]], found[4], found[1] or found[5]


@pytest.mark.parametrize(
    "name,split", [("lab_nli", "train"), ("lab_nli", "test"), ("lab_nli_ood", "test")]
)
def test_inference_labels_are_true(sets, name, split):
    wrong = [
        row
        for row in sets[name][split]
        if nli_label(row["premise"], row["hypothesis"]) != row["label"]
    ]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize(
    "name,split",
    [
        ("lab_paraphrase", "train"),
        ("lab_paraphrase", "test"),
        ("lab_paraphrase_ood", "test"),
        ("lab_paraphrase_said", "test"),
    ],
)
def test_paraphrase_labels_are_true(sets, name, split):
    wrong = [
        row
        for row in sets[name][split]
        if (meaning(row["sentence1"]) == meaning(row["sentence2"])) != bool(row["label"])
    ]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("name", ["lab_question", "lab_question_ood"])
def test_the_right_answer_stands_in_the_context_and_no_other(sets, name):
    for row in sets[name]["test"]:
        answers = [row[f"answer{letter}"].lower().removeprefix("to ") for letter in "ABC"]
        told = [bool(re.search(rf"\b{answer}\b", row["context"].lower())) for answer in answers]
        if row["question"].startswith(
            "Who"
        ):  # every name of the story stands in it; the asked-for one is not the actor's
            assert row["answer" + "ABC"[int(row["label"]) - 1]] in row["context"]
        else:
            assert told == [str(place) == row["label"] for place in (1, 2, 3)], row


def test_summaries_say_what_the_document_says(sets):
    for row in sets["lab_summary"]["test"] + sets["lab_summary_ood"]["test"]:
        person, verb, thing, place, friend = re.fullmatch(
            r"(\w+) (\w+) a (\w+) at the (\w+) for (\w+)\.", row["summary"]
        ).groups()
        assert all(word in row["document"] for word in (person, thing, place, friend))
        assert any(form in row["document"] for form in VERB if VERB[form] == VERB[verb])


def test_attribute_answers_are_facts_of_the_world(world, sets):
    for row in sets["lab_attributes"]["test"]:
        creature, attribute, _ = row["id"].split("-")
        options = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
        assert creature in row["question"] and len(set(options.values())) == 4
        assert options[row["answerKey"]] == world.creatures[creature][attribute]


def test_events_go_on_with_the_next_step(sets):
    for row in sets["lab_events"]["test"]:
        steps = words.SCRIPTS[row["activity_label"].lower()]
        told = sum(step in row["ctx"] for step in steps)
        assert (
            row["endings"][int(row["label"])] == steps[told] + "." and len(set(row["endings"])) == 4
        )


def test_labels_are_balanced(sets):
    for name, count in (
        ("lab_nli", 3),
        ("lab_paraphrase", 2),
        ("lab_nli_ood", 3),
        ("lab_paraphrase_ood", 2),
    ):
        seen = collections.Counter(row["label"] for row in sets[name]["test"])
        assert len(seen) == count and max(seen.values()) - min(seen.values()) <= 1, (name, seen)


def test_a_hypothesis_alone_tells_little(sets):
    """The best guess from the form of the hypothesis (its words that are no names, places or
    traits) is near chance.
    """
    forms = collections.defaultdict(collections.Counter)
    for row in sets["lab_nli"]["train"]:
        text = row["hypothesis"]
        kind = f"{' no ' in text} {text.split()[-1][:-1] in words.THINGS}"
        form = "is" if " is " in text else "was" if " was " in text else kind
        forms[form][row["label"]] += 1
    right = sum(max(counts.values()) for counts in forms.values())
    assert right / 1200 < 0.45


TEXTS = {
    "lab_nli": ("premise", "hypothesis"),
    "lab_paraphrase": ("sentence1", "sentence2"),
    "lab_question": ("context",),
    "lab_summary": ("document",),
    "lab_attributes": ("question",),
    "lab_events": ("ctx", "activity_label"),
}


@pytest.mark.parametrize("name,columns", TEXTS.items())
def test_train_and_test_share_no_text(sets, name, columns):
    train, test = (
        {frozenset(row[column] for column in columns) for row in sets[name][split]}
        for split in ("train", "test")
    )
    assert not train & test


PAIRS = {"lab_nli": ("premise", "hypothesis"), "lab_paraphrase": ("sentence1", "sentence2")}


def content(row, columns):
    """The traits, deeds and things of a row's two texts."""
    told = KIND.keys() | POLE.keys() | {verb for deed in words.DEEDS for verb in deed}
    return [set(re.findall(r"\w+", row[column])) & told for column in columns]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("ending", ["", "_ood"])
def test_tests_compare_what_no_training_row_compares(sets, name, ending):
    trained = [content(row, PAIRS[name]) for row in sets[name]["train"]]
    seen_words = set().union(*(one | two for one, two in trained))
    seen_pairs = {frozenset((a, b)) for one, two in trained for a in one for b in two}
    for row in sets[name + ending]["test"]:
        one, two = content(row, PAIRS[name])
        new_pairs = {
            frozenset((a, b)) for a in one & POLE.keys() for b in two & POLE.keys()
        } - seen_pairs
        assert (one | two) - seen_words or new_pairs, row


def test_the_restated_paraphrases_compare_what_no_training_row_compares(sets):
    trained = [content(row, PAIRS["lab_paraphrase"]) for row in sets["lab_paraphrase"]["train"]]
    seen = {frozenset((a, b)) for one, two in trained for a in one for b in two}
    for row in sets["lab_paraphrase_said"]["test"]:
        one, two = content(row, PAIRS["lab_paraphrase"])
        assert frozenset((*(one & POLE.keys()), *(two & POLE.keys()))) not in seen, row


@pytest.mark.parametrize("name,chance", [("lab_nli", 1 / 3), ("lab_paraphrase", 1 / 2)])
def test_no_word_tells_the_label(sets, name, chance):
    """Guessing by what label a word of the pair most often has in training is near chance in tests,
    and no better than that in training.
    """
    for column in PAIRS[name]:
        labels = collections.defaultdict(collections.Counter)
        for row in sets[name]["train"]:
            labels[row[column].split()[-1]][row["label"]] += 1
        for split, most in (("train", 0.13), ("test", 0.1)):
            rows = [row for row in sets[name][split] if row[column].split()[-1].rstrip(".") in POLE]
            right = sum(
                labels[row[column].split()[-1]].most_common(1)[0][0] == row["label"] for row in rows
            )
            assert abs(right / len(rows) - chance) < most, (column, split, right / len(rows))


def test_out_of_domain_words_are_not_those_of_training(sets):
    names = {name for name, _ in words.OTHER_NAMES}
    inside = " ".join(row["premise"] for row in sets["lab_nli"]["train"])
    outside = [row["premise"] for row in sets["lab_nli_ood"]["test"]]
    assert not names & set(re.findall(r"\w+", inside))
    assert all(names & set(re.findall(r"\w+", premise)) for premise in outside)


NATIVE = {
    "lab_nli": ("glue_mnli", "train"),
    "lab_paraphrase": ("paws_labeled_final", "test"),
    "lab_question": ("social_i_qa", "validation"),
    "lab_summary": ("xsum", "test"),
    "lab_attributes": ("ai2_arc_easy", "validation"),
    "lab_events": ("hellaswag", "validation"),
}


@pytest.mark.parametrize("name,real", NATIVE.items())
def test_columns_are_those_of_the_real_set(sets, shared, name, real):
    from amuro_jax.files import read_jsonl

    _, row = next(read_jsonl(shared / real[0] / f"{real[1]}.jsonl"))
    mine = sets[name]["test"][0]
    assert {key: type(value) for key, value in mine.items()} == {
        key: type(value) for key, value in row.items()
    }


def test_same_seed_same_rows_other_seed_other_rows():
    assert make_sets(make_world(3, 16), 20, 10) == make_sets(make_world(3, 16), 20, 10)
    assert (
        make_sets(make_world(3, 16), 20, 10)["lab_nli"]
        != make_sets(make_world(4, 16), 20, 10)["lab_nli"]
    )


def test_asking_for_more_rows_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match="lab_attributes has"):
        make_sets(make_world(0, 2), 10, 10)
