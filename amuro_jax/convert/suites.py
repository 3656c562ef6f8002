"""How each published suite of pre-training checkpoints names its revisions. A table: a new suite is
a new entry.

Sources: the suites' model cards and revision lists on the Hub.
"""

import dataclasses
import re

# Number with a unit of thousands, millions, billions, trillions.
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_STEP_TOKENS = r"step(?P<step>\d+)-tokens(?P<tokens>[\d.]+)(?P<unit>[KMBT]?)B?"


@dataclasses.dataclass(frozen=True)
class Suite:
    """One family of repositories and how to read their revisions.

    Attributes:
        name: shown to people.
        repositories: regular expression of Hub names; groups give what the repository's name itself
            says.
        patterns: regular expressions of revisions, tried in order, with groups step, tokens, unit,
            stage, ingredient, seed.
        tokens_per_step: where names give no tokens; 0: unknown.
        step_unit: steps per unit of the `step` group (Amber counts chunks of data, TinyLlama
            thousands of steps).
        first: steps at `step` 0, in units (Amber's ckpt_000 has seen one chunk).
        main: (step, tokens) of `main` where it is the last pre-training checkpoint; None: it is
            something else.
        members: repositories, where the series is one repository per step.
        known: revisions, where they follow from the suite's rule (used when the Hub cannot be
            asked).
    """

    name: str
    repositories: str
    patterns: tuple[str, ...]
    tokens_per_step: float = 0
    step_unit: int = 1
    first: int = 0
    main: tuple[int, int] | None = None
    members: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


_PYTHIA = tuple(
    f"step{step}" for step in [0] + [2**i for i in range(10)] + list(range(1000, 144000, 1000))
)
_TINY = "TinyLlama/TinyLlama-1.1B-"
_TINYLLAMA = tuple(
    _TINY + tail
    for tail in (
        "step-50K-105b",
        "intermediate-step-240k-503b",
        "intermediate-step-480k-1T",
        "intermediate-step-715k-1.5T",
        "intermediate-step-955k-token-2T",
        "intermediate-step-1195k-token-2.5T",
        "intermediate-step-1431k-3T",
    )
)

SUITES = (
    Suite(
        "OLMo-1B",
        r"allenai/OLMo-1B(-hf)?",
        (_STEP_TOKENS,),
        4_194_304,
        main=(738020, 3_095_000_000_000),
    ),
    Suite(
        "OLMo-7B",
        r"allenai/OLMo-7B(-0424|-0724|-Twin-2T)?(-hf)?|allenai/OLMo-1B-0724(-hf)?",
        (_STEP_TOKENS, r"step(?P<step>\d+)"),
    ),
    Suite(
        "OLMo-2 and OLMo-3",
        r"allenai/O[Ll][Mm]o-[23]-.*",
        (
            rf"stage(?P<stage>\d+)-ingredient(?P<ingredient>\d+)-{_STEP_TOKENS}",
            rf"stage(?P<stage>\d+)-{_STEP_TOKENS}",
            r"stage(?P<stage>\d+)-(ingredient(?P<ingredient>\d+)-)?step(?P<step>\d+)",
            _STEP_TOKENS,  # some early ones lack `stage1-`
        ),
    ),
    Suite(
        "Pythia",
        r"EleutherAI/pythia-.*",
        (r"step(?P<step>\d+)",),
        2_097_152,
        main=(143000, 143000 * 2_097_152),
        known=_PYTHIA,
    ),
    Suite(
        "Amber",
        r"LLM360/Amber",
        (r"ckpt_(?P<step>\d+)",),
        3_500_000_000,
        first=1,
        main=(360, 360 * 3_500_000_000),
    ),
    Suite(
        "TinyLlama",
        r"TinyLlama/TinyLlama-1\.1B(-(intermediate-)?step-.*)?",
        (r".*step-(?P<step>\d+)[kK]-(token-)?(?P<tokens>[\d.]+)(?P<unit>[bBtT])",),
        step_unit=1000,
        members=_TINYLLAMA,
    ),
    Suite("DataDecide", r"allenai/DataDecide-.*", (r"step(?P<step>\d+)-seed-(?P<seed>[\w-]+)",)),
    Suite(
        "SmolLM2", r"HuggingFaceTB/SmolLM2-.*-intermediate-checkpoints", (r"step-(?P<step>\d+)",)
    ),
)

# Folders of checkpoints, the laboratory's among them: any of the spellings above.
LOCAL = Suite(
    "folder",
    r".*",
    (
        rf"stage(?P<stage>\d+)-(ingredient(?P<ingredient>\d+)-)?{_STEP_TOKENS}",
        _STEP_TOKENS,
        r"step(?P<step>\d+)-seed-(?P<seed>[\w-]+)",
        r"(step|checkpoint|ckpt|iter)[-_]?(?P<step>\d+)(-unsharded|-hf)?",
    ),
)


def find_suite(repository: str) -> Suite | None:
    """The suite of a Hub name, or None."""
    return next((suite for suite in SUITES if re.fullmatch(suite.repositories, repository)), None)
