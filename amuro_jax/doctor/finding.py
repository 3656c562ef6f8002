"""What one look at a machine found. Imports no jax."""

import dataclasses

from amuro_jax.errors import AmuroError


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of `amuro doctor`.

    Attributes:
        name: of what was looked at; the same on all processes.
        ok: whether work can go on with it.
        text: what was found.
        hint: what to do; empty where it is ok.
        values: numbers of `text`, for programs.
    """

    name: str
    ok: bool
    text: str
    hint: str = ""
    values: dict = dataclasses.field(default_factory=dict)

    def line(self) -> str:
        """For people."""
        mark = "ok" if self.ok else "NOT OK"
        hint = f"\n{'':<21}to do: {self.hint}" if self.hint else ""
        return f"{mark:<7}{self.name:<14}{self.text}{hint}"


def look(name: str, function, *arguments) -> Finding:
    """What a function found; a fault in it is a finding that is not ok."""
    try:
        return function(*arguments)
    except AmuroError as error:
        where = f" ({error.where})" if error.where is not None else ""
        return Finding(name, False, f"{error.what}{where}", error.hint or "see the text above")
    except Exception as error:  # of a driver, a runtime, a file system: each has its own
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Finding(name, False, text, "this is an error of the system or of a package")
