"""Finds the checkpoints of a series that are not what they are called, before anything is scored:
duplicates, swapped steps, a shard of another step, lower precision, a foreign tokenizer, cut or
zeroed tensors, wrong tokens, holes. From labels, headers and samples of the weights, at most 1 % of
the bytes.
"""

import collections
import concurrent.futures
import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterable

import ml_dtypes
import numpy as np

from amuro_jax.convert import series_order
from amuro_jax.convert.revisions import Revision
from amuro_jax.convert.series_samples import Sample, read_sample

TOKENS_OFF = 0.05  # relative: more than batches that do not quite fill a step
SAME_RATIO = 0.6  # share of checkpoints that must agree before the others are called wrong
REGULAR = 0.6  # share of equal gaps with which a series counts as evenly spaced
READERS = 4  # threads: reading waits for disks


class FaultKind(enum.StrEnum):
    """What is wrong with a checkpoint."""

    UNREADABLE = "unreadable"
    SHAPES = "other tensors"
    TRUNCATED = "truncated tensor"
    DUPLICATE = "duplicate"
    SHARD = "shard of another step"
    SWAPPED = "swapped steps"
    PRECISION = "lower precision"
    TOKENIZER = "foreign tokenizer"
    TOKENS = "wrong tokens"
    HOLE = "hole"


NOTES = (FaultKind.HOLE, FaultKind.DUPLICATE)  # what a study can work with when it knows


@dataclasses.dataclass(frozen=True)
class Fault:
    """One finding about one or several checkpoints."""

    kind: FaultKind
    checkpoints: tuple[str, ...]
    what: str

    def __str__(self):
        return f"{self.kind}: {', '.join(self.checkpoints)}: {self.what}"


@dataclasses.dataclass(frozen=True)
class SeriesAudit:
    """What an audit found.

    Attributes:
        checkpoints: number of the series.
        sampled: number of those whose weights were sampled.
        faults: findings, gravest first.
        bytes_read, bytes_total: of the sampled checkpoints.
    """

    checkpoints: int
    sampled: int
    faults: tuple[Fault, ...]
    bytes_read: int = 0
    bytes_total: int = 0

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults with which scores would be of something else than their name says."""
        return tuple(fault for fault in self.faults if fault.kind not in NOTES)

    def __str__(self):
        share = 100 * self.bytes_read / self.bytes_total if self.bytes_total else 0.0
        seen = f"{self.sampled} of {self.checkpoints} checkpoints sampled"
        read = f"{self.bytes_read:,} of {self.bytes_total:,} bytes read ({share:.2f} %)"
        counted = f"{len(self.faults)} findings" if self.faults else "nothing found"
        return "\n".join(
            [f"series: {seen}, {read}; {counted}", *(f"  {one}" for one in self.faults)]
        )


def audit_series(
    revisions: list[Revision], read: Callable[[Revision], Sample] = read_sample
) -> SeriesAudit:
    """Audits the checkpoints of a series, in the order of training. Those that are not on this
    machine are audited by their labels alone.
    """
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        samples = list(pool.map(read, revisions))
    seen = [one for one in samples if one.tensors]
    faults = [
        *_unreadable(samples),
        *_shapes(seen),
        *_duplicates(samples),
        *_truncated(seen),
        *_shards(seen),
        *_precision(seen),
        *_tokenizers(samples),
        *_wrong_tokens(revisions),
        *holes(revisions),
    ]
    for check in (_off_path_shards, _order):  # where checkpoints lie: of those without a fault
        known = {name for fault in faults for name in fault.checkpoints}
        faults += check([one for one in seen if one.name not in known])
    order = {kind: index for index, kind in enumerate(FaultKind)}
    return SeriesAudit(
        len(revisions),
        len(seen),
        tuple(sorted(faults, key=lambda fault: order[fault.kind])),
        sum(one.bytes_read for one in seen),
        sum(one.bytes_total for one in seen),
    )


def _unreadable(samples):
    for one in samples:
        if one.problem and one.problem != "not on this machine":
            cut = any(word in one.problem for word in ("truncated", "ends at", "size"))
            kind = FaultKind.TRUNCATED if cut else FaultKind.UNREADABLE
            yield Fault(kind, (one.name,), one.problem)


def _layout(sample):
    return tuple((name, tensor.shape) for name, tensor in sorted(sample.tensors.items()))


def _shapes(samples):
    usual = _most_common(_layout(one) for one in samples)
    for one in samples:
        if usual is not None and _layout(one) != usual:
            names, own = dict(usual), dict(_layout(one))
            first = next(n for n in sorted({*names, *own}) if names.get(n) != own.get(n))
            what = f"{first} is {own.get(first)} here and {names.get(first)} in most others"
            yield Fault(FaultKind.SHAPES, (one.name,), what)


def _most_common(values: Iterable):
    """The value that most have; None where none has a clear majority."""
    counts = collections.Counter(values)
    if not counts:
        return None
    value, number = counts.most_common(1)[0]
    return value if number >= SAME_RATIO * counts.total() else None


def _duplicates(samples):
    groups = collections.defaultdict(list)
    for one in samples:
        if one.identity or one.raw:
            groups[one.identity or tuple(sorted(one.raw.items()))].append(one.name)
    for names in groups.values():
        if len(names) > 1:
            yield Fault(FaultKind.DUPLICATE, tuple(names), "the same weights under several names")


def _truncated(samples):
    """Blocks that are zero, or not numbers, in one checkpoint and not in most others. A tensor that
    is all zero in the first checkpoint is a bias that training has not touched yet.
    """
    for name in samples[0].values if samples else ():
        having = [one for one in samples if name in one.values]
        dead = {one.name: _dead_blocks(one.values[name]) for one in having}
        usual = _most_common(dead.values())
        for one in having:
            more = sum(dead[one.name]) - sum(usual or ())
            if one is samples[0] and all(dead[one.name]):
                continue
            if usual is not None and more > 0:
                what = f"{more} of {len(usual)} sampled parts of {name} are zero or no numbers"
                yield Fault(FaultKind.TRUNCATED, (one.name,), what)


def _dead_blocks(values):
    parts = np.array_split(values, min(4, len(values))) if len(values) else []
    return tuple(bool((part == 0).all() or not np.isfinite(part).all()) for part in parts)


def _by_file(sample):
    files = collections.defaultdict(list)
    for name in sorted(sample.raw):
        files[sample.files[name]].append(name)
    return files


def _shards(samples):
    """Files that say the same as another checkpoint's where the checkpoint's other files do not."""
    holders = collections.defaultdict(list)
    for index, one in enumerate(samples):
        for file, names in _by_file(one).items():
            holders[file, tuple(one.raw[name] for name in names)].append(index)
    shared = collections.defaultdict(set)
    for (file, _), indices in holders.items():
        for pair in itertools.combinations(indices, 2):
            shared[pair].add(file)
    for (first, second), same in shared.items():
        others = set(_by_file(samples[first])) - same
        if not others:
            continue  # all files are the same: a duplicate
        for file in sorted(same):
            wrong = _stranger(samples, first, second, file)
            right = samples[second if wrong == first else first].name
            yield Fault(FaultKind.SHARD, (samples[wrong].name,), f"{file} is that of {right}")


def _stranger(samples, first, second, file):
    """Which of two checkpoints with the same file does not own it: the one whose file is farther
    from its neighbours' than its other files are.
    """
    names = set(_by_file(samples[first])[file])
    others = [name for name in samples[first].values if name not in names]
    ratio = {}
    for index in (first, second):
        near = [at for at in (index - 1, index + 1) if 0 <= at < len(samples)]
        near = [at for at in near if at not in (first, second)] or near
        own, rest = (
            np.mean([_apart(samples[index], samples[at], part) for at in near])
            for part in (sorted(names), others)
        )
        ratio[index] = own / rest if rest > 0 else np.inf
    return max(ratio, key=ratio.get)


def _apart(one, other, names):
    """Root mean square difference of the sampled values of some tensors."""
    names = [name for name in names if name in one.values and name in other.values]
    parts = [one.values[name] - other.values[name] for name in names]
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2))) if parts else 0.0


def _precision(samples):
    """Values that fit a shorter type than most checkpoints' do."""
    kinds = {one.name: _narrowest(one) for one in samples}
    usual = _most_common(kinds.values())
    for name, kind in kinds.items():
        if usual is not None and _BITS[kind] < _BITS[usual]:
            what = f"its values are those of {kind}, most others' those of {usual}"
            yield Fault(FaultKind.PRECISION, (name,), what)


_BITS = {"float8": 8, "bfloat16": 15, "float16": 16, "float32": 32, "float64": 64}


def _narrowest(sample):
    """The shortest type that holds all sampled values exactly."""
    values = np.concatenate([part for part in sample.values.values()]) if sample.values else None
    if values is None:
        return "float32"
    widest = max((tensor.dtype.itemsize for tensor in sample.tensors.values()), default=4)
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("float8", "bfloat16", "float16"):
            kind = {
                "float8": ml_dtypes.float8_e4m3fn,
                "bfloat16": ml_dtypes.bfloat16,
                "float16": np.float16,
            }[name]
            if np.array_equal(values.astype(kind).astype(np.float32), values):
                return name
    return "float64" if widest > 4 else "float32"


def _tokenizers(samples):
    usual = _most_common(one.tokenizer for one in samples if not one.problem)
    for one in samples:
        if usual is not None and not one.problem and one.tokenizer != usual:
            what = (
                "it has no tokenizer, most others have"
                if one.tokenizer is None
                else f"its tokenizer ({one.tokenizer[0]:,} bytes) is not that of most others "
                f"({usual[0]:,} bytes)"
            )
            yield Fault(FaultKind.TOKENIZER, (one.name,), what)


def _wrong_tokens(revisions):
    """Labels whose tokens do not follow their steps, within a stage, ingredient and seed."""
    for members in _runs(revisions):
        both = [one for one in members if one.step and one.tokens and one.revision != "main"]
        both, tokens = _own_tokens(both)
        if len(both) < 3:
            continue
        steps = np.array([one.step for one in both])
        ratio = float(np.median(tokens / steps))
        off = [
            one
            for one, own in zip(both, tokens, strict=True)
            if abs(own - ratio * one.step) > _tolerance(one, ratio)
        ]
        if len(off) > (1 - SAME_RATIO) * len(both):
            off = _not_increasing(both)  # no ratio of their own: the batch size has changed
        for one in off:
            what = f"{one.tokens:,} tokens at step {one.step:,}, unlike the other labels' tokens"
            yield Fault(FaultKind.TOKENS, (one.revision,), what)


def _own_tokens(members):
    """The members of a run whose tokens can be compared with their steps, and the tokens of the run
    alone: a later stage's are counted with those of the stages before.
    """
    if not members or (members[0].stage or 1) == 1:
        return members, np.array([float(one.tokens) for one in members])
    first, *rest = sorted(members, key=lambda one: one.step)
    slopes = [
        (one.tokens - first.tokens) / (one.step - first.step)
        for one in rest
        if one.step > first.step
    ]
    start = first.tokens - float(np.median(slopes)) * first.step if slopes else 0.0
    return members, np.array([one.tokens - start for one in members])


def _tolerance(revision, ratio):
    """What rounding in the label explains (`4B` is 3.5 to 4.5 billion), or a few percent."""
    digits = str(revision.tokens)
    rounding = 10 ** (len(digits) - len(digits.rstrip("0")))
    return max(TOKENS_OFF * ratio * revision.step, min(rounding, 10**9))


def _not_increasing(members):
    ordered = sorted(members, key=lambda one: one.step)
    return [
        later for earlier, later in itertools.pairwise(ordered) if later.tokens <= earlier.tokens
    ]


def _runs(revisions):
    """The revisions by stage, ingredient and seed: each counts its own steps."""
    runs = collections.defaultdict(list)
    for one in revisions:
        runs[one.stage, one.ingredient, one.seed].append(one)
    return runs.values()


def holes(revisions: list[Revision]) -> list[Fault]:
    """Steps that an evenly spaced series lacks; none where it is not evenly spaced."""
    faults = []
    for members in _runs(revisions):
        steps = sorted({one.step for one in members if one.step is not None})
        gaps = np.diff(steps)
        if len(gaps) < 4:
            continue
        gap, number = collections.Counter(gaps.tolist()).most_common(1)[0]
        if number < REGULAR * len(gaps):
            continue
        for index in np.flatnonzero((gaps > gap) & (gaps % gap == 0)):
            # A series may begin with other steps: a gap counts between evenly spaced neighbours.
            before, after = gaps[max(index - 1, 0)], gaps[min(index + 1, len(gaps) - 1)]
            if gap not in (before, after):
                continue
            lost = [int(step) for step in range(steps[index] + gap, steps[index + 1], gap)]
            names = ", ".join(map(str, lost[:6])) + (" …" if len(lost) > 6 else "")
            ends = tuple(f"step {steps[at]}" for at in (index, index + 1))
            faults.append(Fault(FaultKind.HOLE, ends, f"{len(lost)} missing between: {names}"))
    return faults


def _order(samples):
    between = _distances(samples, sorted(samples[0].values)) if samples else np.zeros((0, 0))
    names = [one.name for one in samples]
    for first, second in series_order.exchanged(between):
        what = "their weights lie on the path of training the other way round"
        yield Fault(FaultKind.SWAPPED, (names[first], names[second]), what)
        names[first], names[second] = names[second], names[first]


def _distances(samples, names):
    names = [name for name in names if all(name in one.values for one in samples)]
    scale = {
        name: np.sqrt(np.mean([np.mean(one.values[name] ** 2) for one in samples])) or 1.0
        for name in names
    }
    vectors = [
        np.concatenate([one.values[name] / scale[name] for name in names]) for one in samples
    ]
    return series_order.distances(vectors)


def _off_path_shards(samples):
    """A file that lies off the path of training where the checkpoint's other files do not: of a
    step that is not in the series.
    """
    samples = list(samples)
    while len(samples) >= series_order.FEWEST and len(_by_file(samples[0])) > 1:
        ratio, index, file = max(_detour_ratios(samples))
        if ratio <= series_order.DETOUR:
            return
        what = f"{file} lies off the path of training, the other files do not"
        yield Fault(FaultKind.SHARD, (samples.pop(index).name,), what)


def _detour_ratios(samples):
    """(a file's detour over the longest of the other files', place, file), of all inner places."""
    detours = {
        file: series_order.detours(_distances(samples, names))
        for file, names in _by_file(samples[0]).items()
    }
    for (file, own), index in itertools.product(detours.items(), range(1, len(samples) - 1)):
        rest = max(other[index] for name, other in detours.items() if name != file)
        yield own[index] / rest if rest > 0 else 0.0, index, file
