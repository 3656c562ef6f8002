"""Errors that a person can act on: what was wrong, where, and what to do."""


class AmuroError(Exception):
    """A fault in the input, the configuration or the machine that its user can act on.

    Args:
        what: what was wrong, with both sides where two things disagree.
        where: the file, `file:line`, tensor name or configuration key.
        hint: what to do about it.

    The command line prints the three parts on one screen and exits with status 2.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None):
        self.what, self.where, self.hint = what, where, hint
        lines = [what]
        if where is not None:
            lines.append(f"  where: {where}")
        if hint:
            lines.append(f"  to do: {hint}")
        super().__init__("\n".join(lines))

    def __reduce__(self):
        # Keyword arguments are lost by the default, and workers send errors through pickle.
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind, what, where, hint):
    return kind(what, where=where, hint=hint)


class ConfigError(AmuroError):
    """An invalid flag or configuration field."""


class DataError(AmuroError):
    """A data file or row that would give a wrong number if it were used."""


class CheckpointError(AmuroError):
    """A checkpoint that is missing, damaged or not the model that it claims to be."""


class TrainingError(AmuroError):
    """A training run that cannot go on: a loss or gradient that is not finite."""
