"""Model ladders (arXiv 2412.04403): loss from parameters and tokens, accuracy from loss, and what
they predict of a larger model. No jax.
"""

import dataclasses

import numpy as np
from scipy import optimize

HUBER = 1e-3  # of log residuals; the paper's
SMOOTHING = 5  # evaluations that are averaged
SKIPPED = 0.1  # share of each run's first evaluations that the accuracy's fit leaves out
LOSS_START = (3.0, 6.0, 0.1, 0.2, 1.0)  # a, b, α, β, E: the paper's
FEWEST_RUNS = 6  # for five parameters
FEWEST_POINTS = 8  # for the four of the sigmoid
MOST_STEPS = MOST_EVALUATIONS = 100_000
EVALUATIONS_OF_DRAW = 100  # from the data's own solution
BOUND = 1e-6  # a parameter this close to its bound has run into it
LEAST_EXPLAINED = 0.5  # share of the accuracy's variance


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of a ladder.

    Attributes:
        name: of the series.
        parameters: without embeddings.
        tokens, loss, score: by evaluation [N], in the order of training; the score may be NaN.
    """

    name: str
    parameters: float
    tokens: np.ndarray
    loss: np.ndarray
    score: np.ndarray

    @property
    def end(self) -> tuple[float, float, float]:
        """Tokens at the end, and the means of the last evaluations' loss and score."""
        last = slice(-SMOOTHING, None)
        return float(self.tokens[-1]), float(self.loss[last].mean()), float(self.score[last].mean())

    def until(self, share: float) -> "Run":
        """The evaluations up to a share of the run's tokens."""
        seen = self.tokens <= share * self.tokens[-1]
        return dataclasses.replace(
            self, tokens=self.tokens[seen], loss=self.loss[seen], score=self.score[seen]
        )


@dataclasses.dataclass(frozen=True)
class LossFit:
    """loss = e^a / parameters^α + e^b / tokens^β + E.

    Attributes:
        values: a, b, α, β, E.
        failed: why the fit must not be trusted; "" where it may.
        error: mean relative error on what it was fitted to.
    """

    values: np.ndarray
    failed: str
    error: float

    def __call__(self, parameters, tokens):
        return _loss(self.values, np.asarray(parameters, float), np.asarray(tokens, float))


@dataclasses.dataclass(frozen=True)
class ScoreFit:
    """score = a / (1 + e^(−k (loss − x0))) + b; attributes as `LossFit` (a, x0, k, b)."""

    values: np.ndarray
    failed: str
    error: float

    def __call__(self, loss):
        return _sigmoid(np.asarray(loss, float), *self.values)


def _loss(values, parameters, tokens):
    a, b, alpha, beta, floor = values
    of_size = np.exp(a - alpha * np.log(parameters)) if np.isfinite(a) else 0.0
    return of_size + np.exp(b - beta * np.log(tokens)) + floor


def _sigmoid(loss, a, x0, k, b):
    return a / (1 + np.exp(np.clip(-k * (loss - x0), -500, 500))) + b


def fit_loss(
    parameters, tokens, loss, start=LOSS_START, *, one_size: bool = False, again: bool = False
) -> LossFit:
    """Fits the loss [N] by Huber's loss of logarithms, all parameters at least zero.

    Args:
        one_size: all points are of one model, whose term is left to E.
        again: `start` is the solution of nearly the same data (a bootstrap draw).
    """
    parameters, tokens, loss = (np.asarray(one, float) for one in (parameters, tokens, loss))
    parameters = np.ones_like(parameters) if one_size else parameters
    if len(loss) < FEWEST_RUNS or not (loss > 0).all():
        why = f"{len(loss)} points, {FEWEST_RUNS} with a positive loss are needed"
        return LossFit(np.full(5, np.nan), why, np.nan)
    logs = np.log(parameters), np.log(tokens), np.log(loss)
    if one_size and not again:
        start = _start_of_one_size(tokens, loss)
    solve = _solve_again if again or one_size else _solve
    solution = solve(logs, np.asarray(start, float), one_size)
    values = np.where([one_size, False, False, False, False], -np.inf, solution)
    error = float(np.mean(np.abs(_loss(values, parameters, tokens) / loss - 1)))
    return LossFit(values, _loss_failure(values, one_size), error)


def _start_of_one_size(tokens, loss):
    """The best of a grid of exponents, each with its least-squares scale and floor."""
    starts = []
    for beta in np.geomspace(0.02, 2, 40):
        power = np.exp(-beta * (np.log(tokens) - np.log(tokens[0])))
        design = np.stack([power, np.ones_like(power)], axis=1) / loss[:, None]
        (scale, floor), error = optimize.nnls(design, np.ones_like(loss))
        starts.append((error, scale, beta, floor))
    _, scale, beta, floor = min(starts)
    b = np.log(max(scale, 1e-12)) + beta * np.log(tokens[0])
    return 0.0, max(b, 0.0), 0.0, beta, floor


def _residuals(values, logs, one_size):
    """Residuals [N] of the logarithm and their derivatives [N, 5]."""
    a, b, alpha, beta, floor = values
    of_size = np.exp(np.minimum(a - alpha * logs[0], 100)) * (not one_size)
    of_data = np.exp(np.minimum(b - beta * logs[1], 100))
    total = np.maximum(of_size + of_data + floor, 1e-12)
    parts = (of_size, of_data, -logs[0] * of_size, -logs[1] * of_data, np.ones_like(total))
    return np.log(total) - logs[2], np.stack(parts, axis=1) / total[:, None]


def _solve(logs, start, one_size):
    """The paper's solver from the paper's start, so that its numbers are reproduced."""

    def objective(values):
        residual, slopes = _residuals(values, logs, one_size)
        size = np.abs(residual)
        value = np.where(size < HUBER, 0.5 * residual**2, HUBER * (size - 0.5 * HUBER)).sum()
        return value, np.where(size < HUBER, residual, HUBER * np.sign(residual)) @ slopes

    options = {"ftol": 0.0, "gtol": 1e-10, "maxiter": MOST_STEPS, "maxfun": 10 * MOST_STEPS}
    bounds = [(0, None)] * 5
    solution = optimize.minimize(
        objective, start, jac=True, bounds=bounds, method="L-BFGS-B", tol=0.0, options=options
    )
    return solution.x


def _solve_again(logs, start, one_size):
    """The same problem by a trust region, which is fast from a start near the solution."""
    solution = optimize.least_squares(
        lambda values: _residuals(values, logs, one_size)[0],
        np.maximum(start, 10 * BOUND),
        lambda values: _residuals(values, logs, one_size)[1],
        (np.zeros(5), np.full(5, np.inf)),
        x_scale="jac",
        loss="huber",
        f_scale=HUBER,
        max_nfev=EVALUATIONS_OF_DRAW,
    )
    return solution.x


def _loss_failure(values, one_size):
    _, _, alpha, beta, floor = values
    exponents = (("α", np.inf if one_size else alpha), ("β", beta))
    names = [name for name, value in exponents if value < BOUND]
    if names:
        return f"{' and '.join(names)} ran into zero: no influence of what it belongs to"
    return "E ran into zero: the fit knows no floor" if floor < BOUND else ""


def smoothed(values: np.ndarray, width: int = SMOOTHING) -> np.ndarray:
    """Mean of each value and up to width − 1 before it."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, float))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def score_points(runs: list[Run]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, scores and number of the run of each point that the score is fitted to."""
    losses, scores, owners = [], [], []
    for number, run in enumerate(runs):
        skipped = int(np.ceil(SKIPPED * len(run.loss))) if len(run.loss) > 1 else 0
        rest = slice(skipped, None)
        loss, score = smoothed(run.loss[rest]), smoothed(run.score[rest])
        known = np.isfinite(loss) & np.isfinite(score)
        losses.append(loss[known])
        scores.append(score[known])
        owners.append(np.full(known.sum(), number))
    return np.concatenate(losses), np.concatenate(scores), np.concatenate(owners)


def _sigmoid_slopes(loss, a, x0, k, b):
    """Derivatives [N, 4] of `_sigmoid`."""
    rise = 1 / (1 + np.exp(np.clip(-k * (loss - x0), -500, 500)))
    steep = a * rise * (1 - rise)
    return np.stack([rise, -k * steep, (loss - x0) * steep, np.ones_like(loss)], axis=1)


def fit_score(loss, score, chance: float = 0.25, start=None) -> ScoreFit:
    """Fits a score [N] to the loss by least squares, the point (0, 1) added; −1 ≤ a ≤ 0 ≤ b ≤ 1.

    Args:
        chance: score of guessing, from which the search begins.
    """
    loss, score = np.asarray(loss, float), np.asarray(score, float)
    if len(loss) < FEWEST_POINTS or np.ptp(score) == 0:
        why = "the scores are all equal" if len(loss) >= FEWEST_POINTS else f"{len(loss)} points"
        return ScoreFit(np.full(4, np.nan), f"cannot be fitted: {why}", np.nan)
    bounds = ([-1.0, 0.0, 0.0, 0.0], [0.0, np.inf, np.inf, 1.0])
    start = (chance - 1.0, 0.9, 3.0, 1.0) if start is None else start
    try:
        points = np.append(loss, 0.0), np.append(score, 1.0)
        values, _ = optimize.curve_fit(
            _sigmoid, *points, start, bounds=bounds, jac=_sigmoid_slopes, maxfev=MOST_EVALUATIONS
        )
    except RuntimeError as error:
        return ScoreFit(np.full(4, np.nan), f"no solution: {error}", np.nan)
    fitted = _sigmoid(loss, *values)
    failed = ""
    explained = 1 - ((score - fitted) ** 2).sum() / ((score - score.mean()) ** 2).sum()
    if explained < LEAST_EXPLAINED:
        failed = f"loss explains {max(explained, 0):.0%} of the score's variance"
    elif -values[0] < BOUND or values[2] < BOUND:
        failed = "the score does not depend on the loss"
    return ScoreFit(values, failed, float(np.mean(np.abs(fitted / np.maximum(score, 1e-9) - 1))))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a ladder says of a run that it does not contain.

    Attributes:
        loss, score: predicted; the score from the predicted loss.
        score_of_loss: predicted from the true loss.
        low, high: 95 % interval of `score`, from draws of the ladder's runs.
        loss_low, loss_high: the same of `loss`.
        failed: fits that must not be trusted; "" where all may.
    """

    loss: float
    score: float
    score_of_loss: float
    low: float
    high: float
    loss_low: float
    loss_high: float
    failed: str


def predict(
    runs: list[Run],
    targets: list[Run],
    chance: float = 0.25,
    draws: int = 40,
    seed: int = 0,
    one_size: bool = False,
) -> list[Prediction]:
    """Predicts the ends of target runs from the ends (loss) and all evaluations (score) of others.

    The interval is of draws with replacement of the ladder's runs, with the residual of a fitted
    end added to the loss; it knows nothing of a law that changes beyond the ladder.

    Args:
        chance: score of guessing, from which the score's fit begins.
        one_size: the runs are evaluations of one model (see `pieces`).
    """
    ends = np.array([run.end[:2] for run in runs])
    sizes = np.array([run.parameters for run in runs])
    by_size = fit_loss(sizes, *ends.T, one_size=one_size)
    points = score_points(runs)
    by_loss = fit_score(*points[:2], chance)
    fits = (("loss", by_size), ("score", by_loss))
    failed = "; ".join(f"{name}: {one.failed}" for name, one in fits if one.failed)
    drawn = _draws(by_size, by_loss, sizes, ends, points, targets, draws, seed, one_size)
    predictions = []
    for index, target in enumerate(targets):
        tokens, true_loss, _ = target.end
        loss = float(by_size(target.parameters, tokens))
        low, high = (np.quantile(drawn[:, index], one, axis=0) for one in (0.025, 0.975))
        scores = float(by_loss(loss)), float(by_loss(true_loss))
        predictions.append(Prediction(loss, *scores, low[1], high[1], low[0], high[0], failed))
    return predictions


def _draws(by_size, by_loss, sizes, ends, points, targets, draws, seed, one_size):
    """Predicted (loss, score) [B, targets, 2] of each draw of the ladder's runs; NaN where a fit
    failed altogether.
    """
    nothing = np.full((1, len(targets), 2), np.nan)
    if np.isnan(by_size.values).any() or np.isnan(by_loss.values).any():
        return nothing
    rng, drawn = np.random.default_rng(seed), []
    fitted = np.log(by_size(sizes, ends[:, 0]))
    # As large as the noise: a fit with k parameters takes k of N degrees of freedom.
    freedom = max(len(ends) - (3 if one_size else 5), 1)
    residuals = (np.log(ends[:, 1]) - fitted) * np.sqrt(len(ends) / freedom)
    at = np.array([(target.parameters, target.end[0]) for target in targets]).T
    losses, scores, owners = points
    start = np.maximum(by_size.values, 0)
    for _ in range(draws):
        picked = rng.integers(0, len(sizes), len(sizes))
        noisy = np.exp(fitted + rng.choice(residuals, len(sizes)))
        of_draw = fit_loss(sizes, ends[:, 0], noisy, start, one_size=one_size, again=True)
        members = np.concatenate([np.flatnonzero(owners == one) for one in picked])
        score = fit_score(losses[members], scores[members], start=_inside(by_loss.values))
        if not np.isnan(score.values).any():
            loss = of_draw(*at) * np.exp(rng.choice(residuals, len(targets)))
            drawn.append(np.stack([loss, score(loss)], axis=1))
    return np.array(drawn) if drawn else nothing


def pieces(run: Run) -> list[Run]:
    """One model's evaluations as runs of one evaluation each, without the untrained model and the
    first ones: what its own end is predicted from.
    """
    rest = np.arange(len(run.tokens))[int(np.ceil(SKIPPED * len(run.tokens))) :]
    rest = rest[run.tokens[rest] > 0]
    return [
        Run(run.name, run.parameters, run.tokens[[at]], run.loss[[at]], run.score[[at]])
        for at in rest
    ]


def _inside(values):
    """A starting point strictly within the bounds of the score's fit."""
    a, x0, k, b = values
    return (min(max(a, -0.999), -1e-3), max(x0, 1e-3), max(k, 1e-3), min(max(b, 1e-3), 0.999))


def variance(run: Run, last: int = 10) -> dict[str, float]:
    """Standard deviation of the last evaluations' loss and score, plain and over their means (the
    paper's SD₁₀ and relative SD₁₀: N, not N − 1, in the denominator).
    """
    parts = {}
    for name in ("loss", "score"):
        values = getattr(run, name)[-last:]
        parts[f"{name}_sd"] = float(values.std())
        parts[f"{name}_relative_sd"] = float(values.std() / abs(values.mean()))
    return parts
