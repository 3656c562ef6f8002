"""The analyses of curves on synthetic curves with a known answer: coverage of intervals, errors and
false discoveries.

    python benchmarks/curves.py --draws=1000
"""

import argparse
import time

import numpy as np

from amuro_jax.curves import examples, falls, noise, shapes
from amuro_jax.curves.curve import make_curve

NOISE = 0.01
# Steps of 27 checkpoints as Pythia has them, and 8, 12 and 16 evenly spaced in log tokens.
PYTHIA = [2**place for place in range(10)] + [1000, 3000, *range(13000, 153000, 10000)]


def places(count):
    """Amounts of tokens of `count` checkpoints."""
    if count == len(PYTHIA):
        return np.array(PYTHIA) * 2_097_152.0
    return np.geomspace(2e9, 3e11, count)


def curve_of(tokens, values, stderr=NOISE):
    """A curve with known errors."""
    errors = np.full(len(values), stderr)
    return make_curve(range(len(values)), tokens, tokens, values, errors)


def turns(draws):
    """Planted turns: found, covered by the 95 % interval, median error; and curves without one."""
    cases = [
        (count, before, after, sigma)
        for count in (len(PYTHIA), 16, 10)
        for before, after in ((0.05, 0.0), (0.0, 0.05), (0.05, -0.05), (0.08, 0.03))
        for sigma in (0.005, 0.01)
    ]
    print("checkpoints before after noise | found | covered, of found | median error, e-folds")
    for count, before, after, sigma in cases:
        tokens, rng = places(count), np.random.default_rng(1)
        u, found, covered, errors = np.log(tokens), 0, 0, []
        for seed in range(draws):
            turn = rng.uniform(*np.quantile(u, [0.3, 0.7]))
            line = 0.3 + before * (u - u[0]) + (after - before) * np.maximum(u - turn, 0)
            shape = shapes.fit_shape(
                curve_of(tokens, line + rng.normal(0, sigma, count)), 300, seed
            )
            if shape.kind == shapes.TURN:
                found += 1
                covered += shape.low * 0.999 <= np.exp(turn) <= shape.high * 1.001
                errors.append(abs(np.log(shape.turn) - turn))
        share = f"{covered / found:.3f}" if found else "–"
        error = f"{np.median(errors):.2f}" if errors else "–"
        print(
            f"{count} {before} {after} {sigma} | {found / draws:.3f} | {share} | {error}",
            flush=True,
        )
    print("checkpoints slope | turns found where there is none")
    for count in (len(PYTHIA), 16, 10, 8):
        for slope in (0.0, 0.03):
            tokens, rng = places(count), np.random.default_rng(2)
            kinds = [
                shapes.fit_shape(
                    curve_of(tokens, slope * np.log(tokens) + rng.normal(0, NOISE, count)), 20
                ).kind
                for _ in range(draws)
            ]
            print(f"{count} {slope} | {kinds.count(shapes.TURN) / draws:.3f}", flush=True)


def late_falls(draws):
    """p below 0.05 on curves that never fall, and on planted falls."""
    print("checkpoints errors known fall, in noise | p < 0.05 | median size found")
    for count in (27, 12, 8):
        for known in (True, False):
            for size in (0, 2, 3, 5):
                rng, hits, sizes = np.random.default_rng(3), 0, []
                for seed in range(draws):
                    place = np.arange(count) / (count - 1)
                    level = 0.3 + 0.25 * np.minimum(place / 0.45, 1)
                    level = level - size * NOISE * np.clip((place - 0.7) / 0.2, 0, 1)
                    values = level + rng.normal(0, NOISE, count)
                    one = falls.find_fall(
                        curve_of(places(count), values, NOISE if known else np.nan), seed=seed
                    )
                    hits += one.p < 0.05
                    sizes.append(one.fall / NOISE)
                print(
                    f"{count} {known} {size} | {hits / draws:.3f} | {np.median(sizes):.1f}",
                    flush=True,
                )


def signal(draws):
    """Coverage of the ratio and of decision accuracy, power with the rows that are asked for."""
    rng = np.random.default_rng(4)
    for last in (3, 5, 10):
        covered = 0
        for _ in range(draws):
            found = noise.signal_and_noise(np.array([0.9, 1.1]), [1 + rng.normal(0, NOISE, last)])
            covered += found.low <= 0.2 / NOISE <= found.high
        print(f"signal / noise, last {last}: interval covers {covered / draws:.3f}")
    first, second = 0.50, 0.55
    variance = first * (1 - first) + second * (1 - second)
    rows = int(noise.rows_needed(second - first, variance))
    seen = rng.binomial(rows, second, 20 * draws) - rng.binomial(rows, first, 20 * draws)
    power = (np.abs(seen / rows) > 1.96 * np.sqrt(variance / rows)).mean()
    print(f"rows needed for +0.05 at 0.50: {rows}; seen with a power of {power:.3f} (0.80 meant)")
    for models in (8, 16, 30):
        truth = _true_decision()
        covered = 0
        for seed in range(draws):
            target = rng.normal(size=models)
            early = target + rng.normal(0, 0.7, models)
            _, low, high = noise.decision_interval(early, target, 300, seed)
            covered += low <= truth <= high
        print(f"decision accuracy, {models} models: interval covers {covered / draws:.3f}")


def _true_decision():
    """Share of pairs in order when the early score is the target's plus noise of 0.7."""
    rng = np.random.default_rng(5)
    target, early = rng.normal(size=(2, 400_000)), rng.normal(0, 0.7, (2, 400_000))
    early += target
    return (np.sign(np.diff(early, axis=0)) == np.sign(np.diff(target, axis=0))).mean()


def dynamics(draws):
    """Planted states of examples, and how far first learned and forgotten are off."""
    count = 20
    print("chance planted | found as: known, learned, forgotten, never | within 2 checkpoints")
    for chance in (0.25, 0.5):
        rng = np.random.default_rng(6)
        for first, end in ((0, count), (6, count), (12, count), (5, 14), (count, count)):
            at = np.arange(count)
            p = np.where((at >= first) & (at < end), 1 - examples.SLIP, chance)
            found = examples.dynamics(rng.random((draws, count)) < p, chance)
            shares = np.bincount(found.state, minlength=4) / draws
            right = found.state == (3 if first == count else 0 if not first else 1 + (end < count))
            near = (np.abs(found.first - first) <= 2)[right].mean() if first < count else np.nan
            texts = ", ".join(f"{share:.3f}" for share in shares)
            print(f"{chance} {first}–{end} | {texts} | {near:.3f}")
    covered = 0
    for _ in range(draws):
        right = rng.random(300) < 0.4
        _, low, high = examples.rank_agreement(rng.normal(right * 1.0), right)
        covered += low <= 0.76025 <= high
    print(f"base margin against correctness, 300 rows: interval covers {covered / draws:.3f}")


def main():
    """Prints every table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for part in (turns, late_falls, signal, dynamics):
        if not options.only or part.__name__ in options.only.split(","):
            start = time.process_time()
            print(f"\n{part.__name__}: {part.__doc__}")
            part(options.draws)
            print(f"{time.process_time() - start:.1f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
