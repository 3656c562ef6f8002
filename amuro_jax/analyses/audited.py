"""What the auditor says of every score, as a table. No jax."""

import pandas as pd

from amuro_jax.analyses.analysis import Analysis
from amuro_jax.analyses.changes import PLACE_COLUMNS
from amuro_jax.evals import audit
from amuro_jax.evals.audit_scores import audit_series
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store

_PLACE = ("task", "tuned_on", "checkpoint", "format", "shots")


def audited(results: Results, _=None) -> pd.DataFrame:
    """A line per finding and score, the gravest first; empty for results without a store."""
    store = getattr(results.suites, "store", None)
    if store is None:
        return pd.DataFrame()
    every = results.cells if results.every is None else results.every
    found, lines = findings(results, store), []
    for cell in every.drop_duplicates("key").to_dict("records"):
        named = {name: cell[name] for name in _PLACE}
        lines += [
            {
                "severity": one.severity,
                "code": one.code,
                **named,
                "what": one.what,
                "effect": one.effect,
                "key": cell["key"],
            }
            for one in found[cell["key"]]
        ]
    lines.sort(key=lambda line: -audit.SEVERITIES.index(line["severity"]))  # stable
    return pd.DataFrame(lines)


_FOUND = "findings"  # where those of a study are kept


def findings(results: Results, store: Store) -> dict[str, list[audit.Finding]]:
    """What the auditor says of every stored score, by key: of its rows, or of an imported one of
    the number and its series. Kept, since table and page both want it.
    """
    if _FOUND not in results.derived:
        every = results.cells if results.every is None else results.every
        own = every.drop_duplicates("key")
        of_series = audit_series(own[own["key"].map(store.is_imported).astype(bool)])
        results.derived[_FOUND] = {
            key: audit.audit_cell(store, key) + of_series.get(key, []) for key in own["key"]
        }
    return results.derived[_FOUND]


AUDIT = Analysis(
    "audit",
    "What the auditor finds",
    audited,
    {
        "severity": "error (the number does not mean what it says), warning (read it with care), "
        "note",
        "code": "stable name of the kind of finding",
        **{name: PLACE_COLUMNS[name] for name in _PLACE},
        "what": "the fact with its figures",
        "effect": "what it does to the number",
        "key": "content key of the score",
    },
)
