"""Configurations from and to plain values, and single fields from the command line."""

import dataclasses
import enum
import functools
import json
import types
import typing

from amuro_jax import spelling
from amuro_jax.errors import ConfigError


def to_dict(config) -> dict:
    """A configuration as plain JSON-able values, every field present."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def changes(config) -> dict:
    """A configuration as plain JSON-able values, those fields alone that have not their default:
    what it says stays the same when a later version adds a field.
    """
    values = {}
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if value != default:
            values[field.name] = _changes(value)
    return json.loads(json.dumps(values))


def _changes(value):
    if dataclasses.is_dataclass(value):
        return changes(value)
    return [*map(_changes, value)] if isinstance(value, tuple) else value


def from_dict(kind, values: dict, *, where: str = "config"):
    """Builds the block `kind` from plain values; types are checked and not converted.

    Raises:
        ConfigError: an unknown field (with the nearest that exists) or a value of the wrong type.
    """
    import pydantic

    try:
        return _adapter(kind).validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        raise _readable(kind, error, where) from error


def checked(config):
    """The same configuration with every field's type checked: a Python file can set any value."""
    return from_dict(type(config), to_dict(config))


def override(config, path: str, text: str):
    """A copy of `config` with one field, named by its dotted `path`, set from the command line.

    A tuple is written with commas (`default,io`; empty: none), None as `none`. A tuple of blocks is
    selected from by task (`fine_tunes=paws,xsum`), or by task and variant (`paws:lora`).

    Raises:
        ConfigError: an unknown field, or a text that is not of its type.
    """
    return _override(config, path.split("."), text, f"--config.{path}")


def _override(config, names, text, where):
    hints, name = typing.get_type_hints(type(config)), names[0]
    if name not in hints:
        raise _unknown(type(config), name, where)
    value = getattr(config, name)
    if len(names) > 1:
        if not dataclasses.is_dataclass(value):
            raise ConfigError(f"{name} has no fields of its own", where=where)
        changed = _override(value, names[1:], text, where)
    elif dataclasses.is_dataclass(value):
        fields = ", ".join(field.name for field in dataclasses.fields(value))
        raise ConfigError(f"{name} is a block of fields", where=where, hint=f"set one: {fields}")
    else:
        changed = _parse(hints[name], text, value, where)
    return dataclasses.replace(config, **{name: changed})


def _parse(hint, text, present, where):
    optional = isinstance(hint, types.UnionType)
    if optional:
        if text.lower() == "none":
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is not tuple:
        return _parse_one(hint, text, where)
    item, parts = typing.get_args(hint)[0], [part.strip() for part in text.split(",")]
    parts = [part for part in parts if part]
    if not dataclasses.is_dataclass(item):
        return tuple(_parse_one(item, part, where) for part in parts)
    chosen = []
    for part in parts:
        named = [entry for entry in present if part in (entry.task, entry_name(entry))]
        if not named:
            hint = "entries of the file: " + ", ".join(map(entry_name, present))
            raise ConfigError(f"no entry of the file has the task {part!r}", where=where, hint=hint)
        chosen += named
    return tuple(chosen)


def entry_name(entry) -> str:
    """`paws`, or `paws:lora` for an entry with a variant: what selects it on the command line."""
    variant = getattr(entry, "variant", "")
    return f"{entry.task}:{variant}" if variant else entry.task


def _parse_one(hint, text, where):
    import pydantic

    try:
        return _adapter(hint).validate_strings(text)
    except pydantic.ValidationError as error:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            raise misspelt(text, [str(member) for member in hint], where=where) from error
        raise ConfigError(f"expected {hint.__name__}, got {text!r}", where=where) from error


@functools.cache
def _adapter(kind):
    import pydantic

    return pydantic.TypeAdapter(kind)


def _readable(kind, error, where) -> ConfigError:
    """The first problem that pydantic reports, in this project's words."""
    first = error.errors(include_url=False)[0]
    *outer, name = first["loc"] or ("",)
    field = where + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return _unknown(_block_at(kind, outer), name, field)
    if first["type"] == "enum":
        members = [
            part.strip("'") for part in first["ctx"]["expected"].replace(" or ", ", ").split(", ")
        ]
        return misspelt(first["input"], members, where=field)
    what = first["msg"].removeprefix("Input should be ").removesuffix(" in strict mode")
    what = what.replace("a valid array", "a tuple")
    return ConfigError(f"expected {what}, got {first['input']!r}", where=field)


def _block_at(kind, path):
    for name in path:
        if isinstance(name, str):
            kind = typing.get_type_hints(kind)[name]
            if typing.get_origin(kind) is tuple:
                kind = typing.get_args(kind)[0]
    return kind


def _unknown(kind, name, where) -> ConfigError:
    known = [field.name for field in dataclasses.fields(kind)]
    return misspelt(name, known, where=where, what=f"unknown field {name!r} of {kind.__name__}")


def misspelt(name, known, *, where: str, what: str | None = None) -> ConfigError:
    """The error for a name that is not among `known`, with the nearest one that is."""
    what = what or f"unknown {where.rpartition('.')[2]} {name!r}"
    return ConfigError(what, where=where, hint=spelling.hint(name, known))
