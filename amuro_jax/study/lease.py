"""One process at a time on one study folder."""

import contextlib

from amuro_jax.storage import Storage


@contextlib.contextmanager
def lease(workdir):
    """Holds the claim `lease` of a folder or URL, with a heartbeat; yields a function that raises
    AmuroError once it was lost.

    Raises:
        AmuroError: another living process holds it.
    """
    with Storage.open(workdir).claim("lease") as claim:
        yield claim.check
