"""The configuration files that come with the package: `configs/` of the checkout, or its copy in an
installed wheel. Imports no jax.
"""

import ast
from pathlib import Path

FOLDER = "configs"
_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Where the package's own files are."""
    installed = _PACKAGE / FOLDER
    return installed if installed.is_dir() else _PACKAGE.parent / FOLDER


def find(name: str) -> Path | None:
    """A file by its path from here or, where there is none, one of the package's.

    Args:
        name: `my/own.py`; of the package `study/lab.py` or `configs/study/lab.py`.
    """
    of_package = Path(name).parts[1:] if Path(name).parts[:1] == (FOLDER,) else Path(name).parts
    paths = (Path(name), folder().joinpath(*of_package))
    return next((path for path in paths if path.is_file()), None)


def descriptions() -> dict[str, str]:
    """Name → first paragraph of its docstring, of each of the package's files."""
    texts = {}
    for path in sorted(folder().rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        texts[path.relative_to(folder()).as_posix()] = " ".join(text.split("\n\n")[0].split())
    return texts
