"""Which requests are generated together, and which row each one gets."""

import numpy as np

from amuro_jax.scoring.requests import Request
from amuro_jax.scoring.schedule import GenerationBatch, RowSchedule, plan_batches


def test_batches_hold_every_text_once_and_contexts_of_like_lengths():
    rng = np.random.default_rng(1)
    requests = [
        Request(tuple(rng.integers(0, 97, length).tolist()), max_new_tokens=5)
        for length in rng.integers(1, 200, 300)
    ]
    batches = [batch for _, group in plan_batches(requests, 16, 1024, 256) for batch in group]
    assert (
        sorted(index for batch in batches for index in batch.requests) == list(range(300))
        and 2 <= len(batches) <= 8
    )
    for batch in batches:
        lengths = list(map(len, batch.contexts))
        assert lengths == sorted(lengths, reverse=True) and (
            len(lengths) <= 32 or 2 * (lengths[-17] + 32) >= lengths[0]
        )
        rows, step = batch.sizes(4)
        assert rows % step == rows % 4 == 0 and (step < rows or len(lengths) <= rows)
    left = batches[0].without({0, 3}, 2)
    assert (
        left.requests
        == [index for number, index in enumerate(batches[0].requests) if number not in (0, 3)]
        and left.rows == 2
    )


def test_finished_sequences_free_their_rows_for_the_next_requests():
    contexts = [np.arange(5)] * 7
    batch = GenerationBatch(list(range(7)), contexts, [9] * 7, rows=4, width=32, room=12, read=2)
    finished = []

    def finish(number, tokens):
        return finished.append(number) or True if tokens[-1] == 0 else None

    rows = RowSchedule(batch, 4, finish)
    rows.add(range(4), np.asarray([[1], [0], [1], [1]]))
    assert finished == [1] and rows.refill(2) == []  # one row is free, two would be read
    rows.add(range(4), np.asarray([[2], [5], [0], [2]]))
    assert rows.refill(2) == [(1, 4), (2, 5)] and not rows.over
    rows.add((1, 2), np.asarray([[0], [3]]))
    assert finished == [1, 2, 4] and rows.refill(2) == [(1, 6)]
    rows.add(range(4), np.zeros((4, 1), int))
    assert sorted(finished) == list(range(7)) and rows.over
