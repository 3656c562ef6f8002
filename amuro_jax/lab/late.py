"""Creatures that the corpus tells of from a known step on, and as many that it never tells of:
what a search for when something is learned can be judged by. No jax.

They come in lines of their own, three quarters of each step's, one sentence or one question to a
document.
"""

import dataclasses

import numpy as np
import tokenizers

from amuro_jax.config import LabConfig
from amuro_jax.lab import words
from amuro_jax.lab.corpus import FACTS, QUESTIONS, answered
from amuro_jax.lab.tokenizer import EOS_ID
from amuro_jax.lab.world import World, make_creatures, stream

LATE_SET = "lab_late_facts"
# Creatures told of from the first step on, and never asked about: they teach the form.
FOUNDERS = 40
# The creatures that entered last are told of as often as all together.
RECENT = 12
RECENT_SHARE = 0.5
FEWEST = 4  # published checkpoints that entries are spread over three quarters of


@dataclasses.dataclass(frozen=True)
class Late:
    """The creatures of the late lines.

    Attributes:
        world: their values.
        entry: creature → step from which on documents tell of it, in this order; 0: a founder;
            None: no document ever does.
    """

    world: World
    entry: dict[str, int | None]

    @property
    def asked(self) -> list[str]:
        """Those that the set asks about: all but the founders."""
        return [name for name, step in self.entry.items() if step != 0]


def make_late(world: World, count: int, published: list[int]) -> Late:
    """`count` creatures that enter at steps evenly spread over the first three quarters of the
    published checkpoints, and as many that never enter.

    Args:
        world: whose creatures have other names.
        published: steps of the published checkpoints.
    """
    rng = stream(world.seed, "late")
    creatures = make_creatures(rng, FOUNDERS + 2 * count, words.VALUES, world.creatures)
    first, span = published[0], published[len(published) * 3 // 4] - published[0]
    steps = [0] * FOUNDERS + [first + span * index // count for index in range(count)]
    entry = dict(zip(creatures, steps + [None] * count, strict=True))
    return Late(World(world.seed, creatures), entry)


def late_words(late: Late) -> list[str]:
    """Names and values, which the tokenizer learns alike whether a document has them or not."""
    more = [value for values in words.MORE_ATTRIBUTES.values() for value in values]
    return [*late.world.creatures, *more]


def late_lines(config: LabConfig) -> int:
    """Lines of each step that tell of late creatures; the others are of the corpus."""
    return config.batch_size * 3 // 4 if config.late_creatures else 0


def make_lines(late: Late, config: LabConfig, tokenizer: tokenizers.Tokenizer) -> np.ndarray:
    """int32 [steps, late lines, T]: whole documents with eos after each, and eos to the end."""
    documents = {
        name: [
            encoding.ids + [EOS_ID]
            for encoding in tokenizer.encode_batch(_documents(name, late.world.creatures[name]))
        ]
        for name, step in late.entry.items()
        if step is not None
    }
    shape = (config.steps, late_lines(config), config.sequence_length)
    lines = np.full(shape, EOS_ID, np.int32)
    for step in range(config.steps):
        rng = stream(late.world.seed, f"late/{step}")
        entered = [name for name in documents if late.entry[name] <= step]
        for line in lines[step]:
            _fill(line, rng, entered, documents)
    return lines


def _documents(creature, facts):
    """All that is ever said of a creature."""
    said = []
    for attribute, value in facts.items():
        said += [form.format(c=creature, v=value) for form in FACTS[attribute]]
        said += [answered(question.format(c=creature), value) for question in QUESTIONS[attribute]]
    return said


def _fill(line, rng, entered, documents):
    """Fills a line with documents, as long as the next one fits in."""
    recent = entered[-RECENT:] if len(entered) > FOUNDERS else entered
    end = 0
    while True:
        name = rng.choice(recent if rng.random() < RECENT_SHARE else entered)
        ids = rng.choice(documents[name])
        if end + len(ids) > len(line):
            return
        line[end : end + len(ids)] = ids
        end += len(ids)


def times_read(lines: np.ndarray, steps: list[int]) -> dict[tuple[int, ...], np.ndarray]:
    """How often each document was trained on before each of some steps: its tokens → int [C].

    Args:
        lines: as of `make_lines`.
    """
    read = {}
    for step, of_step in enumerate(lines):
        later = np.array(steps) > step
        for line in of_step:
            starts = np.concatenate([[0], np.flatnonzero(line == EOS_ID) + 1])
            for start, end in zip(starts[:-1], starts[1:] - 1, strict=True):
                if end > start:
                    ids = tuple(line[start:end].tolist())
                    read[ids] = read.get(ids, 0) + later
    return read
