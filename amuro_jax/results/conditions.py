"""Conditions on columns as text, `task == 'paws' and value > 0.5`: read, never run. No jax.

The grammar is that of Python comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, `and`,
`or`, `not`, parentheses) between columns and constants. The text is parsed, and each node is
translated into an Arrow expression; calls, attributes and all else are refused, so that a condition
can execute nothing.
"""

import ast
import operator

import pyarrow as pa
import pyarrow.compute as pc

from amuro_jax.config import misspelt
from amuro_jax.errors import ConfigError

_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_HINT = "for example: task == 'paws' and format in ('io', 'instruct') and value >= 0.5"
_LONGEST = 10_000  # characters: no condition that a person writes is as long
_DEEPEST = 100  # nodes within nodes
_LONGEST_SAID = 80  # characters of a condition that an error repeats
_TEXT, _NUMBER, _BOOLEAN = "text", "number", "boolean"


def _kind(column: pa.DataType) -> str:
    """Which values a column is compared with; of a column of lists its type's name."""
    if pa.types.is_string(column) or pa.types.is_large_string(column):
        return _TEXT
    if pa.types.is_boolean(column):
        return _BOOLEAN
    return _NUMBER if pa.types.is_integer(column) or pa.types.is_floating(column) else str(column)


def condition(text: str, schema: pa.Schema) -> pc.Expression:
    """The condition as an Arrow expression on a table of this schema. A field that is missing fits
    no comparison but `column == None`; `not` makes it fit neither.

    Raises:
        ConfigError: not a condition, an unknown column, or values of another type than the
            column's.
    """
    if len(text) > _LONGEST:
        raise ConfigError(f"longer than {_LONGEST} characters", where="--where")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        at = f" at column {error.offset}" if getattr(error, "offset", None) else ""
        raise ConfigError(f"no condition: {reason}{at}", where="--where", hint=_HINT) from error
    return _Translator(text.strip(), schema).node(tree)


def select(table: pa.Table, text: str) -> pa.Table:
    """The lines of a table that fit a condition; all for an empty one."""
    return table.filter(condition(text, table.schema)) if text.strip() else table


class _Translator:
    def __init__(self, text, schema):
        self.text, self.schema = text, schema

    def node(self, node, depth=0):
        """A node that is true or false."""
        if depth > _DEEPEST:
            raise ConfigError("nested too deeply", where="--where")
        if isinstance(node, ast.BoolOp):
            parts = [self.node(value, depth + 1) for value in node.values]
            result = parts[0]
            for other in parts[1:]:
                result = result & other if isinstance(node.op, ast.And) else result | other
            return result
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.node(node.operand, depth + 1)
        if isinstance(node, ast.Compare):
            return self._chain(node)
        self._refuse(node)

    def _chain(self, node):
        left, result = node.left, None
        for sign, right in zip(node.ops, node.comparators, strict=True):
            chain = self._comparison(node, left, sign, right)
            result = chain if result is None else result & chain
            left = right
        return result

    def _comparison(self, node, left, sign, right):
        if isinstance(sign, ast.In | ast.NotIn):
            compared = self._membership(left, right)
            return ~compared if isinstance(sign, ast.NotIn) else compared
        if type(sign) not in _COMPARISONS:
            self._refuse(node)
        names = [side for side in (left, right) if isinstance(side, ast.Name)]
        if not names:
            self._refuse(node)
        column = self._column(names[0])
        for name in names[1:]:
            self._require_alike(column, self._column(name))
        sides = [self._side(side, column) for side in (left, right)]
        if all(side is not None for side in sides):
            return _COMPARISONS[type(sign)](*sides)
        if not isinstance(sign, ast.Eq | ast.NotEq):
            self._refuse(node)
        missing = pc.field(names[0].id).is_null()
        return missing if isinstance(sign, ast.Eq) else ~missing

    def _side(self, side, column):
        if isinstance(side, ast.Name):
            return pc.field(side.id)
        constant = self._constant(side, column)
        return None if constant is None else pc.scalar(constant)

    def _column(self, node):
        """Name and type of a column."""
        if not isinstance(node, ast.Name):
            self._refuse(node)
        if node.id not in self.schema.names:
            raise misspelt(
                node.id, self.schema.names, where="--where", what=f"no column {node.id!r}"
            )
        return node.id, self.schema.field(node.id).type

    def _require_alike(self, one, other):
        """Two columns that are compared have values that can be."""
        kinds = [_kind(kind) for _, kind in (one, other)]
        if kinds[0] != kinds[1] or kinds[0] not in (_TEXT, _NUMBER, _BOOLEAN):
            named = " and ".join(f"{name} ({kind})" for name, kind in (one, other))
            what = f"columns that cannot be compared: {named}"
            raise ConfigError(what, where="--where", hint=_HINT)

    def _membership(self, left, right):
        """Whether a column has one of the values; of a missing one not known, unless `None` is one
        of them.
        """
        name, kind = self._column(left)
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            self._refuse(right)
        constants = [self._constant(value, (name, kind)) for value in right.elts]
        values = [one.as_py() for one in constants if one is not None]
        if pa.types.is_integer(kind):  # another number is in no such column
            values = [int(one) for one in values if one == int(one)]
        field = pc.field(name)
        found = field.isin(pa.array(values, kind))
        if any(one is None for one in constants):
            return found | field.is_null()
        return pc.if_else(field.is_valid(), found, pc.scalar(pa.scalar(None, pa.bool_())))

    def _constant(self, node, column):
        """A constant in the column's type; None for `None`."""
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, node = (-1 if isinstance(node.op, ast.USub) else 1), node.operand
        if not isinstance(node, ast.Constant):
            self._refuse(node)
        value, (name, kind) = node.value, column
        if value is None and sign == 1:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {_TEXT: isinstance(value, str), _BOOLEAN: isinstance(value, bool)}
        of = _kind(kind)
        if not fits.get(of, number) or (sign < 0 and not number):
            what = f"column {name} is of {of if of == _TEXT else kind}, {ast.unparse(node)} is not"
            raise ConfigError(what, where="--where", hint=_HINT)
        if pa.types.is_integer(kind) and isinstance(value, float):
            return pa.scalar(sign * value, pa.float64())
        try:
            return pa.scalar(sign * value if number else value, kind)
        except (pa.ArrowException, OverflowError) as error:
            what = f"{ast.unparse(node)} does not fit column {name} ({kind})"
            raise ConfigError(what, where="--where") from error

    def _refuse(self, node):
        part = ast.get_source_segment(self.text, node) or type(node).__name__
        part = part if len(part) <= _LONGEST_SAID else f"{part[:_LONGEST_SAID]}…"
        what = f"{part!r} is no comparison of columns and constants"
        raise ConfigError(what, where="--where", hint=_HINT)
