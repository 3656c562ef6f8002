"""Bytes that one chip sends to others, read from a compiled program's text. No jax."""

import dataclasses
import math
import re

# Share of the operation's result that a member of a group of n sends.
SENT = {
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,  # its result is one part of n
    "all-reduce": lambda n: 2 * (n - 1) / n,  # as a reduce-scatter and an all-gather
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}
BYTES = {"pred": 1, "bf16": 2}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> ")
_OPERATION = re.compile(rf" ({'|'.join(SENT)})(-start)?\(")
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)")


@dataclasses.dataclass
class _Computation:
    """What one computation does itself: collectives by channel, computations that it calls, loops
    as (condition, body), and its instructions' text by name.
    """

    sent: dict = dataclasses.field(default_factory=dict)
    calls: list = dataclasses.field(default_factory=list)
    loops: list = dataclasses.field(default_factory=list)
    lines: dict = dataclasses.field(default_factory=dict)

    def operands(self, name: str) -> list[str]:
        """Names of an instruction's operands."""
        arguments = re.search(r" [\w\-]+\(([^()]*)\)", self.lines.get(name, ""))
        return re.findall(r"%([\w.\-]+)", arguments[1]) if arguments else []

    def constants(self, name: str) -> list[int]:
        """Values of those of an instruction's operands that are constants."""
        matches = (re.search(r" constant\((\d+)\)", self.lines[o]) for o in self.operands(name))
        return [int(match[1]) for match in matches if match]


def collective_bytes(program: str) -> dict[str, float]:
    """{operation: bytes that one chip sends in one run of the program}.

    The body of a loop counts as often as it runs. A collective that the compiler spreads over
    several steps, of a loop too, is one: they have the same channel, and its start, outside of the
    loop, says how often it is done.
    """
    computations, entry = _read(program)
    channels: dict[str, tuple[str, float, int]] = {}  # channel → (operation, bytes, how often)

    def add(name, times):
        sent, loops = _inlined(computations, name)
        for channel, (operation, size) in sent.items():
            before = channels.get(channel, (operation, size, times))
            channels[channel] = operation, max(size, before[1]), min(times, before[2])
        for condition, body in loops:
            add(body, times * _trips(computations[condition], computations[body]))

    add(entry, 1)
    totals: dict[str, float] = {}
    for operation, size, times in channels.values():
        totals[operation] = totals.get(operation, 0.0) + size * times
    return totals


def _trips(condition: _Computation, body: _Computation) -> int:
    """How often a loop runs: its condition compares a counter, which starts at 0, with a constant;
    a loop that was unrolled counts in larger steps.
    """
    bounds, step = condition.constants("ROOT"), 1
    counters = [
        re.search(r"index=(\d+)", condition.lines[name]) for name in condition.operands("ROOT")
    ]
    for counter in filter(None, counters):
        results = body.operands("ROOT")
        if int(counter[1]) < len(results):
            step = max([step, *body.constants(results[int(counter[1])])])
    return max(1, bounds[0] // step) if bounds else 1


def _inlined(computations, name):
    here = computations.get(name, _Computation())
    sent, loops = dict(here.sent), list(here.loops)
    for called in here.calls:
        more, inner = _inlined(computations, called)
        sent |= more
        loops += inner
    return sent, loops


def _read(program):
    computations, entry, here = {}, "", None
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            here = computations[match[2]] = _Computation()
            entry = match[2] if match[1] else entry
        elif here is not None and " = " in line:
            if match := _OPERATION.search(line):
                channel = re.search(r"channel_id=(\d+)", line)
                key = channel[1] if channel else line
                here.sent[key] = (match[1], _sent(line, match[1]))
            if match := _LOOP.search(line):
                here.loops.append((match[1], match[2]))
            name = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
            if name:
                here.lines[name[2]] = line
                if name[1]:
                    here.lines["ROOT"] = line
            here.calls += _CALLED.findall(line)
    return computations, entry


def _sent(line, operation):
    result = line.partition(" = ")[2].partition(f" {operation}")[0]
    sizes = [array_bytes(*array) for array in re.findall(r"(\w+)\[([\d,]*)\]", result)]
    # An asynchronous start gives (operands, results, contexts): the largest is the result.
    size = max(sizes, default=0) if f"{operation}-start(" in line else sum(sizes)
    return size * SENT[operation](_members(line))


def array_bytes(kind: str, shape: str) -> float:
    """Bytes of an array as a program writes it: ("bf16", "16,2048")."""
    bits = re.search(r"\d+$", kind)
    each = BYTES.get(kind) or (int(bits[0]) / 8 if bits else 0)
    return each * math.prod(int(size) for size in shape.split(",") if size)


def _members(line):
    """Members of a group: `mesh['a'=2,'b'=8] {'b'}`, `[groups,members]<=[…]` or `{{0,1},{2,3}}`."""
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", match[2])) or 1
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(match[1].split(","))
    return 2
