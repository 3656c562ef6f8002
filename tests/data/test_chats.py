"""Conversations and preference pairs as tokens: what is learned, under both layouts; what is
refused.
"""

import json

import numpy as np
import pytest

from amuro_jax.data.encoding import encode_training_set
from amuro_jax.data.protocols import STRICT
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.errors import ConfigError, DataError

from .worlds import make_tokenizer, write_rows

PLAIN = make_tokenizer()
# The study's layout, written as a template.
LAYOUT = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# One that hides what the assistant said before its last turn.
FORGETFUL = LAYOUT.replace("{{ m['content'] }}", "{% if loop.last %}{{ m['content'] }}{% endif %}")
TURNS = [
    ("system", "be brief"),
    ("user", "no stone?"),
    ("assistant", "yes stone"),
    ("user", "grey"),
    ("assistant", "lies there"),
]


def messages(turns):
    return [{"role": role, "content": content} for role, content in turns]


def with_template(template, folder):
    PLAIN.save(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": PLAIN.token(PLAIN.eos_id), "chat_template": template})
    )
    return Tokenizer.load(folder, eos_id=PLAIN.eos_id)


def encode(root, task, tokenizer, **options):
    made = encode_training_set(
        get_task(task), "default", STRICT, tokenizer, rows=None, data_root=str(root), **options
    )
    return made.examples


def text_of(example, learned=True):
    return PLAIN.decode(example.tokens[example.loss_mask] if learned else example.tokens)


def test_the_tokenizers_template_learns_the_assistants_turns(tmp_path):
    write_rows(tmp_path, "tulu_v2", "train", [{"messages": messages(TURNS)}])
    tokenizer = with_template(LAYOUT, tmp_path / "t")
    (example,) = encode(tmp_path, "tulu", tokenizer, chat_template=True)
    (layout,) = encode(tmp_path, "tulu", tokenizer)
    assert text_of(example) == "yes stone<|endoftext|>lies there<|endoftext|>" == text_of(layout)
    assert text_of(example, learned=False) == text_of(layout, learned=False)


def test_a_template_that_cannot_be_split_into_turns_is_refused(tmp_path):
    write_rows(tmp_path, "tulu_v2", "train", [{"messages": messages(TURNS)}])
    tokenizer = with_template(FORGETFUL, tmp_path / "t")
    with pytest.raises(DataError, match="(?s)renders a turn otherwise.*row 0.*leave chat_template"):
        encode(tmp_path, "tulu", tokenizer, chat_template=True)
    with pytest.raises(DataError, match="no chat template"):
        encode(tmp_path, "tulu", PLAIN, chat_template=True)


@pytest.mark.parametrize("template", [False, True])
def test_of_a_pair_of_conversations_the_last_answers_are_learned(tmp_path, template):
    rows = [
        {
            "chosen": messages(TURNS),
            "rejected": messages([*TURNS[:-1], ("assistant", "no, no")]),
            "id": "a",
        }
    ]
    write_rows(tmp_path, "tulu_preferences", "train", rows)
    tokenizer = with_template(LAYOUT, tmp_path / "t")
    (pair,) = encode(tmp_path, "tulu_preferences", tokenizer, pairs=True, chat_template=template)
    assert text_of(pair.chosen) == "lies there<|endoftext|>"
    assert text_of(pair.rejected) == "no, no<|endoftext|>"
    for one in (pair.chosen, pair.rejected):  # the answer is one piece, at the end
        first = int(np.argmax(one.loss_mask))
        assert one.loss_mask[first:].all() and one.tokens[-1] == PLAIN.eos_id
        assert "yes stone<|endoftext|>" in PLAIN.decode(one.tokens[:first])
    (alone,) = encode(tmp_path, "tulu_preferences", tokenizer, chat_template=template)
    assert np.array_equal(alone.tokens, pair.chosen.tokens)


def test_a_pair_that_would_have_to_be_cut_is_left_out(tmp_path):
    long = messages([("user", "stone?"), ("assistant", "grey stone " * 60)])
    short = messages([("user", "stone?"), ("assistant", "yes")])
    other = messages([("user", "stone?"), ("assistant", "no")])
    rows = [{"chosen": long, "rejected": short}, {"chosen": short, "rejected": other}]
    write_rows(tmp_path, "tulu_preferences", "train", rows)
    (pair,) = encode(tmp_path, "tulu_preferences", PLAIN, pairs=True, max_length=64)
    assert pair.row == 1


@pytest.mark.parametrize(
    "rejected,what",
    [
        ([("user", "other"), ("assistant", "no")], "differ before their last turn"),
        ([("user", "stone?"), ("user", "no")], "must be the assistant's"),
        ("no", "must both be texts, or lists"),
        ([], "must both be texts, or lists"),
    ],
)
def test_pairs_that_are_none_are_named_by_line(tmp_path, rejected, what):
    good = messages([("user", "stone?"), ("assistant", "yes")])
    bad = rejected if isinstance(rejected, str) else messages(rejected)
    rows = [{"chosen": good, "rejected": messages([("user", "stone?"), ("assistant", "no")])}]
    write_rows(tmp_path, "tulu_preferences", "train", [*rows, {"chosen": good, "rejected": bad}])
    with pytest.raises(DataError, match=f"(?s){what}.*train.jsonl:2"):
        encode(tmp_path, "tulu_preferences", PLAIN, pairs=True)


@pytest.mark.parametrize(
    "lines,what",
    [
        ("rejected: worse", "chosen is missing"),
        ("chosen: a\nrejected: b\nfields: {p: q}", "neither templates nor a frame"),
        ("chosen: a\nrejected: b\nmetric: accuracy", "unknown metric"),
        ("chosen: a\nrejected: b\ntemplates: {default: '{p}'}", "names a field 'p'"),
    ],
)
def test_a_task_file_of_pairs_that_cannot_be_meant_is_refused(tmp_path, lines, what):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine_pairs\nkind: preference\nfolder: mine\n{lines}\n")
    with pytest.raises(ConfigError, match=what):
        get_task(str(path))
