"""What a misspelt name was probably meant to be."""

import difflib


def nearest(name: str, known) -> str | None:
    """The known name that is most like `name`; None where none is alike."""
    close = difflib.get_close_matches(str(name), [str(other) for other in known], n=1)
    return close[0] if close else None


def hint(name: str, known) -> str:
    """`did you mean 'paws'? one of: …`, for an error about an unknown name."""
    near = nearest(name, known)
    listed = "one of: " + ", ".join(map(str, known))
    return f"did you mean {near!r}? {listed}" if near else listed
