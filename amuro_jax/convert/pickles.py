"""A reader of torch's pickles that executes nothing: a few opcodes, an allow-list of globals, inert
results.

Python's own unpickler calls what the file names. This one has no call at all: the allowed
constructors are matched by name and turned into plain records, every other global is refused by its
name.
"""

import dataclasses
import pickletools

from amuro_jax.convert.bounds import MAX_AXES, MAX_OPCODES, short
from amuro_jax.errors import CheckpointError

STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_ALLOWED = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *(f"torch.{name}" for name in STORAGES),
}
_MARK = object()
# What reading a damaged pickle can run into; the machine runs nothing of the file's, so these are
# the file's fault.
_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    AssertionError,
)


@dataclasses.dataclass(frozen=True)
class Global:
    """An allowed global, by name only."""

    name: str


@dataclasses.dataclass(frozen=True)
class TorchStorage:
    """A storage of `count` elements, stored in the archive's entry `data/{key}`."""

    key: str
    dtype: str
    count: int


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor: a strided view of a storage; offset and strides in elements."""

    storage: TorchStorage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load(data: bytes, *, where):
    """The object in a pickle that `torch.save` wrote of a state dict.

    Raises:
        CheckpointError: a global that is not on the allow-list (nothing is run), an opcode that
            state dicts do not need, or damage.
    """
    try:
        return _Machine(where).run(data)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(
            f"damaged pickle: {type(error).__name__}: {str(error)[:300]}",
            where=where,
            hint="download it again",
        ) from error


class _Machine:
    """Stack, memo, and one method per opcode family."""

    def __init__(self, where):
        self.where, self.stack, self.memo = where, [], {}

    def run(self, data):
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPCODES:
                raise CheckpointError(
                    f"the pickle has more than {MAX_OPCODES} opcodes; no state dict needs as many",
                    where=self.where,
                )
            if opcode.name == "STOP":
                return self.stack.pop()
            handler = _HANDLERS.get(opcode.name)
            if handler is None:
                raise CheckpointError(
                    f"opcode {opcode.name} at byte {position} does not belong in a state dict; "
                    "not read",
                    where=self.where,
                )
            handler(self, argument)
        raise CheckpointError("the pickle has no end", where=self.where)

    def pop_to_mark(self):
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def push(self, value):
        self.stack.append(value)

    def find_global(self, name):
        if name not in _ALLOWED:
            raise CheckpointError(
                f"the pickle names the global {name[:200]}, which is not on the allow-list; "
                "nothing was run",
                where=self.where,
                hint="a checkpoint of plain tensors does not need it; do not load this file "
                "elsewhere before you know why it is there",
            )
        self.push(Global(name))

    def reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        self.push(self.build(_expect(function, Global).name, _expect(arguments, tuple)))

    def build(self, name, arguments):
        if name == "collections.OrderedDict":
            mapping = {}
            for pair in arguments[0] if arguments else ():
                key, value = pair
                self.set_item(mapping, key, value)
            return mapping
        if name == "torch._utils._rebuild_parameter":
            return _expect(arguments[0], View)
        if name == "torch._utils._rebuild_tensor_v2":
            storage, offset, shape, strides = arguments[:4]
            return View(
                _expect(storage, TorchStorage), _size(offset), _sizes(shape), _sizes(strides)
            )
        raise CheckpointError(f"the pickle calls {name}; nothing was run", where=self.where)

    def persistent(self):
        kind, storage, key, _, count = self.stack.pop()
        name = _expect(storage, Global).name.removeprefix("torch.")
        if kind != "storage" or name not in STORAGES:
            raise CheckpointError(
                f"unknown persistent object {short(kind)} of {name}", where=self.where
            )
        self.push(TorchStorage(_expect(key, str), STORAGES[name], _size(count)))

    def set_items(self, items):
        target = _expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.set_item(target, key, value)

    def set_item(self, target, key, value):
        # A tuple of tuples that share their parts has few bytes and takes for ever to hash.
        if not isinstance(key, str | int):
            raise CheckpointError(
                f"a key of the state dict is a {type(key).__name__}, not a string",
                where=self.where,
            )
        if isinstance(key, str) and key in target:
            raise CheckpointError(f"the state dict names {short(key)} twice", where=self.where)
        target[key] = value

    def set_state(self):
        # attributes of an OrderedDict (`_metadata`): nothing that a parameter needs
        self.stack.pop()
        _expect(self.stack[-1], dict)


def _expect(value, kind):
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _size(value):
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise ValueError(f"bad size {short(value)}")
    return value


def _sizes(values):
    if len(_expect(values, tuple)) > MAX_AXES:
        raise ValueError(f"{len(values)} axes")
    return tuple(map(_size, values))


def _pair(machine):
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _append(machine, items):
    _expect(machine.stack[-1], list).extend(items)


def _memoize(machine, index):
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _tuple(count):
    def handler(machine, _):
        items = [machine.stack.pop() for _ in range(count)]
        machine.push(tuple(items[::-1]))

    return handler


def _stack_global(machine):
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.find_global(f"{_expect(module, str)}.{_expect(name, str)}")


# Binary literals only: the text forms of protocol 0 are older than torch's zip files.
_LITERALS = """BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8
BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES""".split()
_HANDLERS = {
    **{name: _Machine.push for name in _LITERALS},
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    "MARK": lambda m, a: m.push(_MARK),
    "POP": lambda m, a: m.stack.pop(),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "TUPLE": lambda m, a: m.push(tuple(m.pop_to_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": lambda m, a: _append(m, [m.stack.pop()]),
    "APPENDS": lambda m, a: _append(m, m.pop_to_mark()),
    "SETITEM": lambda m, a: m.set_items(_pair(m)),
    "SETITEMS": lambda m, a: m.set_items(m.pop_to_mark()),
    "MEMOIZE": lambda m, a: _memoize(m, None),
    **{name: _memoize for name in ("BINPUT", "LONG_BINPUT")},
    **{name: lambda m, a: m.push(m.memo[a]) for name in ("BINGET", "LONG_BINGET")},
    "GLOBAL": lambda m, a: m.find_global(a.replace(" ", ".")),
    "STACK_GLOBAL": lambda m, a: _stack_global(m),
    "REDUCE": lambda m, a: m.reduce(),
    "BUILD": lambda m, a: m.set_state(),
    "BINPERSID": lambda m, a: m.persistent(),
}
