"""Rotary settings between HF's two spellings (`rope_theta` + `rope_scaling`, and `rope_parameters`)
and `Rope`.
"""

from amuro_jax.convert.bounds import short
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import Rope

_FIELDS = {  # HF name → Rope field
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_length",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "truncate": "truncate",
}
_USED = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "truncate",
    ),
}
_KNOWN = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *_FIELDS}


def read_rope(hf: dict, default_theta: float = 10000.0, layer_type: str | None = None) -> Rope:
    """Rope of an HF config; `layer_type` picks one where the settings are per type of layer.

    Raises:
        CheckpointError: a kind or a field of scaling that this decoder does not have.
    """
    settings = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    if layer_type and layer_type in settings:
        settings = dict(settings[layer_type] or {})
    kind = settings.get("rope_type", settings.get("type", "default"))
    theta = (
        settings.get("rope_theta")
        or hf.get("rope_theta")
        or hf.get("rotary_emb_base")
        or default_theta
    )
    if not isinstance(kind, str) or kind not in _USED:
        raise CheckpointError(
            f"unknown rope scaling {short(kind)}",
            where="config.json: rope_scaling",
            hint="known: " + ", ".join(_USED),
        )
    unknown = sorted(
        name for name, value in settings.items() if name not in _KNOWN and value is not None
    )
    if unknown:
        raise CheckpointError(
            f"unknown field {short(unknown[0])} of {kind} rope scaling",
            where="config.json: rope_scaling",
        )
    values = {
        _FIELDS[name]: settings[name] for name in _USED[kind] if settings.get(name) is not None
    }
    if "original_max_position_embeddings" in _USED[kind]:
        values.setdefault(
            "original_max_length",
            hf.get("original_max_position_embeddings") or hf.get("max_position_embeddings", 2048),
        )
    if kind in ("linear", "llama3", "yarn") and "factor" not in values:
        raise CheckpointError(
            f"{kind} rope scaling without a factor", where="config.json: rope_scaling"
        )
    for name, value in values.items():
        values[name] = (
            bool(value)
            if name == "truncate"
            else int(value)
            if name == "original_max_length"
            else float(value)
        )
    return Rope(theta=float(theta), kind=kind, **values)


def write_rope(rope: Rope) -> dict:
    """HF fields `rope_theta` and `rope_scaling` (read by every version of transformers)."""
    scaling = None if rope.kind == "default" else rope_fields(rope)
    return {"rope_theta": rope.theta, "rope_scaling": scaling}


def rope_fields(rope: Rope) -> dict:
    """One `rope_parameters` block without theta."""
    values = {"rope_type": rope.kind}
    for name in _USED[rope.kind]:
        value = getattr(rope, _FIELDS[name])
        if not (name == "attention_factor" and not value):
            values[name] = value
    return values
