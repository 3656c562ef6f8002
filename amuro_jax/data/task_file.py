"""A user's own set as a small YAML file, which every verb takes in place of a task's name.

name: my_nli                 kind: classification | generation | multiple_choice
folder: my_nli               local folder under data_root; or `hub: owner/name` and `config: …`
fields: {premise: sent_a, hypothesis: sent_b}      field of the prompt: column of the rows
gold: label                  column with the label word or its index; of the right option in
multiple choice
labels: [entailment, neutral, contradiction]       classification only, in the order of the indices
frame: nli                   prompts of a kind of set that is known; or templates of one's own:
templates: {default: "A: {premise}\\n B: {hypothesis}\\n Relation: "}
"""

import string
from pathlib import Path

from amuro_jax.data import formats
from amuro_jax.data.task import Source, Task
from amuro_jax.errors import ConfigError

KINDS = ("classification", "generation", "multiple_choice")
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
    """The task that a YAML file describes.

    Raises:
        ConfigError: not YAML, an unknown or missing name, a template with a field that no column
            fills.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ConfigError("no such task file", where=path)
    try:
        given = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=path) from error
    if not isinstance(given, dict):
        raise ConfigError("expected names and values", where=path)
    if unknown := [name for name in given if name not in NAMES]:
        raise ConfigError(
            f"unknown name {unknown[0]!r}", where=path, hint="names: " + ", ".join(NAMES)
        )
    _require(given, path)
    return _task(given)


def _require(given, path):
    kind = given.get("kind")
    if kind not in KINDS:
        raise ConfigError(
            f"unknown kind {kind!r}", where=f"{path}: kind", hint="one of " + ", ".join(KINDS)
        )
    needed = {
        "classification": ("gold", "labels"),
        "generation": ("completion",),
        "multiple_choice": ("gold", "choices"),
    }[kind]
    for name in ("name", "fields", *needed):
        if not given.get(name):
            raise ConfigError(
                f"{name} is missing",
                where=path,
                hint=f"a {kind} set needs name, fields, {', '.join(needed)}",
            )
    if not given.get("hub") and not given.get("folder"):
        raise ConfigError("neither hub nor folder is given", where=path)
    templates, frame = given.get("templates") or {}, given.get("frame")
    if kind != "multiple_choice" and not templates and frame not in formats.FRAMES:
        raise ConfigError(
            "neither templates nor a known frame",
            where=path,
            hint="frames: " + ", ".join(formats.FRAMES),
        )
    for name, template in templates.items():
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field]
        if missing := [field for field in fields if field not in given["fields"]]:
            raise ConfigError(
                f"template {name!r} names a field {missing[0]!r}",
                where=path,
                hint=f"fields: {sorted(given['fields'])}",
            )


def _task(given):
    kind, mapping = (
        given["kind"],
        {
            name: given[name]
            for name in ("completion", "gold", "choices", "id", "group")
            if given.get(name)
        },
    )
    mapping = {
        name: tuple(value) if isinstance(value, list) else value for name, value in mapping.items()
    }
    mapping["fields"] = tuple(sorted(given["fields"].items()))
    columns = [
        *given["fields"].values(),
        *(
            column
            for name in ("completion", "gold", "choices")
            for column in _listed(mapping.get(name))
        ),
    ]
    test = tuple(_listed(given.get("test"))) or ("test", "validation")
    source = Source(
        given.get("hub", ""),
        given.get("folder") or given["name"],
        given.get("config", ""),
        (),
        given.get("train", "train"),
        test,
        shots_from=given.get("shots_from", ""),
    )
    return Task(
        given["name"],
        kind,
        given.get("frame") or ("choice" if kind == "multiple_choice" else given["name"]),
        "mapped",
        source,
        tuple(dict.fromkeys(columns)),
        tuple(map(str, given.get("labels") or ())),
        given.get("metric") or _metric(kind),
        tuple(_listed(given.get("roles"))) or ("extra",),
        given.get("family", ""),
        given.get("primary", "raw"),
        given.get("licence", "unspecified"),
        tuple(_listed(given.get("evidence"))),
        tuple(_listed(given.get("stop"))) or ("\n",),
        int(given.get("new_tokens", 0)),
        tuple(sorted(mapping.items())),
        tuple((given.get("templates") or {}).items()),
    )


def _metric(kind):
    return "rougeL" if kind == "generation" else "accuracy"


def _listed(value):
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
