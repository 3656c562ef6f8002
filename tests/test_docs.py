"""What the documentation names exists: files, links, verbs and their flags, configuration fields,
modules, functions and their arguments.
"""

import ast
import dataclasses
import functools
import re
import shlex
import typing
from pathlib import Path

import pytest

from amuro_jax import config as configuration
from amuro_jax.cli.main import VERBS, module_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "third_party/README.md")
    if path.name != "CHANGELOG.md"  # it names what no longer exists
)
FOLDERS = ("amuro_jax", "tests", "configs", "docs", "launch", "benchmarks", "third_party")
VERB_CONFIGS = [
    getattr(configuration, module_of(verb).CONFIG) for verb in ("train", "score", "study", "lab")
]
NOT_MODULES = re.compile(
    r"\.(py|jsonl?|ya?ml|parquet|arrow|html|csv|md|txt|pt|bin|safetensors|log)$"
)
# Calls of other packages and of examples, in prose.
FOREIGN = {"get_config", "integers", "shuffle"}


def of_page(name):
    return pytest.mark.parametrize(name, PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def fences(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block of a page."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def inline(page: Path) -> list[str]:
    """Every piece of inline code outside fenced blocks, on one line."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> list[list[str]]:
    """Words of every `amuro VERB …` of a page, in fences and inline."""
    lines = []
    for _, text in fences(page):
        lines += re.sub(r"\\\n\s*", " ", text).splitlines()
    words = []
    for line in (*lines, *inline(page)):
        line = re.sub(r"^(\S*/)?amuro\b", "amuro", line.strip())
        if line.startswith("amuro ") and "…" not in line.split()[1]:
            words.append(shlex.split(line, comments=True)[1:])
    return words


@functools.cache
def flags_of(verb: str) -> set[str]:
    """Names of the flags that a verb declares, from its source: absl has one registry a process."""
    names = {"help"}
    declared = {"define_config": {"config"}, "define_cluster": {"cluster"}}
    declared |= {"define_cache": {"cache"}, "define_checkpoint": {"checkpoint"}}
    for node in ast.walk(ast.parse(Path(module_of(verb).__file__).read_text())):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            names |= declared.get(called, set())
            if called.startswith("DEFINE_") and isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
    return names


def has_field(kind, names: list[str]) -> bool:
    hints = typing.get_type_hints(kind)
    if names[0] not in hints:
        return False
    inner = hints[names[0]]
    return len(names) == 1 or (dataclasses.is_dataclass(inner) and has_field(inner, names[1:]))


@functools.cache
def definitions() -> tuple[dict, dict]:
    """(module → its names, name → what each function or class of that name takes)."""
    modules, signatures = {}, {}
    for path in sorted((ROOT / "amuro_jax").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "amuro_jax").with_suffix("").parts)
        tree = ast.parse(path.read_text())
        names = modules.setdefault(name.removesuffix(".__init__"), {})
        for node in tree.body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                names |= {alias.asname or alias.name: set() for alias in node.names}
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                for one in ast.walk(target) if target else ():
                    if isinstance(one, ast.Name):
                        names[one.id] = set()
            if isinstance(node, ast.ClassDef):
                names[node.name] = _members(node)
            if isinstance(node, ast.FunctionDef):
                names[node.name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                signatures.setdefault(node.name, []).append(_arguments(node))
            if isinstance(node, ast.ClassDef):
                signatures.setdefault(node.name, []).append(_constructor(node))
    return modules, signatures


def _members(node):
    names = {getattr(one, "name", None) for one in node.body}
    names |= {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}
    inside = [one for one in ast.walk(node) if isinstance(one, ast.Attribute)]
    return names | {one.attr for one in inside if getattr(one.value, "id", "") == "self"}


def _arguments(node):
    of = node.args
    names = {one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs)}
    return names | ({"*"} if of.vararg or of.kwarg else set())


def _constructor(node):
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            return _arguments(one)
    fields = {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}
    return fields or {"*"}


def test_the_readme_names_every_verb():
    named = set(re.findall(r"`([a-z-]+)`", (ROOT / "README.md").read_text()))
    assert set(VERBS) <= named


@of_page("page")
def test_prose_is_at_most_100_columns(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 100 and line[:1] not in "|!"]
    assert not long


@of_page("page")
def test_files_and_links_exist(page):
    missing = []
    for code in inline(page):
        path = code.split("::")[0].split(":")[0]
        if re.fullmatch(rf"({'|'.join(FOLDERS)})(/[\w.\-*]+)+/?", path) and not any(
            ROOT.glob(path.rstrip("/"))
        ):
            missing.append(code)
        name = code.partition("::")[2]
        if name and f"def {name}(" not in (ROOT / path).read_text():
            missing.append(code)
        # `convert/rules.py`, `checkpoint.py`: within the package
        if re.fullmatch(r"[a-z_]+(/[a-z_0-9]+)*\.py", path) and not any(
            [*(ROOT / "amuro_jax").rglob(path), *ROOT.glob(path)]
        ):
            missing.append(code)
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not link.startswith("http") and not (page.parent / link).exists():
            missing.append(link)
    assert not missing


@of_page("page")
def test_verbs_flags_and_fields_exist(page):
    wrong = []
    for verb, *words in commands(page):
        if verb in ("VERB", "help") or verb.startswith("-"):
            continue
        if verb not in VERBS:
            wrong.append(f"amuro {verb}")
            continue
        source = Path(module_of(verb).__file__).read_text()
        kinds = [kind for kind in VERB_CONFIGS if kind.__name__ in source]  # `plan` takes several
        for word in words:
            flag = re.match(r"--([\w.]+)", word)
            if flag is None:
                continue
            name, _, field = flag[1].partition(".")
            known = not field or any(has_field(kind, field.split(".")) for kind in kinds)
            if name not in flags_of(verb) | {f"no{name}" for name in flags_of(verb)} or not known:
                wrong.append(f"amuro {verb} {flag[0]}")
    for code in inline(page):
        for field in re.findall(r"--config\.([\w.]+)", code):
            if not any(has_field(kind, field.split(".")) for kind in VERB_CONFIGS):
                wrong.append(f"--config.{field}")
        field = re.fullmatch(
            r"(?:config\.)?((?:recipe|scoring|run|train_run|score_run)\.\w+)", code
        )
        if field and field[1] in definitions()[0]:  # a module: `scoring.planner`
            continue
        if field and not any(has_field(kind, field[1].split(".")) for kind in VERB_CONFIGS):
            wrong.append(code)
    assert not wrong


@of_page("page")
def test_modules_functions_and_arguments_exist(page):
    modules, signatures = definitions()
    wrong = []
    for code in inline(page):
        for dotted in re.findall(r"(?<![\w./\-])[a-z_]+(?:\.[A-Za-z_]+)+", code):
            parts = dotted.removeprefix("amuro_jax.").split(".")
            if NOT_MODULES.search(dotted) or parts[0] in ("config", "run"):
                continue
            for cut in range(len(parts) - 1, 0, -1):
                prefix = ".".join(parts[:cut])
                found = [
                    names for name, names in modules.items() if f".{name}".endswith(f".{prefix}")
                ]
                if found:
                    rest = parts[cut:]
                    submodule = any(f".{name}".endswith(f".{dotted}") for name in modules)
                    if not submodule and not any(_has(names, rest) for names in found):
                        wrong.append(dotted)
                    break
        if call := re.fullmatch(r"(?:[\w.]*\.)?(\w+)\((.*?)\)(?: -> .*)?", code):
            name, arguments = call.groups()
            while inner := re.search(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}", arguments):
                arguments = arguments.replace(inner[0], "")
            words = set(re.findall(r"(?<![\w.\"'=\[{])([a-z_]\w*)(?=\s*[,=)]|$)", arguments))
            if name in FOREIGN or not arguments:
                continue
            if name not in signatures:
                wrong.append(f"{name}: no such function")
            elif not any("*" in taken or words <= taken for taken in signatures[name]):
                wrong.append(f"{name}: takes none of {words - set.union(*signatures[name])}")
    assert not wrong


def _has(names, rest):
    """Whether a module has a name, a class of it a member, or (`store.problem`) its class has."""
    if rest[0] in names:
        return len(rest) == 1 or not names[rest[0]] or rest[1] in names[rest[0]]
    return any(rest[0] in members for members in names.values())
