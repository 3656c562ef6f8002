"""OLMo-3: OLMo-2 with sliding windows on three layers of four.

YaRN, where used, on the full layers only.
"""

from amuro_jax.convert.bounds import short
from amuro_jax.convert.families import llama, olmo2
from amuro_jax.convert.families.rope import read_rope, rope_fields, write_rope
from amuro_jax.convert.rules import Rule
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import MAX_LAYERS, ModelConfig, Rope

IGNORED = llama.IGNORED
THETA = 500000.0
KINDS = {"sliding_attention": True, "full_attention": False}


def read_config(hf: dict) -> ModelConfig:
    """HF config → ModelConfig.

    Raises:
        CheckpointError: an unknown layer type.
    """
    shared = olmo2.shared_fields(hf)
    if not isinstance(shared["num_layers"], int) or shared["num_layers"] > MAX_LAYERS:
        raise CheckpointError(
            f"{short(shared['num_layers'])} layers; at most {MAX_LAYERS} are read",
            where="config.json: num_hidden_layers",
        )
    types = hf.get("layer_types") or [
        ("full" if (i + 1) % 4 == 0 else "sliding") + "_attention"
        for i in range(shared["num_layers"])
    ]
    if unknown := [kind for kind in types if kind not in KINDS]:
        raise CheckpointError(
            f"unknown layer type {short(unknown[0])}",
            where="config.json: layer_types",
            hint="known: " + ", ".join(KINDS),
        )
    full = read_rope(hf, THETA, "full_attention")
    if "sliding_attention" in (hf.get("rope_parameters") or {}):
        sliding = read_rope(hf, THETA, "sliding_attention")
    else:
        sliding = Rope(theta=full.theta)
    return ModelConfig(
        family="olmo3",
        **shared,
        rope=full,
        sliding_rope=sliding if sliding != full else None,
        window=hf.get("sliding_window", 4096),
        sliding_layers=tuple(KINDS[kind] for kind in types),
    )


def write_config(c: ModelConfig) -> dict:
    """ModelConfig → HF config."""
    head = {"model_type": "olmo3", "architectures": ["Olmo3ForCausalLM"]}
    types = ["sliding_attention" if slides else "full_attention" for slides in c.sliding_layers]
    sliding = c.sliding_rope or c.rope
    fields = {
        **head,
        **llama.write_shapes(c),
        "rms_norm_eps": c.norm_eps,
        "sliding_window": c.window,
        "layer_types": types,
    }
    if c.rope.theta == THETA and sliding == Rope(theta=THETA):
        return {**fields, **write_rope(c.rope)}
    both = {"full_attention": c.rope, "sliding_attention": sliding}
    return {
        **fields,
        "rope_parameters": {
            kind: {**rope_fields(rope), "rope_theta": rope.theta} for kind, rope in both.items()
        },
    }


def rules(c: ModelConfig) -> tuple[Rule, ...]:
    """OLMo-3's tensors: those of OLMo-2."""
    return olmo2.rules(c)
