"""Rows of unfinished scores: what is read is what was written, in one order for all scores."""

import numpy as np

from amuro_jax.results.parts import Parts, drawn
from amuro_jax.storage import Storage

TOTAL = 100


def parts(tmp_path, *ends, key="k"):
    """A store with the parts up to these numbers of rows; a row's score is its place."""
    made, first = Parts(Storage.open(tmp_path)), 0
    for end in ends:
        places = sorted(drawn(TOTAL)[first:end])
        made.add(key, first, TOTAL, [row(place) for place in places], 1.5)
        first = end
    return made


def row(place):
    return {"row": place, "score": float(place), "gold": None, "choices": [[1, 2], []], "é": 1 / 3}


def test_rows_come_back_as_they_were_by_place(tmp_path):
    read = parts(tmp_path, 32, 50).read("k")
    assert read.rows == {place: row(place) for place in drawn(TOTAL)[:50]}
    assert (read.count, read.total, read.seconds) == (50, TOTAL, 3.0)
    np.testing.assert_array_equal(read.scores(), drawn(TOTAL)[:50])
    assert sorted(drawn(TOTAL)) == list(range(TOTAL)) != list(drawn(TOTAL))


def test_a_damaged_part_is_forgotten_with_those_after_it(tmp_path):
    made = parts(tmp_path, 32, 50, 70)
    file = tmp_path / "parts/k/32-50-of-100.json"
    file.write_text(file.read_text().replace("1.5", "2.5"))
    assert made.read("k").count == 32 and not file.exists()
    assert made.counts() == {"k": (32, TOTAL)}
    made.add("k", 32, TOTAL, [row(place) for place in sorted(drawn(TOTAL)[32:60])], 1.0)
    assert made.read("k").count == 60, "the rows that are scored anew need not end where they did"


def test_counts_are_of_each_score_and_go_with_its_parts(tmp_path):
    made = parts(tmp_path, 32)
    parts(tmp_path, 32, 64, key="other")
    assert made.counts() == {"k": (32, TOTAL), "other": (64, TOTAL)}
    made.remove("other")
    assert made.counts() == {"k": (32, TOTAL)} and made.read("other") is None
