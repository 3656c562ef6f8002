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
        phases: revisions that are named after phases of training, in their order; they are stages.
        cumulative: whether steps and tokens count on through the stages; else each stage counts its
            own.
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
    phases: tuple[str, ...] = ()
    cumulative: bool = False


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
        # PolyPythias: pythia-160m-seed3, pythia-160m-data-seed2, pythia-160m-weight-seed1.
        r"EleutherAI/pythia-.*?(-(?P<seed>(data-|weight-)?seed\d+))?",
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
    Suite(
        "SmolLM3",  # steps of the longer contexts (lc-…) and of post-training (it-…) are left out
        r"HuggingFaceTB/SmolLM3-3B-checkpoints",
        (r"stage(?P<stage>\d+)-step-(?P<step>\d+)",),
        2_359_296,
        cumulative=True,
    ),
    Suite(
        "FineWeb ablations",
        r"HuggingFaceFW/ablation-model-.*",
        (r"step-(?P<step>\d+)-(?P<tokens>[\d.]+)(?P<unit>[MBT])T",),
    ),
    Suite("BLOOM", r"bigscience/bloom-.*", (r"global_step(?P<step>\d+)",)),
    Suite("K2", r"LLM360/K2(-.*)?", (r"ckpt_(?P<step>\d+)",)),
    Suite(
        "CrystalCoder",
        r"LLM360/Crystal.*",
        (r"CrystalCoder_phase(?P<stage>\d)_checkpoint_(?P<step>\d+)",),
        cumulative=True,
    ),
    Suite(
        "Marin",
        r"marin-community/marin-8b-base",
        (),
        phases=("kestrel", "ocelot", "jellyfish", "phoenix", "starling", "deeper-starling"),
    ),
    Suite("Marin, other sizes", r"marin-community/marin-.*", (r"step-(?P<step>\d+)",)),
    Suite(
        "Apertus",
        r"swiss-ai/Apertus-.*",
        (_STEP_TOKENS, r"(step|iter)[-_]?(?P<step>\d+)"),
    ),
    Suite(
        "OpenEuroLLM and HPLT",
        r"HPLT/hplt2c_.*|OpenEuroLLM/.*|open-sci/open-sci-ref-.*",
        (r"(checkpoint|iter|step)[-_](?P<step>\d+)",),
    ),
    Suite("Lucie", r"OpenLLM-France/Lucie-7B", (r"step(?P<step>\d+)",)),
)

# Folders of checkpoints, the laboratory's among them: any of the spellings above.
LOCAL = Suite(
    "folder",
    r".*",
    (
        rf"stage(?P<stage>\d+)-(ingredient(?P<ingredient>\d+)-)?{_STEP_TOKENS}",
        _STEP_TOKENS,
        r"step(?P<step>\d+)-seed-(?P<seed>[\w-]+)",
        r"stage(?P<stage>\d+)-step-?(?P<step>\d+)",
        r"step-(?P<step>\d+)-(?P<tokens>[\d.]+)(?P<unit>[MBT])T",
        r"(step|checkpoint|ckpt|iter|global_step)[-_]?(?P<step>\d+)(-unsharded|-hf)?",
    ),
)


def find_suite(repository: str) -> Suite | None:
    """The suite of a Hub name, or None."""
    return next((suite for suite in SUITES if re.fullmatch(suite.repositories, repository)), None)
