"""How much there is to read in a data set: measured from rows at hand, else from a table."""

import dataclasses
import math

import numpy as np

from amuro_jax.config import Recipe, Scoring
from amuro_jax.data import protocols, sources
from amuro_jax.data.encoding import encode_training_set
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.evals.prepare import prepare
from amuro_jax.models.cost import Amount, causal_row
from amuro_jax.scoring import buckets, planner

SAMPLE = 400  # rows whose lengths are measured
BATCH_TOKENS = 16384  # of the scorer on an accelerator; sets what a half-empty batch wastes


@dataclasses.dataclass(frozen=True)
class TrainingRows:
    """Rows of a training set, as they are tokenised.

    Attributes:
        lengths: tokens of some rows, drawn at random.
        targets: predicted tokens of a row, on average.
        source: where the figures come from.
    """

    rows: int
    lengths: tuple[int, ...]
    targets: float
    source: str

    @property
    def mean(self) -> float:
        """Tokens of a row."""
        return sum(self.lengths) / len(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest row that was looked at."""
        return max(self.lengths)


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """Rows of an evaluation set under one format and number of shots.

    Attributes:
        read: what the scorer reads of all rows, prefixes that they share once.
        width: tokens of a row behind the shared prefix; `prefix`: of the prefix.
        generated: new tokens of each row; 0: its answers are ranked.
    """

    rows: int
    read: Amount
    width: int
    prefix: int
    generated: int
    source: str


@dataclasses.dataclass(frozen=True)
class TrainSplit:
    """The training split of a line of the table.

    Attributes:
        deciles: of the rows' lengths in tokens, from the shortest to the longest.
        targets: predicted tokens of a row, on average.
    """

    rows: int
    deciles: tuple[int, ...]
    targets: float

    def lengths(self, limit: int) -> tuple[int, ...]:
        """SAMPLE lengths of this distribution, at most `limit`, shuffled."""
        shares = (np.arange(SAMPLE) + 0.5) / SAMPLE
        lengths = np.interp(shares, np.linspace(0, 1, len(self.deciles)), self.deciles)
        shuffled = np.random.default_rng(0).permutation(lengths.astype(int))
        return tuple(np.minimum(shuffled, limit).tolist())


@dataclasses.dataclass(frozen=True)
class Published:
    """One line of the table.

    Attributes:
        rows: of the split that `strict` scores, as published.
        shot: tokens of one shot; `query`: of a row's own prompt; `answers`: of all continuations of
            a row together.
        train: its training split, of sets that are trained on.
    """

    rows: int
    shot: float
    query: float
    answers: float
    train: TrainSplit | None = None


# Rows: sizes of the published splits; of GPT3NLI what the study's standard errors say, which are
# p (1 - p) / n. Tokens: default format with OLMo-1B's tokenizer, measured on 200 to 400 real rows
# of each set; lengths of training rows on 1,000. Tulu's rows: the published 1,239,293,363 bytes of
# 326,154 rows at 4.4 bytes a token are 864 tokens each; lengths as if they were distributed
# exponentially about this mean (the mean is all that is known), cut at the recipe's 2,048.
TULU_MEAN, TULU_LONGEST = 864, 2048
TULU_DECILES = (*(round(-TULU_MEAN * math.log(1 - n / 10)) for n in range(10)), TULU_LONGEST)
XSUM_DECILES = (47, 134, 192, 257, 302, 354, 401, 457, 523, 608, 1164)
SOCIALIQA_DECILES = (29, 36, 38, 39, 40, 41, 43, 44, 46, 49, 101)
MNLI_DECILES = (26, 37, 43, 47, 51, 55, 60, 65, 70, 79, 289)
PAWS_DECILES = (39, 54, 59, 63, 67, 71, 75, 80, 85, 90, 119)
TABLE = {
    "xsum": Published(11334, 288, 362, 0, TrainSplit(204045, XSUM_DECILES, 27)),
    "xlsum": Published(11535, 350, 349, 0),
    "cnn": Published(11490, 251, 428, 0),
    "socialiqa": Published(1954, 40, 50, 0, TrainSplit(33410, SOCIALIQA_DECILES, 8.5)),
    "sciq": Published(1000, 146, 125, 0),
    "tweetqa": Published(1086, 52, 43, 0),
    "mnli_matched": Published(9815, 56, 55, 11, TrainSplit(392702, MNLI_DECILES, 2.3)),
    "mnli_mismatched": Published(9832, 66, 55, 11),
    "rte": Published(277, 91, 84, 11),
    "gpt3nli": Published(30000, 56, 48, 11),
    "paws": Published(8000, 88, 71, 4, TrainSplit(49401, PAWS_DECILES, 2)),
    "qqp": Published(40430, 81, 46, 4),
    "stsb": Published(1500, 68, 47, 4),
    "tulu": Published(0, 0, 0, 0, TrainSplit(326154, TULU_DECILES, 430)),
    "arc_easy": Published(2376, 36, 29, 18),
    "arc_challenge": Published(1172, 43, 33, 24),
    "openbookqa": Published(500, 19, 18, 16),
    "hellaswag": Published(10042, 78, 52, 120),
    "piqa": Published(1838, 37, 14, 46),
    "boolq": Published(3270, 152, 140, 2),
    "sciq_choice": Published(1000, 76, 111, 8),
}


class Sets:
    """Sizes of sets: from `data_root` with a tokenizer where both are there, else from the table.

    Args:
        tokenizer: of the model; None: the table alone.
        context: longest sequence of the model.
    """

    def __init__(self, data_root: str, tokenizer: Tokenizer | None, context: int):
        self.data_root, self.tokenizer, self.context = data_root, tokenizer, context
        self._measured: dict = {}

    def training(self, recipe: Recipe) -> TrainingRows:
        """The rows of a recipe.

        Raises:
            ConfigError: a set that is neither at hand nor in the table.
        """
        if self.data_root and self.tokenizer:
            return self._training_rows(recipe)
        line = self._line(recipe.task)
        if line.train is None:
            raise ConfigError(f"{recipe.task} is not trained on", where="recipe.task")
        split, limit = line.train, min(recipe.max_length, self.context)
        lengths = split.lengths(limit)
        cut = sum(lengths) / sum(split.lengths(split.deciles[-1]))
        rows = min(split.rows, recipe.rows or split.rows)
        return TrainingRows(rows, lengths, split.targets * cut, "table of published sizes")

    def scored(self, name: str, format: str, shots: int, scoring: Scoring) -> ScoredRows:
        """The rows of a set under a format.

        Raises:
            ConfigError: a set that is neither at hand nor in the table.
        """
        key = (name, format, shots)
        if key not in self._measured:
            here = self.data_root and self.tokenizer
            count = self._scored_rows if here else self._scored_by_table
            self._measured[key] = count(name, format, shots, scoring)
        return self._measured[key]

    def _line(self, name):
        name = get_task(name).name
        if name not in TABLE:
            raise ConfigError(
                f"the size of {name} is not known",
                where="config",
                hint="give its rows with --config.data_root=… and the model's --tokenizer=…",
            )
        return TABLE[name]

    def _training_rows(self, recipe):
        task, protocol = get_task(recipe.task), protocols.resolve(recipe.protocol, recipe.quirks)
        split = sources.train_split(task, self.data_root)
        available = len(sources.load_examples(task, split, protocols.STRICT))
        rows = min(available, recipe.rows or available)
        encoded = encode_training_set(
            task,
            recipe.format,
            protocol,
            self.tokenizer,
            max_length=min(recipe.max_length, self.context),
            rows=min(rows, SAMPLE),
            seed=recipe.data_seed,
            data_root=self.data_root,
        )
        lengths = [len(example.tokens) for example in encoded.examples]
        targets = [int(example.loss_mask[1:].sum()) for example in encoded.examples]
        return TrainingRows(
            rows,
            tuple(lengths),
            float(np.mean(targets)),
            f"{len(lengths)} of {rows} rows",
        )

    def _scored_rows(self, name, format, shots, scoring):
        task, protocol = get_task(name), protocols.resolve(scoring.protocol, scoring.quirks)
        split = sources.test_split(task, protocol, self.data_root)
        available = len(sources.load_examples(task, split, protocol))
        rows = min(available, scoring.rows or available)
        queries = build_queries(
            task,
            format,
            shots,
            protocol,
            tokenizer=self.tokenizer,
            data_root=self.data_root,
            rows=min(rows, SAMPLE),
        )
        prepared = prepare(queries, self.tokenizer, max_new_tokens=scoring.max_new_tokens)
        scale, source = rows / len(queries), f"{len(queries)} of {rows} rows"
        if not prepared.requests[0].continuations:
            contexts = [len(request.context) for request in prepared.requests]
            read = sum((causal_row(n, 1) for n in contexts), Amount(0, 0, 0)).times(scale)
            new = scoring.max_new_tokens
            return ScoredRows(rows, read, int(np.mean(contexts)), 0, new, source)
        plan = planner.plan_requests(prepared.requests, buckets.Cost(1.0, 0.0), BATCH_TOKENS)
        prefixes = {lines.prefix.tobytes(): len(lines.prefix) for lines in plan.lines}
        read = sum((causal_row(n, 0) for n in prefixes.values()), Amount(0, 0, 0))
        for lines in plan.lines:
            count, width = lines.tokens.shape
            pairs = width * (width + 1) / 2 + width * len(lines.prefix)
            line = Amount(width, pairs, len(lines.target_line) / count)
            read = read + line.times(count * scale)
        widest = max(plan.lines, key=lambda lines: lines.tokens.size)
        return ScoredRows(rows, read, widest.tokens.shape[1], len(widest.prefix), 0, source)

    def _scored_by_table(self, name, format, shots, scoring):
        try:
            line = self._line(name)
        except AmuroError as error:
            raise ConfigError(error.what, where=f"eval set {name}", hint=error.hint) from error
        prefix = min(shots * line.shot, self.context - line.query)
        rows = min(line.rows, scoring.rows or line.rows)
        generated = 0 if line.answers else scoring.max_new_tokens
        width = line.query + line.answers
        own = Amount(width, width * (width + 1) / 2 + width * prefix, max(1.0, line.answers))
        read = own.times(rows) + causal_row(prefix, 0)
        source = "table of published sizes"
        return ScoredRows(rows, read, int(width), int(prefix), generated, source)
