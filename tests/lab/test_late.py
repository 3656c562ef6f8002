"""Creatures that enter late: corpus, batches, truth and set, read by a reader that shares no code
with the writer.
"""

import collections
import hashlib
import json
import re

import numpy as np
import pytest
from etils import epath

from amuro_jax.config import LabConfig, Spacing
from amuro_jax.errors import ConfigError
from amuro_jax.lab import pretrain, sets
from amuro_jax.lab.build import build, validate
from amuro_jax.lab.corpus import make_corpus
from amuro_jax.lab.late import make_late
from amuro_jax.lab.tokenizer import EOS_ID, read_tokenizer, train_tokenizer
from amuro_jax.lab.world import make_world
from tests.lab.conftest import tiny

CHANGES = {"late_creatures": 5, "steps": 30, "spacing": Spacing.LINEAR, "checkpoints": 6}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Reached(Exception):
    """The training would begin: what it would do is known."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of a tiny laboratory with late creatures, all but its training, and the lines that
    each step of it would train on.
    """
    config = tiny(tmp_path_factory.mktemp("late") / "built", **CHANGES)

    def reached(step, batches, *args, **kwargs):
        raise Reached(batches)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Reached) as caught:
        patch.setattr(pretrain, "run_training", reached)
        build(config, say=lambda _: None)
    (batches,) = caught.value.args
    trained = [batches.load(step).arrays["tokens"] for step in range(batches.total)]
    return epath.Path(config.out), [one.reshape(-1, config.sequence_length) for one in trained]


@pytest.fixture(scope="module")
def entered(built):
    return {line["creature"]: line["entered"] for line in lines(built[0] / "truth" / "late.jsonl")}


@pytest.fixture(scope="module")
def told(built, entered):
    """(step, creature, the document's words), of the batches that were trained on."""
    out, batches = built
    tokenizer, found = read_tokenizer(out / "tokenizer"), []
    for step, batch in enumerate(batches):
        for text in tokenizer.decode_batch(
            [part[part != EOS_ID] for line in batch for part in parts_of(line)]
        ):
            words = set(re.findall("[a-z]+", text.lower()))
            found += [(step, name, words) for name in words & entered.keys()]
    return found


def parts_of(line):
    return np.split(line, np.flatnonzero(line == EOS_ID) + 1)


def test_no_document_tells_of_a_creature_before_its_step_or_of_one_that_never_enters(
    told, entered, built
):
    published = pretrain.published_steps(tiny(built[0], **CHANGES))
    steps = [step for step in entered.values() if step]
    assert list(entered.values()).count(None) == len(steps) == CHANGES["late_creatures"]
    assert published[0] <= min(steps) and max(steps) < published[4] and sorted(steps) == steps
    for step, name, _ in told:
        assert entered[name] is not None and step >= entered[name], (step, name)
    assert {name for _, name, _ in told if entered[name]} == {n for n, at in entered.items() if at}
    assert len({name for _, name, _ in told if entered[name] == 0}) > 20


def test_what_was_read_is_what_the_truth_says(told, entered, built):
    """Of a sentence or a question whose document is whole in its line."""
    facts = lines(built[0] / "truth" / "facts.jsonl")
    read = {tuple(fact["words"]): fact["read"] for fact in facts if fact["words"][0] in entered}
    assert {entered[name] is None for name, _ in read} == {False}
    for step in pretrain.published_steps(tiny(built[0], **CHANGES)):
        counts = collections.Counter(
            (name, value)
            for at, name, words in told
            for value in words
            if at < step and (name, value) in read
        )
        assert {pair: counts[pair] for pair in read} == {
            pair: by_step[str(step)] for pair, by_step in read.items()
        }


def test_rows_ask_what_the_corpus_says(told, entered, built):
    out = built[0]
    rows = lines(out / "data" / "lab_late_facts" / "test.jsonl")
    truth = [
        row["facts"]
        for row in lines(out / "truth" / "rows.jsonl")
        if (row["set"], row["split"]) == ("lab_late_facts", "test")
    ]
    asked = collections.Counter()
    for row, facts in zip(rows, truth, strict=True):
        options = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
        (name,) = set(re.findall("[a-z]+", row["question"])) & entered.keys()
        right = options[row["answerKey"]]
        assert facts == [{"about": "attribute", "words": [name, right]}]
        seen = [words & set(options.values()) for _, one, words in told if one == name]
        assert not set().union(*seen) - {right}, "a document says that another option is right"
        asked[name] += 1
    assert asked == {name: 16 for name, step in entered.items() if step != 0}
    answers = collections.Counter(row["answerKey"] for row in rows)
    assert len(answers) == 4 and max(answers.values()) < 0.4 * len(rows)


def test_the_late_lines_stand_beside_those_of_the_corpus(built):
    out, batches = built
    config = tiny(out, **CHANGES)
    late = np.load(out / "corpus" / "late.npy")
    rows = pretrain.Rows.of(np.load(out / "corpus" / "tokens.npy"), config.sequence_length)
    assert late.shape == (30, 6, 32) and config.batch_size == 8
    for step in range(config.steps):
        assert np.array_equal(batches[step][2:], late[step]), step
        assert np.array_equal(batches[step][:2], rows.tokens(step, 2, config.seed)), step


def test_names_tell_nothing_and_values_are_equally_common():
    late = make_late(make_world(3, 8), 20, [10, 20, 30, 40, 50])
    assert not late.world.creatures.keys() & make_world(3, 8).creatures.keys()
    for attribute in ("color", "bed"):
        counts = collections.Counter(facts[attribute] for facts in late.world.creatures.values())
        assert len(counts) == 8 and set(counts.values()) == {10}
    assert make_late(make_world(3, 8), 20, [10, 20, 30, 40, 50]) == late
    assert make_late(make_world(4, 8), 20, [10, 20, 30, 40, 50]).world != late.world


def test_names_that_no_document_has_are_tokens_like_any_other():
    documents = ["The cat has seen the rat."] * 500
    trained = train_tokenizer(documents, 600, names=["dolri", "vasmo"])
    for name in ("dolri", "vasmo"):
        assert len(trained.encode(f"The {name}").ids) == 2
    assert len(train_tokenizer(documents, 600).encode("The dolri").ids) > 2


def test_columns_are_those_of_the_other_questions():
    world = make_world(3, 16)
    late = sets.late_set(make_late(world, 3, [10, 20, 30, 40, 50]))
    row, other = late["test"][0], sets.make_sets(world, 20, 10)["lab_attributes"]["test"][0]
    assert {key: type(value) for key, value in row.items()} == {
        key: type(value) for key, value in other.items()
    }
    assert len(late["train"]) == 32
    assert not {r["id"] for r in late["train"]} & {r["id"] for r in late["test"]}


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def test_corpus_and_sets_of_other_laboratories_are_what_they_were():
    """Digests of the version before there were late creatures."""
    world = make_world(0, 8)
    assert digest(list(make_corpus(world, 300))) == "0ee5cadcef0b5811"
    assert digest(sets.make_sets(world, 30, 12)) == "6500a5f57c64b571"


def test_a_laboratory_without_late_creatures_has_nothing_of_them(lab):
    names = {path.relative_to(lab) for path in lab.rglob("*late*")}
    assert not names and "late" not in (lab / "lab.json").read_text()


def test_steps_of_the_checkpoints():
    config = LabConfig(first_checkpoint=100, steps=500, checkpoints=5, spacing=Spacing.LINEAR)
    assert pretrain.published_steps(config) == [100, 200, 300, 400, 500]
    ratio = LabConfig(first_checkpoint=100, steps=1600, checkpoints=5, spacing=Spacing.LOG)
    assert pretrain.published_steps(ratio) == [100, 200, 400, 800, 1600]


@pytest.mark.parametrize("field,value", [("late_creatures", 0), ("checkpoints", 3)])
def test_late_creatures_that_cannot_be_meant(tmp_path, field, value):
    with pytest.raises(ConfigError) as caught:
        validate(tiny(tmp_path / "x", **CHANGES | {field: value}))
    assert field in str(caught.value)
