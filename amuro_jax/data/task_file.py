"""A user's own set as a small YAML file, which every verb takes instead of a task's name.

name: my_nli                 what reports call it; another set's name is refused
kind: classification         generation | multiple_choice
folder: my_nli               local folder under data_root; or `hub: owner/name` and `config: …`
fields: {premise: sent_a, hypothesis: sent_b}      field of the prompt: column of the rows
gold: label                  column with the label word or its index; of the right option in
multiple choice
labels: [entailment, neutral, contradiction]       classification only, in the order of the indices
frame: nli                   prompts of a kind of set that is known; or templates of one's own:
templates: {default: "A: {premise}\\n B: {hypothesis}\\n Relation: "}

A set of pairs (kind: preference) names the columns `chosen` and `rejected`: texts behind a prompt
of `fields`, or, without fields, conversations.
"""

import functools

from amuro_jax import spelling
from amuro_jax.config import Metric, Role
from amuro_jax.data import formats
from amuro_jax.data.task import DataSource, Family, Kind, Task
from amuro_jax.errors import ConfigError
from amuro_jax.storage import Storage

KINDS = (Kind.CLASSIFICATION, Kind.GENERATION, Kind.MULTIPLE_CHOICE, Kind.PREFERENCE)
NEEDED = {
    Kind.CLASSIFICATION: ("fields", "gold", "labels"),
    Kind.GENERATION: ("fields", "completion"),
    Kind.MULTIPLE_CHOICE: ("fields", "gold", "choices"),
    Kind.PREFERENCE: ("chosen", "rejected"),
}
METRICS = {
    Kind.CLASSIFICATION: (Metric.ACCURACY,),
    Kind.GENERATION: (Metric.ROUGE_L, Metric.EXACT_NUMBER),
    Kind.MULTIPLE_CHOICE: (Metric.ACCURACY,),
    Kind.PREFERENCE: (),
}
PRIMARY = ("raw", "per_token", "per_char", "unconditional")
# A set that a study fine-tunes on is scored by the other tasks' models too, unless it says else.
ROLES = (Role.IN_DOMAIN, Role.CROSS_TASK)
SOURCE = ("hub", "config", "folder", "train", "test", "shots_from")
NAMES = (
    "name",
    "kind",
    "frame",
    "fields",
    "completion",
    "gold",
    "labels",
    "choices",
    "chosen",
    "rejected",
    "id",
    "group",
    "templates",
    "metric",
    "primary",
    "roles",
    "family",
    "licence",
    "evidence",
    "stop",
    "new_tokens",
    *SOURCE,
)


def read_task(path) -> Task:
    """The task that a YAML file describes, of a local disk or an object store.

    Raises:
        ConfigError: not YAML, an unknown or missing name, a template with a field that no column
            fills.
    """
    storage, name = Storage.of_file(path)
    if not storage.exists(name):
        raise ConfigError("no such task file", where=path)
    return parse_task(storage.read_text(name), str(path))


@functools.lru_cache(maxsize=256)
def parse_task(text: str, where: str = "task file") -> Task:
    """The task that a YAML text describes.

    Raises:
        ConfigError: as `read_task`.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=where) from error
    if not isinstance(values, dict):
        raise ConfigError("expected names and values", where=where)
    for name in values:
        _one_of(name, NAMES, "name", where)
    _require(values, where)
    _require_prompts(values, where)
    return _task(values)


def _one_of(value, known, what, where):
    if value not in known:
        raise ConfigError(
            f"unknown {what} {value!r}", where=where, hint=spelling.hint(value, known)
        )
    return value


def _require(values, where):
    kind = _one_of(values.get("kind"), KINDS, "kind", f"{where}: kind")
    for name in ("name", *NEEDED[kind]):
        if not values.get(name):
            raise ConfigError(
                f"{name} is missing",
                where=where,
                hint=f"a {kind} set needs name, {', '.join(NEEDED[kind])}",
            )
    if not values.get("hub") and not values.get("folder"):
        raise ConfigError("neither hub nor folder is set", where=where)
    if metric := values.get("metric"):
        _one_of(metric, METRICS[kind], "metric", f"{where}: metric")
    if primary := values.get("primary"):
        _one_of(primary, PRIMARY, "primary", f"{where}: primary")
    for role in _listed(values.get("roles")):
        _one_of(role, tuple(Role), "role", f"{where}: roles")
    family = values.get("family", "")
    near = spelling.nearest(family, tuple(Family))
    if family not in tuple(Family) and near:  # a new family may have any other name
        raise ConfigError(
            f"unknown family {family!r}",
            where=f"{where}: family",
            hint=f"did you mean {near!r}? one of {', '.join(Family)}, or a name unlike these",
        )


def _require_prompts(values, where):
    frame, templates = values.get("frame"), values.get("templates") or {}
    if frame is not None:
        _one_of(frame, tuple(formats.FRAMES), "frame", f"{where}: frame")
    elif not templates and values["kind"] != Kind.MULTIPLE_CHOICE and values.get("fields"):
        raise ConfigError(
            "neither templates nor a frame is set",
            where=where,
            hint="frames: " + ", ".join(formats.FRAMES),
        )
    for name, template in templates.items():
        fields = formats.template_fields(template)
        if missing := [field for field in fields if field not in (values.get("fields") or {})]:
            raise ConfigError(
                f"template {name!r} names a field {missing[0]!r}",
                where=where,
                hint=f"fields: {sorted(values.get('fields') or {})}",
            )
        if not fields or "~" in name:
            raise ConfigError(
                f"template {name!r} has no {{field}}, or its name has a ~",
                where=where,
                hint="a ~ marks a perturbation of a format",
            )


def _task(values):
    kind = Kind(values["kind"])
    pairs = kind == Kind.PREFERENCE
    mapping = {
        name: tuple(values[name]) if isinstance(values[name], list) else values[name]
        for name in ("completion", "gold", "choices", "chosen", "rejected", "id", "group")
        if values.get(name)
    }
    fields = values.get("fields") or {}
    mapping["fields"] = tuple(sorted(fields.items()))
    columns = [*fields.values()]
    for name in ("completion", "gold", "choices", "chosen", "rejected"):
        columns += _listed(mapping.get(name))
    source = DataSource(
        hub=values.get("hub", ""),
        folder=values.get("folder") or values["name"],
        config=values.get("config", ""),
        train=values.get("train", "train"),
        test=() if pairs else tuple(_listed(values.get("test"))) or ("test", "validation"),
        shots_from=values.get("shots_from", ""),
    )
    frame = "choice" if kind == Kind.MULTIPLE_CHOICE else values["name"]
    return Task(
        name=values["name"],
        kind=kind,
        frame=values.get("frame") or frame,
        reader="preference" if pairs else "mapped",
        source=source,
        columns=tuple(dict.fromkeys(columns)),
        labels=tuple(map(str, values.get("labels") or ())),
        metric=None if pairs else Metric(values.get("metric") or METRICS[kind][0]),
        roles=tuple(map(Role, _listed(values.get("roles"))))
        or ((Role.FINE_TUNE,) if pairs else ROLES),
        family=values.get("family", ""),
        primary=values.get("primary", "raw"),
        licence=values.get("licence", "unspecified"),
        evidence=tuple(_listed(values.get("evidence"))),
        stop=tuple(_listed(values.get("stop"))) or ("\n",),
        new_tokens=int(values.get("new_tokens", 0)),
        templates=tuple((values.get("templates") or {}).items()),
        mapping=tuple(sorted(mapping.items())),
    )


def _listed(value):
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
