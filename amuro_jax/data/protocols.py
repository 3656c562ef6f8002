"""The two protocols and the named switch of each quirk (docs/protocols.md)."""

import dataclasses
import re

from amuro_jax import spelling
from amuro_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One switch per quirk of the published pipeline; False is what it meant to do. The number is
    the quirk's.

    Attributes:
        shots_from_test: (1) shots are the first rows of the test file, and still scored.
        sub_token_candidates: (2) every sub-token of every label competes at one position.
        published_templates: (3, 12, 13) the released formatter's bytes: trailing spaces, missing
            spaces, no IO for CNN, first option right.
        published_splits: (4, 14) the splits that were scored, unlabelled ones included.
        gold_in_prompt: (6) LLMBar's prompt holds the answer.
        no_stop: (7) generation ends at eos or its length only.
        no_fitting: (8) nothing is dropped or cut where shots and query overflow the context;
            overflow is counted.
        interval_midpoint: (9) the score is the middle of the bootstrap interval.
        rte_neutral: (11) RTE's second class is `neutral`, and `contradiction` is always wrong.
        loss_mean_per_example: (15) each example weighs the same, however short.
        published_choices: (17, 18) multiple choice as the evaluation suite did it: prompts, shots
            per instance, separate tokenisation.
        published_label_search: `free` takes the label that comes first in a fixed order (no, yes;
            contradiction, neutral, entailment), wherever it is in the text.
        warmup_rounded_down: training warms up for 67 of 2,250 steps, not 68.
    """

    shots_from_test: bool = False
    sub_token_candidates: bool = False
    published_templates: bool = False
    published_splits: bool = False
    gold_in_prompt: bool = False
    no_stop: bool = False
    no_fitting: bool = False
    interval_midpoint: bool = False
    rte_neutral: bool = False
    loss_mean_per_example: bool = False
    published_choices: bool = False
    published_label_search: bool = False
    warmup_rounded_down: bool = False

    @property
    def name(self) -> str:
        """`strict`, `paper`, or the nearer of the two with its differences:
        `strict+shots_from_test`.
        """
        on = [field for field, value in self.switches().items() if value]
        off = [field for field, value in self.switches().items() if not value]
        if len(on) <= len(off):
            return "strict" + "".join(f"+{field}" for field in on)
        return "paper" + "".join(f"-{field}" for field in off)

    def switches(self) -> dict[str, bool]:
        """Switch name → whether the quirk is on."""
        return dataclasses.asdict(self)


STRICT = Protocol()
PAPER = Protocol(**{field.name: True for field in dataclasses.fields(Protocol)})
NAMES = {"strict": STRICT, "paper": PAPER}
EACH = "each"  # both protocols, and every quirk of scoring by itself: added to strict, taken away
TRAINING = ("loss_mean_per_example", "warmup_rounded_down")  # quirks that change no score by itself
AVERAGES = "published_averages"  # (19) a quirk of the report: it changes no score, and no key


def resolve(protocol: str, quirks: tuple[str, ...] | str = ()) -> Protocol:
    """The protocol of a name and single switches: `resolve("strict", ("+shots_from_test",))`.

    Args:
        quirks: `+name` or `-name` each; also as one text with commas between them.
            `published_averages` is the report's, see there.

    Raises:
        ConfigError: unknown protocol or switch, or a switch without + or -.
    """
    changes = _changes(protocol, quirks)
    changes.pop(AVERAGES, None)
    return dataclasses.replace(NAMES[protocol], **changes)


def published_averages(protocol: str, quirks: tuple[str, ...] | str = ()) -> bool:
    """Whether a report's means over sets are the published ones, in which SciQ counts twice (quirk
    19): under `paper`, unless `-published_averages`; under `strict` with `+published_averages`.

    Raises:
        ConfigError: as `resolve`.
    """
    return _changes(protocol, quirks).get(AVERAGES, protocol == "paper")


def _changes(protocol, quirks):
    """Quirk → whether it is switched on, of those that are named."""
    if protocol not in NAMES:
        raise ConfigError(
            f"unknown protocol {protocol!r}",
            where="protocol",
            hint=spelling.hint(protocol, NAMES),
        )
    parts = quirks.split(",") if isinstance(quirks, str) else quirks
    known, changes = [*STRICT.switches(), AVERAGES], {}
    for part in filter(None, (piece.strip() for piece in parts)):
        sign, name = part[0], part[1:]
        if sign not in "+-" or name not in known:
            raise ConfigError(
                f"unknown quirk {part!r}",
                where="quirks",
                hint="+name or -name; " + spelling.hint(part.lstrip("+-"), known),
            )
        changes[name] = sign == "+"
    return changes


def named(name: str) -> tuple[str, tuple[str, ...]]:
    """Protocol and switches of a stored name: `strict+no_stop` → `("strict", ("+no_stop",))`.

    Raises:
        ConfigError: as `resolve`.
    """
    protocol, *rest = re.split(r"(?=[+-])", name)
    _changes(protocol, tuple(rest))
    return protocol, tuple(rest)


def expanded(names: tuple[str, ...]) -> list[str]:
    """The names with `each` as what it stands for, each protocol once, under its shortest name.

    Raises:
        ConfigError: as `resolve`.
    """
    switches = [name for name in STRICT.switches() if name not in TRAINING]
    every = ["strict", "paper"]
    every += [f"strict+{name}" for name in switches] + [f"paper-{name}" for name in switches]
    listed = [one for name in names for one in (every if name == EACH else [name])]
    return list(dict.fromkeys(resolve(*named(name)).name for name in listed))
