"""Series of checkpoints from a small model that is really trained (numpy, Adam), and faults planted
in them: for the audit's test and benchmark.
"""

import json
import shutil

import ml_dtypes
import numpy as np

from amuro_jax.convert import safetensors

KINDS = (
    "duplicate",
    "swapped steps",
    "shard of another step",
    "lower precision",
    "foreign tokenizer",
    "truncated tensor",
    "wrong tokens",
    "hole",
)
WIDTH, HIDDEN, LAYERS = 64, 256, 3
BATCH_TOKENS = 4096  # that a step of the made-up series counts


def train(steps, seed: int, rate=2e-3, batch=32) -> dict[int, dict[str, np.ndarray]]:
    """Parameters at some steps of a residual network that learns to imitate another one: warm-up,
    cosine decay, Adam with weight decay, one fresh batch per step.
    """
    rng = np.random.default_rng(seed)
    params, teacher = _init(rng), _init(rng)
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in params.items()}
    kept, last = {}, max(steps)
    for step in range(last + 1):
        if step in steps:
            kept[step] = {name: value.astype(np.float32) for name, value in params.items()}
        inputs = rng.normal(size=(batch, WIDTH))
        target = _forward(teacher, inputs)[0] + 0.3 * rng.normal(size=(batch, WIDTH))
        now = (
            rate
            * min(1.0, (step + 1) / (0.05 * last))
            * (0.55 + 0.45 * np.cos(np.pi * step / last))
        )
        _adam(params, moments, _gradients(params, inputs, target), step + 1, now)
    return kept


def _init(rng):
    params = {}
    for layer in range(LAYERS):
        params[f"layers.{layer}.up.weight"] = rng.normal(0, WIDTH**-0.5, (WIDTH, HIDDEN))
        params[f"layers.{layer}.up.bias"] = np.zeros(HIDDEN)
        params[f"layers.{layer}.down.weight"] = rng.normal(0, HIDDEN**-0.5, (HIDDEN, WIDTH))
    params["head.weight"] = rng.normal(0, WIDTH**-0.5, (WIDTH, WIDTH))
    return params


def _forward(params, hidden):
    inner = []
    for layer in range(LAYERS):
        before = hidden @ params[f"layers.{layer}.up.weight"] + params[f"layers.{layer}.up.bias"]
        inner.append((hidden, before))
        hidden = hidden + np.maximum(before, 0) @ params[f"layers.{layer}.down.weight"]
    return hidden @ params["head.weight"], hidden, inner


def _gradients(params, inputs, target):
    output, hidden, inner = _forward(params, inputs)
    error = (output - target) / len(inputs)
    found = {"head.weight": hidden.T @ error}
    back = error @ params["head.weight"].T
    for layer in range(LAYERS - 1, -1, -1):
        at, before = inner[layer]
        found[f"layers.{layer}.down.weight"] = np.maximum(before, 0).T @ back
        inside = (back @ params[f"layers.{layer}.down.weight"].T) * (before > 0)
        found[f"layers.{layer}.up.weight"] = at.T @ inside
        found[f"layers.{layer}.up.bias"] = inside.sum(axis=0)
        back = back + inside @ params[f"layers.{layer}.up.weight"].T
    return found


def _adam(params, moments, gradients, step, rate):
    for name, gradient in gradients.items():
        first, second = moments[name]
        first += 0.1 * (gradient - first)
        second += 0.01 * (gradient**2 - second)
        update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        params[name] -= rate * (update + 0.1 * params[name])


def write(folder, params, *, dtype=np.float32, tokenizer="plain") -> None:
    """A checkpoint folder of two shards."""
    folder.mkdir(parents=True)
    names, half = sorted(params), len(params) // 2
    weight_map = {}
    for place, members in enumerate((names[:half], names[half:]), 1):
        file = f"model-0000{place}-of-00002.safetensors"
        arrays = [params[name].astype(dtype) for name in members]
        shapes = {n: (a.shape, a.dtype) for n, a in zip(members, arrays, strict=True)}
        safetensors.write(folder / file, shapes, arrays)
        weight_map |= dict.fromkeys(members, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text(json.dumps({"model": tokenizer, "vocab": ["a"] * 200}))


def name_of(step: int) -> str:
    """`step100-tokens409600`."""
    return f"step{step}-tokens{step * BATCH_TOKENS}"


def write_series(folder, kept: dict[int, dict], **options) -> list[str]:
    """One folder per step; the names in the order of training."""
    for step, params in kept.items():
        write(folder / name_of(step), params, **options)
    return [name_of(step) for step in sorted(kept)]


def plant(folder, kind: str, names: list[str], kept: dict[int, dict], rng) -> set[str]:
    """Plants one fault; the checkpoints of which any may be named."""
    steps = sorted(kept)
    place = int(rng.integers(1, len(names) - 1))
    name, other = names[place], names[int(rng.choice([place - 1, place + 1]))]
    shard = f"model-0000{rng.integers(1, 3)}-of-00002.safetensors"
    if kind == "duplicate":
        shutil.rmtree(folder / name)
        shutil.copytree(folder / other, folder / name)
        return {name, other}
    if kind == "swapped steps":
        _exchange(folder / name, folder / other)
        return {name, other}
    if kind == "shard of another step":
        shutil.copy(folder / other / shard, folder / name / shard)
        return {name}
    if kind == "lower precision":
        short = [ml_dtypes.bfloat16, np.float16][int(rng.integers(2))]
        params = kept[steps[place]]
        rounded = {key: value.astype(short).astype(np.float32) for key, value in params.items()}
        shutil.rmtree(folder / name)
        stored = [np.float32, short][int(rng.integers(2))]
        write(folder / name, rounded, dtype=stored)
        return {name}
    if kind == "foreign tokenizer":
        path = folder / name / "tokenizer.json"
        text = path.read_text()
        path.write_text(text[:-40] + "b" + text[-39:] if rng.integers(2) else text + " ")
        return {name}
    if kind == "truncated tensor":
        _truncate(folder / name / shard, rng)
        return {name}
    if kind == "wrong tokens":
        step = steps[place]
        wrong = (
            folder / f"step{step}-tokens{int(step * BATCH_TOKENS * rng.choice([0.5, 1.3, 2, 10]))}"
        )
        (folder / name).rename(wrong)
        return {wrong.name}
    shutil.rmtree(folder / name)
    return {f"step {steps[place - 1]}", f"step {steps[place + 1]}"}


def _exchange(one, other):
    away = one.with_name("away")
    one.rename(away)
    other.rename(one)
    away.rename(other)


def _truncate(path, rng):
    """Cuts the file, or sets the last part of its last tensor to zero."""
    data = path.read_bytes()
    if rng.integers(2):
        path.write_bytes(data[: -int(rng.integers(16, len(data) // 2))])
    else:
        count = int(0.3 * WIDTH * WIDTH) * 4
        path.write_bytes(data[:-count] + bytes(count))
