"""Rows of large files by number, and training sets that are encoded while they are trained on."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amuro_jax import files
from amuro_jax.data import encoding, rows, sources, streamed
from amuro_jax.data.protocols import PAPER, STRICT
from amuro_jax.data.registry import get_task
from amuro_jax.errors import DataError
from amuro_jax.train.batches import Batches
from amuro_jax.train.objective import LanguageModelling
from tests.data import worlds

WORDS = "stone bird grey sings lies there before under green".split()


@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_lines_of_a_file_by_number(tmp_path, monkeypatch, last):
    monkeypatch.setattr(rows, "SCAN_BYTES", 7)  # line ends on both sides of a border
    lines = ['{"a": 1}', "", '{"a": "\u00e9\u00e9"}', "  ", '{"a": 3}']
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + last)
    found = rows.JsonlRows(str(path))
    expected = [(f"{path}:{number}", row) for number, row in files.read_jsonl(path)]
    assert len(found) == 3 and [found[number] for number in range(3)] == expected


def test_a_bad_line_is_named_when_it_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nnot json\n[1]\n')
    found = rows.JsonlRows(str(path))
    for number, what in ((1, "not JSON"), (2, "expected a JSON object")):
        with pytest.raises(DataError, match=what) as error:
            found[number]
        assert error.value.where == f"{path}:{number + 1}"
    path.write_text("")
    with pytest.raises(DataError, match="empty"):
        rows.JsonlRows(str(path))


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """A folder with 40 conversations as JSONL, Parquet and Arrow, and a tokenizer."""
    root = tmp_path_factory.mktemp("chats")
    rng, made = np.random.default_rng(0), []
    for number in range(40):
        turns = []
        for turn in range(2 * int(rng.integers(1, 3))):
            words = " ".join(rng.choice(WORDS, int(rng.integers(3, 30))))
            turns.append({"role": ("user", "assistant")[turn % 2], "content": words})
        made.append({"id": str(number), "messages": turns})
    for form in ("jsonl", "parquet", "arrow"):
        folder = root / form / "tulu_v2"
        folder.mkdir(parents=True)
        table = pa.Table.from_pylist(made)
        if form == "jsonl":
            text = "".join(json.dumps(row) + "\n" for row in made)
            (folder / "train.jsonl").write_text(text)
        elif form == "parquet":
            pq.write_table(table, folder / "train.parquet")
        else:
            with pa.ipc.new_file(folder / "train.arrow", table.schema) as out:
                out.write_table(table)
    return root, worlds.make_tokenizer()


def encoded(chats, form, protocol, limit, monkeypatch, max_length=2048):
    root, tokenizer = chats
    monkeypatch.setattr(encoding, "STREAM_ROWS", limit)
    return encoding.encode_training_set(
        get_task("tulu"),
        "default",
        protocol,
        tokenizer,
        max_length=max_length,
        rows=None,
        data_root=str(root / form),
    )


@pytest.mark.parametrize("form", ["jsonl", "parquet", "arrow"])
@pytest.mark.parametrize("protocol", [STRICT, PAPER], ids=["strict", "paper"])
def test_a_streamed_set_gives_the_batches_of_one_encoded_before(chats, form, protocol, monkeypatch):
    eager = encoded(chats, form, protocol, 50, monkeypatch)
    lazy = encoded(chats, form, protocol, 10, monkeypatch)
    assert isinstance(eager.examples, list) and isinstance(lazy.examples, streamed.Streamed)
    assert len(lazy.examples) == len(eager.examples) == 40
    assert (lazy.dropped, lazy.truncated) == (None, None)
    collate = LanguageModelling().collator(lazy.examples)
    one, two = Batches(eager.examples, 8, 2, 5), Batches(lazy.examples, 8, 2, 5, 1, collate)
    for step in (7, 0, 3):  # in any order
        left, right = one.load(step), two.load(step)
        assert one.rows(step) == two.rows(step) and left.amount == right.amount
        wide = right.arrays["target"].shape[1]
        for name, array in left.arrays.items():
            cut = array[:, :wide] if name in ("source", "target", "weight") else array
            np.testing.assert_array_equal(cut, right.arrays[name], err_msg=name)


def test_a_streamed_set_reads_and_encodes_what_a_step_needs_and_no_more(chats, monkeypatch):
    read, real = [], sources.example

    def noted(task, where, row, index):
        read.append(index)
        return real(task, where, row, index)

    monkeypatch.setattr(sources, "example", noted)
    lazy = encoded(chats, "jsonl", STRICT, 10, monkeypatch)
    assert read == []
    batches = Batches(lazy.examples, 8, 2, 5, 1, LanguageModelling().collator(lazy.examples))
    batches.load(7)
    assert sorted(read) == sorted(batches.rows(7))
    batches.load(7)
    assert len(read) == 8, "encoded once"
    monkeypatch.setattr(streamed, "KEPT", 4)
    batches.load(6)
    assert len(lazy.examples._kept) == 4


def test_rows_with_nothing_to_learn_leave_their_batch_smaller(chats, monkeypatch):
    long = encoded(chats, "jsonl", STRICT, 50, monkeypatch)
    firsts = sorted(int(np.argmax(example.loss_mask)) for example in long.examples)
    lazy = encoded(chats, "jsonl", STRICT, 10, monkeypatch, max_length=firsts[30])
    learns = [bool(example.loss_mask[1:].any()) for example in lazy.examples[:]]
    assert 0 < sum(learns) < 40
    batches = Batches(lazy.examples, 8, 1, 5, 1, LanguageModelling().collator(lazy.examples))
    rows_used = sum((batches.load(n).arrays["weight"] > 0).any(1).sum() for n in range(5))
    assert rows_used == sum(learns)
    alone = Batches(lazy.examples, 1, 1, 5, 1, LanguageModelling().collator(lazy.examples))
    empty = next(n for n in range(40) if not learns[alone._chosen(n)[0]])
    with pytest.raises(DataError, match=f"step {empty + 1} has no token to learn"):
        alone.load(empty)
