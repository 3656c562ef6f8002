"""Sequences in lexicographic order: common prefixes, groups that share one, and units that are laid
into lines together. No jax.

Sorting makes the prefix tree implicit: what a sequence shares with the tree is what it shares with
its neighbour.
"""

import bisect
import dataclasses

import numpy as np

LEVELS = (0, 16, 32, 64, 128, 256, 512, 1024)  # prefix lengths at which groups are tried
# Neighbours go into one line as a tree where they share at least this part of what follows the
# prefix: with less, packing them separately saves more padding than the shared tokens.
TREE_SHARE = 0.15


def sort_sequences(sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Order of int32 sequences, and in that order the length of the prefix each shares with the one
    before [N].
    """
    keys = [sequence.astype(">u4").tobytes() for sequence in sequences]
    order = np.asarray(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    lcp = np.zeros(len(order), np.int64)
    for i in range(1, len(order)):
        lcp[i] = common_prefix(sequences[order[i - 1]], sequences[order[i]])
    return order, lcp


def common_prefix(left: np.ndarray, right: np.ndarray) -> int:
    """Number of leading tokens that are the same."""
    size = min(len(left), len(right))
    differ = left[:size] != right[:size]
    return int(differ.argmax()) if differ.any() else size


@dataclasses.dataclass(frozen=True)
class PrefixGroup:
    """Members (indices in sorted order) that are scored behind one prefix of `prefix` tokens."""

    members: np.ndarray
    prefix: int


def partition(
    lcp: np.ndarray, limit: np.ndarray, length: np.ndarray, overhead: float
) -> list[PrefixGroup]:
    """Groups with a prefix each, at the level of the tree where the least work is left.

    Args:
        lcp: shared with the one before, in sorted order [N].
        limit: tokens of each sequence that may be part of a prefix [N] (its context but for the
            last token).
        length: tokens of each sequence [N].
        overhead: tokens that a further group costs (its padded last batch).
    """
    best = None
    for level in LEVELS:
        groups = _groups_at(level, lcp, limit, overhead)
        work = sum(
            group.prefix + overhead + _new_tokens(group, lcp, limit, length) for group in groups
        )
        if best is None or work < best[0]:
            best = (work, groups)
    return best[1]


def _new_tokens(group, lcp, limit, length):
    # A further continuation of the same context adds itself only.
    own = np.where(lcp > limit, length - lcp, length - group.prefix)
    return int(np.sum(own[group.members]))


def _groups_at(level, lcp, limit, overhead):
    starts = [0, *(np.flatnonzero(lcp[1:] < level) + 1), len(lcp)]
    groups, rest = [], []
    for low, high in zip(starts, starts[1:], strict=False):
        group = _group(np.arange(low, high), lcp, limit, 2 * overhead)
        if group.prefix or len(starts) == 2:
            groups.append(group)
        else:
            rest.append(group.members)
    if rest:
        groups.append(_group(np.concatenate(rest), lcp, limit, overhead))
    return groups


def _group(members, lcp, limit, worth):
    """A group whose prefix is read once where that saves more than `worth` tokens."""
    between = shared_between(lcp, members)
    prefix = int(min(between[1:].min(initial=2**30), limit[members].min()))
    contexts = int(np.sum(between[1:] <= limit[members[1:]]))  # besides the first
    return PrefixGroup(members, prefix if prefix * contexts > worth else 0)


def shared_between(lcp: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Prefix that each member shares with the member before it: the least of the prefixes between
    them [M].
    """
    shared = np.zeros(len(members), np.int64)
    for i in range(1, len(members)):
        shared[i] = lcp[members[i - 1] + 1 : members[i] + 1].min()
    return shared


def make_units(
    shared: np.ndarray, length: np.ndarray, prefix: int, width: int
) -> list[tuple[int, int, int]]:
    """Runs (first, end, tokens) of neighbours that share enough to go into one line of at most
    `width` tokens.
    """
    units, first, size = [], 0, 0
    for i in range(len(length)):
        new, common = int(length[i] - shared[i]), int(shared[i] - prefix)
        if (
            i > first
            and common >= max(2, TREE_SHARE * (length[i] - prefix))
            and size + new <= width
        ):
            size += new
            continue
        if i > first:
            units.append((first, i, size))
        first, size = i, int(length[i] - prefix)
    if len(length):
        units.append((first, len(length), size))
    return units


def pack(sizes: list[int], width: int) -> list[list[int]]:
    """Best-fit decreasing: lines of items whose sizes add to at most `width`.

    Items in a line keep their order.
    """
    lines: list[list[int]] = []
    rooms: list[int] = []  # ascending free rooms that some line has
    by_room: dict[int, list[int]] = {}

    def put(line, room):
        if room not in by_room:
            bisect.insort(rooms, room)
        by_room.setdefault(room, []).append(line)

    for item in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        index = bisect.bisect_left(rooms, sizes[item])
        if index == len(rooms):
            lines.append([])
            line, room = len(lines) - 1, width
        else:
            room = rooms[index]
            line = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[index]
        lines[line].append(item)
        put(line, room - sizes[item])
    return [sorted(line) for line in lines]
