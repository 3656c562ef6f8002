"""The exported ground truth against a count by hand: the steps of the training one by one, and the
documents that end in their lines.
"""

import collections
import json
import re

import numpy as np
import pytest

from amuro_jax.lab import pretrain, truth
from amuro_jax.lab.corpus import Kind
from amuro_jax.lab.tokenizer import EOS_ID, read_tokenizer
from amuro_jax.lab.truth import About, Fact
from amuro_jax.lab.world import make_world
from tests.lab.conftest import tiny


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def read(lab):
    """(about, words) → step → readings, as exported."""
    return {
        (line["about"], tuple(line["words"])): line["read"]
        for line in lines(lab / "truth" / "facts.jsonl")
    }


def documents_by_line(lab, config):
    """Line of the training rows → texts of the documents that end there."""
    tokens, ending = np.load(lab / "corpus" / "tokens.npy"), collections.defaultdict(list)
    tokenizer, start = read_tokenizer(lab / "tokenizer"), 0
    for end in np.flatnonzero(tokens == EOS_ID):
        line = end // config.sequence_length - pretrain.HELD_OUT_ROWS
        ending[line].append(tokenizer.decode(tokens[start:end]))
        start = end + 1
    return ending


def test_facts_are_counted_as_they_were_trained_on(lab, read):
    config = tiny(lab)
    ending, world = documents_by_line(lab, config), make_world(config.seed, config.creatures)
    rows = pretrain.Rows.of(np.load(lab / "corpus" / "tokens.npy"), config.sequence_length)
    counts, published = collections.Counter(), pretrain.published_steps(config)
    attributes = {words: seen for (about, words), seen in read.items() if about == "attribute"}
    for step in range(config.steps):
        for line in rows.numbers(step, config.batch_size, config.seed):
            for text in ending[line]:
                told = [set(re.findall(r"\w+", part)) for part in text.split("\n\n")]
                counts.update(
                    (creature, value)
                    for creature, facts in world.creatures.items()
                    for value in facts.values()
                    if any({creature, value} <= words for words in told)
                )
        if step + 1 in published:
            for words, seen in attributes.items():
                assert seen[str(step + 1)] == counts[words], (step, words)
    assert sum(counts.values()) > 10 and counts.keys() <= attributes.keys()


def test_a_second_pass_counts_again(lab):
    """More steps than the corpus has lines: each document is read once more in each pass."""
    tokens, config = np.load(lab / "corpus" / "tokens.npy"), tiny(lab)
    lines = len(pretrain.Rows.of(tokens, config.sequence_length).train)
    steps = [2 * lines // config.batch_size, 3 * lines // config.batch_size]
    seen = pretrain.times_seen(config, tokens, [*steps, 3 * lines])
    inside = seen[:, -1] > 0
    assert set(seen[inside, -1]) == {3 * config.batch_size}
    assert set(seen[inside, 0]) <= {1, 2} and set(seen[inside, 1]) <= {2, 3}


def test_documents_say_what_they_are_about():
    world = make_world(0, 8)
    (one, facts), (other, _) = list(world.creatures.items())[:2]
    color = Fact(About.ATTRIBUTE, (one, facts["color"]))
    page = f"The {one} is {facts['color']}."
    assert truth.facts_of_document(world, Kind.CREATURE, page) == {color}
    quiz = f"Question: What color is the {one}?\nAnswer: {facts['color']}\n\nQuestion: {other}"
    assert truth.facts_of_document(world, Kind.QUIZ, quiz) == {color}
    assert truth.facts_of_document(world, Kind.STORY, page) == set()
    text = "Mara is merry. Is Mara glad? Certainly."
    same = Fact(About.TRAIT, ("glad", "merry"))
    assert truth.facts_of_document(world, Kind.REASONING, text) == {same}
    apart = "Someone merry is happy. To be sad is to be gloomy."
    found = truth.facts_of_document(world, Kind.LEXICON, apart)
    assert {fact.words for fact in found} == {("happy", "merry"), ("gloomy", "sad")}


def test_every_row_that_asks_for_knowledge_names_it(lab, read):
    rows = lines(lab / "truth" / "rows.jsonl")
    for row in rows:
        if row["set"].startswith(("lab_question", "lab_summary")):
            assert row["facts"] == []
        elif row["set"] in ("lab_attributes", "lab_events"):
            assert len(row["facts"]) == 1
    asked = {
        (fact["about"], tuple(fact["words"]))
        for row in rows
        if row["set"] == "lab_attributes"
        for fact in row["facts"]
    }
    assert asked & set(read) and {about for about, _ in asked} == {About.ATTRIBUTE}
    counted = {(row["set"], row["split"]): row["row"] for row in rows}
    for (name, split), last in counted.items():
        assert len(lines(lab / "data" / name / f"{split}.jsonl")) == last + 1
