"""OLMo's own format: `config.yaml` + `model.pt`, and the `hf_olmo` wrapper of it.

Q, k, v and the two MLP halves are fused.
"""

from amuro_jax.convert.bounds import short
from amuro_jax.convert.families import llama
from amuro_jax.convert.rules import Rule
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig, Rope

IGNORED = ()
_FIXED = {  # field → the values this decoder has; anything else is refused
    "alibi": (False,),  # before rope: a model has one or the other
    "rope": (True,),
    "embedding_layer_norm": (False,),
    "scale_logits": (False,),
    "scale_emb_init": (False, True),
    "activation_type": ("swiglu",),
    "block_type": ("sequential",),
    "block_group_size": (1,),
    "layer_norm_type": ("default", "low_precision", "rms"),
}
_DEFAULTS = {  # what a field means where the file leaves it out
    "rope": False,
    "alibi": False,
    "embedding_layer_norm": False,
    "scale_logits": False,
    "activation_type": "swiglu",
    "block_type": "sequential",
    "block_group_size": 1,
    "layer_norm_type": "default",
    "layer_norm_with_affine": True,
    "layer_norm_eps": 1e-5,
    "include_bias": True,
    "bias_for_layer_norm": None,
    "weight_tying": True,
    "mlp_ratio": 4,
    "rope_theta": 10000,
    "max_sequence_length": 1024,
    "vocab_size": 50257,
    "embedding_size": 50304,
    "eos_token_id": 50256,
    "pad_token_id": 50256,
    "norm_after": False,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "rope_full_precision": True,
    "d_model": 768,
    "n_heads": 12,
    "n_layers": 12,
}


def read_config(values: dict) -> ModelConfig:
    """The `model` block of `config.yaml` (or hf_olmo's config.json) → ModelConfig.

    Raises:
        CheckpointError: a setting this decoder does not have, named with its value.
    """
    v = {**_DEFAULTS, **values}
    _check_settings(v)
    heads, width, after = v["n_heads"], v["d_model"], bool(v["norm_after"])
    affine = bool(v["layer_norm_with_affine"])
    bias = bool(v["include_bias"] if v["bias_for_layer_norm"] is None else v["bias_for_layer_norm"])
    hidden = v.get("mlp_hidden_size") or v["mlp_ratio"] * width
    return ModelConfig(
        family="olmo2" if after else "olmo",
        vocab_size=v["embedding_size"] or v["vocab_size"],
        hidden_size=width,
        num_layers=v["n_layers"],
        num_heads=heads,
        num_kv_heads=_kv_heads(v),
        head_dim=width // heads,
        mlp_size=hidden // 2,  # the native field counts both halves
        max_length=v["max_sequence_length"],
        norm="rmsnorm" if v["layer_norm_type"] == "rms" else "layernorm",
        norm_eps=float(v["layer_norm_eps"]),
        norm_scale=affine,
        norm_bias=affine and bias,
        norm_cast_first=v["layer_norm_type"] == "rms" and not after,
        norm_position="post" if after else "pre",
        qk_norm=bool(v["attention_layer_norm"]),
        clip_qkv=None if v.get("clip_qkv") is None else float(v["clip_qkv"]),
        attention_bias=bool(v["include_bias"]),
        attention_out_bias=bool(v["include_bias"]),
        mlp_bias=bool(v["include_bias"]),
        rope=Rope(theta=float(v["rope_theta"])),
        rope_in_fp32=bool(v["rope_full_precision"]),
        tie_embeddings=bool(v["weight_tying"]),
        eos_ids=llama.read_eos_ids(v),
        pad_id=v["pad_token_id"],
    )


def _check_settings(v):
    """Refuses settings that the decoder does not have."""
    for name, known in _FIXED.items():
        if v.get(name, known[0]) not in known:
            raise CheckpointError(
                f"{name} is {short(v[name])}; converted are: {', '.join(map(str, known))}",
                where=f"config.yaml: model.{name}",
            )
    if v["attention_layer_norm"] and (
        v["layer_norm_type"] != "rms"
        or not v["attention_layer_norm_with_affine"]
        or v.get("clip_qkv")
    ):
        raise CheckpointError(
            "norm of queries and keys is converted for RMSNorm with scale and without clip_qkv "
            "only",
            where="config.yaml: model",
        )
    if v["attention_layer_norm"] and (
        v["include_bias"] if v["bias_for_layer_norm"] is None else v["bias_for_layer_norm"]
    ):
        name = "include_bias" if v["bias_for_layer_norm"] is None else "bias_for_layer_norm"
        raise CheckpointError(
            f"norm of queries and keys with a bias ({name} with attention_layer_norm) is not "
            "converted",
            where=f"config.yaml: model.{name}",
        )


def _kv_heads(v):
    if v.get("n_kv_heads") is not None:
        return v["n_kv_heads"]
    return 1 if v.get("multi_query_attention") else v["n_heads"]


def rules(c: ModelConfig, prefix: str = "") -> tuple[Rule, ...]:
    """Native tensors; `prefix` is `model.` in the hf_olmo wrapper."""
    top, layer = f"{prefix}transformer", f"{prefix}transformer.blocks.{{i}}"
    table = [Rule("embed/embedding", f"{top}.wte.weight", "V D -> V D")]
    for target, source in (
        ("final_norm", f"{top}.ln_f"),
        ("layers/attention_norm", f"{layer}.attn_norm"),
        ("layers/mlp_norm", f"{layer}.ff_norm"),
    ):
        table += _norm(target, source, c)
    if c.qk_norm:
        table += [
            Rule("layers/attention/query_norm/scale", f"{layer}.q_norm.weight", "Q -> Q"),
            Rule("layers/attention/key_norm/scale", f"{layer}.k_norm.weight", "C -> C"),
        ]
    q, kv, f = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.mlp_size
    spans = (
        ("query", "H", (0, q)),
        ("key", "G", (q, q + kv)),
        ("value", "G", (q + kv, q + 2 * kv)),
    )
    for target, heads, rows in spans:
        table.append(
            Rule(
                f"layers/attention/{target}/kernel",
                f"{layer}.att_proj.weight",
                f"({heads} K) D -> D {heads} K",
                rows,
            )
        )
        if c.attention_bias:
            table.append(
                Rule(
                    f"layers/attention/{target}/bias",
                    f"{layer}.att_proj.bias",
                    f"({heads} K) -> {heads} K",
                    rows,
                )
            )
    for target, rows in (("up", (0, f)), ("gate", (f, 2 * f))):
        table.append(
            Rule(f"layers/mlp/{target}/kernel", f"{layer}.ff_proj.weight", "F D -> D F", rows)
        )
        if c.mlp_bias:
            table.append(Rule(f"layers/mlp/{target}/bias", f"{layer}.ff_proj.bias", "F -> F", rows))
    outs = (
        ("attention/out", "attn_out", "D (H K) -> H K D", c.attention_out_bias),
        ("mlp/down", "ff_out", "D F -> F D", c.mlp_bias),
    )
    for target, source, axes, bias in outs:
        table.append(Rule(f"layers/{target}/kernel", f"{layer}.{source}.weight", axes))
        if bias:
            table.append(Rule(f"layers/{target}/bias", f"{layer}.{source}.bias", "D -> D"))
    if not c.tie_embeddings:
        table.append(Rule("unembed/kernel", f"{top}.ff_out.weight", "V D -> D V"))
    return tuple(table)


def _norm(target, source, c):
    table = [Rule(f"{target}/scale", f"{source}.weight", "D -> D")] if c.norm_scale else []
    return table + ([Rule(f"{target}/bias", f"{source}.bias", "D -> D")] if c.norm_bias else [])
