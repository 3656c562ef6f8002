"""Is a converted checkpoint sound, and is it the model it says it is? Checks that need no
reference, and parity with HF torch.
"""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax import array_store, checkpoint, files
from amuro_jax.convert import containers, exporter, source, tensors
from amuro_jax.convert.families import llama
from amuro_jax.errors import CheckpointError
from amuro_jax.models import forward as model
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.layout import padded
from amuro_jax.models.parameters import abstract_params, flatten

TOLERANCE = 1e-4  # absolute, fp32 logits
LENGTH = 128


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding: passed, failed, or (ok None) not applicable."""

    name: str
    ok: bool | None
    detail: str


def verify(folder, reference=None) -> list[Check]:
    """Every check of a converted folder; with `reference` (an HF folder) also its tensors and its
    logits.

    Raises:
        CheckpointError: not a converted folder, or no readable reference.
    """
    folder = Path(folder)
    config = checkpoint.read_config(folder)
    checks = [_tree(folder, config)]
    if checks[0].ok:
        checks += [_checksums(folder, config), _dtypes(folder, config)]
        checks += [_finite(folder, config), _tied(folder, config)]
    checks += _tokenizer(folder / "tokenizer", config)
    if reference and all(check.ok is not False for check in checks[:1]):
        checks.append(_same_config(reference, config))
        checks += (
            [_same_tensors(folder, reference), *_parity(folder, reference, config)]
            if checks[-1].ok
            else []
        )
    return checks


def _tree(folder, config):
    stored = {
        name: tuple(leaf.shape)
        for name, leaf in flatten(checkpoint.stored_tree(folder / "params")).items()
    }
    expected = {name: tuple(leaf.shape) for name, leaf in flatten(abstract_params(config)).items()}
    differing = [
        name
        for name in sorted(set(stored) | set(expected))
        if stored.get(name) != expected.get(name)
    ]
    if differing:
        name = differing[0]
        detail = (
            f"{len(differing)} differ, first {name}: stored {stored.get(name)}, the model wants "
            f"{expected.get(name)}"
        )
        return Check("names and shapes", False, detail)
    return Check(
        "names and shapes", True, f"{len(expected)} parameters, {config.num_parameters:,} scalars"
    )


def _arrays(folder, config):
    return array_store.open_arrays(folder / "params", list(flatten(abstract_params(config))))


def _checksums(folder, config):
    names = list(flatten(abstract_params(config)))
    try:
        count = array_store.verify_arrays(folder / "params", names)
    except CheckpointError as error:
        return Check("checksums", False, error.what)
    return Check("checksums", True, f"{count} chunks are what was written")


def _dtypes(folder, config):
    kinds = {name: array.dtype.name for name, array in _arrays(folder, config).items()}
    odd = sorted(name for name, kind in kinds.items() if kind not in exporter.DTYPES)
    detail = f"{odd[0]} is {kinds[odd[0]]}" if odd else ", ".join(sorted(set(kinds.values())))
    return Check("dtypes", not odd, detail)


def _finite(folder, config):
    for name, array in _arrays(folder, config).items():
        stacked = name.startswith("layers/")
        for layer in range(array.shape[0]) if stacked else [None]:
            values = (array if layer is None else array[layer]).read().result()
            bad = values.size - int(np.isfinite(values.astype(np.float32, copy=False)).sum())
            if bad:
                where = f"{name}[{layer}]" if stacked else name
                return Check(
                    "finite", False, f"{bad} of {values.size} values of {where} are NaN or infinite"
                )
    return Check("finite", True, "every value")


def _tied(folder, config):
    """A tied model stores one table; an untied one whose two tables are equal was probably tied."""
    if config.tie_embeddings:
        return Check("embeddings", True, "tied: stored once")
    arrays = array_store.open_arrays(folder / "params", ["embed/embedding", "unembed/kernel"])
    rows = min(64, config.vocab_size)
    same = np.array_equal(
        arrays["embed/embedding"][:rows].read().result(),
        arrays["unembed/kernel"][:, :rows].read().result().T,
    )
    return Check(
        "embeddings",
        not same,
        "untied, but the unembedding repeats the embedding"
        if same
        else "untied: two tables that differ",
    )


def _tokenizer(folder, config) -> list[Check]:
    """Does the tokenizer fit the embedding, and does `eos` mean the same in every file?"""
    if not (folder / "tokenizer.json").is_file():
        return [
            Check(
                "tokenizer",
                None,
                "none in this checkpoint (amuro convert --tokenizer=FOLDER adds one)",
            )
        ]
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more precise
        return [Check("tokenizer", False, f"tokenizer.json cannot be read: {error}")]
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    fits = largest < config.vocab_size
    detail = f"ids up to {largest} in {config.vocab_size} embedding rows"
    return [Check("tokenizer", fits, detail), _eos(folder, tokenizer, config)]


def _eos(folder, tokenizer, config):
    claims = eos_claims(folder, tokenizer, config)
    if not claims:
        return Check("eos", None, "no file names an eos token")
    stated = ", ".join(
        f"{origin}: {number} ({tokenizer.id_to_token(number)!r})"
        for origin, number in claims.items()
    )
    text = tokenizer.id_to_token(next(iter(claims.values()))) or ""
    if len(set(claims.values())) > 1:
        return Check("eos", False, f"the files disagree: {stated}")
    ends = any(mark in text.lower() for mark in ("end", "eos", "</s>", "eot"))
    return Check(
        "eos",
        ends,
        stated
        if ends
        else f"{stated} does not look like an end of text; is this the tokenizer of these weights?",
    )


def eos_claims(folder, tokenizer, config: ModelConfig) -> dict[str, int]:
    """Where an eos id is stated → the id: model config, generation config, tokenizer config (there
    by the token's text).
    """
    claims = {} if config.eos_id is None else {"config": config.eos_id}
    if (folder / "generation_config.json").is_file():
        stated = llama.read_eos_ids(source.read_generation_config(folder))
        if stated:
            agrees = config.eos_id in stated
            claims["generation_config"] = config.eos_id if agrees else stated[0]
    if (folder / "tokenizer_config.json").is_file():
        token = files.read_json(folder / "tokenizer_config.json").get("eos_token")
        token = token.get("content") if isinstance(token, dict) else token
        number = tokenizer.token_to_id(token) if token else None
        claims |= {} if number is None else {"tokenizer_config": number}
    return claims


def _same_config(reference, config):
    """Architecture only: special ids are the tokenizer check's business."""
    theirs = source.identify(reference)[1]
    mine, other = (
        {**c.to_json(), "eos_ids": (), "bos_id": 0, "pad_id": 0} for c in (config, theirs)
    )
    differing = [name for name in mine if mine[name] != other[name]]
    detail = (
        f"{differing[0]} is {mine[differing[0]]!r}, the reference's {other[differing[0]]!r}"
        if differing
        else f"{config.family}, all fields"
    )
    return Check("configuration", not differing, detail)


def _same_tensors(folder, reference):
    """Bit for bit, whatever the reference's container.

    Values are compared in fp32 where the dtypes differ.
    """
    table, count = source.open_source(reference).table, 0
    for name, values in exporter.read_tensors(folder):
        if name not in table:
            return Check(
                "tensors", None, f"the reference names its tensors otherwise ({name} is not there)"
            )
        other = tensors.read(table[name])
        if other.dtype != values.dtype:
            values, other = values.astype(np.float32), other.astype(np.float32)
        if values.shape != other.shape or not np.array_equal(
            values.view(np.uint8), other.view(np.uint8)
        ):
            return Check(
                "tensors",
                False,
                f"{name} differs from the reference ({containers.weight_files(reference)[0].name})",
            )
        count += 1
    return Check("tensors", True, f"{count} tensors, every bit")


def _parity(folder, reference, config) -> list[Check]:
    for package in ("torch", "transformers"):
        if not importlib.util.find_spec(package):
            return [Check("logits", None, f"{package} is not installed (extra `verify`)")]
    params = checkpoint.load_params(folder, config, dtype=jnp.float32)
    hf = load_reference(reference)
    tokens, masks = example_tokens(config)
    worst = 0.0
    for side, mask in masks.items():
        worst = max(worst, logit_difference(params, config, hf, tokens, mask))
        if not worst <= TOLERANCE:
            detail = (
                f"largest difference {worst:.2e} ({side} padding, {LENGTH} tokens); "
                f"{departure(params, config, hf, tokens, mask)}"
            )
            return [Check("logits", False, detail)]
    return [
        Check(
            "logits",
            True,
            f"largest difference {worst:.2e} over {LENGTH} tokens, left- and right-padded (fp32, "
            "HF torch)",
        )
    ]


def load_reference(folder):
    """HF torch model in fp32, in evaluation mode, eager attention; no code of the folder is run.

    Raises:
        CheckpointError: transformers cannot load it.
    """
    import torch
    import transformers

    try:
        options = {
            "dtype": torch.float32,
            "attn_implementation": "eager",
            "trust_remote_code": False,
            "local_files_only": True,
        }
        return transformers.AutoModelForCausalLM.from_pretrained(str(folder), **options).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"transformers cannot load the reference: {str(error)[:300]}", where=folder
        ) from error


def example_tokens(
    config: ModelConfig, length: int = LENGTH
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Random ids [2, T] and masks [2, T]: the second line is padded on the right or on the left."""
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, length))
    right = np.ones((2, length), bool)
    right[1, length * 2 // 3 :] = False
    return tokens, {"right": right, "left": right[:, ::-1].copy()}


def logit_difference(params, config: ModelConfig, hf, tokens, mask, dtype=jnp.float32) -> float:
    """Largest |Δlogit| over the real tokens."""
    theirs = run_reference(hf, tokens, mask)[0]
    ours = np.asarray(run_model(params, jnp.asarray(tokens), padded(mask), config, dtype))
    return float(np.abs(ours - theirs)[mask].max())


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def run_model(params, tokens, layout, config: ModelConfig, dtype=jnp.float32):
    """fp32 logits [B, T, V]; for short texts only."""
    hidden, _ = model.forward(params, tokens, layout, config=config, dtype=dtype)
    return model.logits(params, hidden, config)


def run_reference(hf, tokens, mask) -> tuple[np.ndarray, list[np.ndarray]]:
    """(logits, states after the embedding and after each layer, final norm applied to all but the
    first), fp32.
    """
    import torch

    position = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    inputs = {
        "input_ids": tokens,
        "attention_mask": mask.astype(np.int64),
        "position_ids": position,
    }
    with torch.no_grad():
        out = hf(
            **{name: torch.tensor(value) for name, value in inputs.items()},
            output_hidden_states=True,
        )
        norm = getattr(hf.base_model, "norm", None) or hf.base_model.final_layer_norm
        states = [
            out.hidden_states[0],
            *(norm(state) for state in out.hidden_states[1:-1]),
            out.hidden_states[-1],
        ]
    return out.logits.float().numpy(), [state.float().numpy() for state in states]


def departure(params, config: ModelConfig, hf, tokens, mask) -> str:
    """The parity ladder: names the first rung (embedding, layer i, unembedding) that departs from
    the reference.
    """
    _, states = run_reference(hf, tokens, mask)
    for depth, theirs in enumerate(states):
        ours = _state(params, config, tokens, mask, depth)
        difference = float(np.abs(ours - theirs)[mask].max())
        if not difference <= TOLERANCE:
            rung = f"layer {depth - 1}" if depth else "the embedding"
            return f"the first rung that departs is {rung}: {difference:.2e}"
    return "every layer agrees; the unembedding departs"


def _state(params, config, tokens, mask, depth):
    if depth == 0:
        return np.asarray(params["embed"]["embedding"], np.float32)[tokens]
    short = dataclasses.replace(
        config, num_layers=depth, sliding_layers=config.sliding_layers[:depth]
    )
    part = {**params, "layers": jax.tree.map(lambda leaf: leaf[:depth], params["layers"])}
    return np.asarray(_hidden(part, jnp.asarray(tokens), padded(mask), short))


@functools.partial(jax.jit, static_argnames="config")
def _hidden(params, tokens, layout, config):
    return model.forward(params, tokens, layout, config=config)[0]


def require(checks: list[Check], where) -> None:
    """Raises a CheckpointError when a check failed."""
    failed = [check for check in checks if check.ok is False]
    if failed:
        raise CheckpointError(
            "\n".join(f"{check.name}: {check.detail}" for check in failed), where=where
        )
