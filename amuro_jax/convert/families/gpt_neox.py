"""GPT-NeoX (Pythia): parallel residual, LayerNorm with bias, partial rotary, one fused projection
that alternates q, k, v by head.
"""

from amuro_jax.convert.families import llama
from amuro_jax.convert.families.rope import read_rope, rope_fields
from amuro_jax.convert.rules import Rule
from amuro_jax.models.config import ModelConfig

IGNORED = (
    r"gpt_neox\.layers\.\d+\.attention\.(rotary_emb\.inv_freq|bias|masked_bias)",
    r"gpt_neox\.rotary_emb\.inv_freq",
)


ALIASES = {"lm_head.weight": "embed_out.weight"}  # name of the module in newer transformers


def read_config(hf: dict) -> ModelConfig:
    """HF config → ModelConfig."""
    settings = hf.get("rope_parameters") or {}
    fraction = settings.get(
        "partial_rotary_factor", hf.get("rotary_pct", hf.get("partial_rotary_factor", 0.25))
    )
    bias = bool(hf.get("attention_bias", True))
    return ModelConfig(
        family="gpt_neox",
        **llama.shape_fields({**hf, "num_key_value_heads": None}),
        **llama.special_ids(hf),
        norm="layernorm",
        norm_eps=float(hf.get("layer_norm_eps", 1e-5)),
        norm_scale=True,
        norm_bias=True,
        parallel_residual=bool(hf.get("use_parallel_residual", True)),
        attention_bias=bias,
        attention_out_bias=bias,
        gated_mlp=False,
        mlp_bias=True,
        activation=llama.read_activation(hf, "gelu"),
        rope=read_rope(hf),
        rotary_fraction=float(fraction),
        rope_in_fp32=False,
        tie_embeddings=bool(hf.get("tie_word_embeddings", False)),
    )


def write_config(c: ModelConfig) -> dict:
    """ModelConfig → HF config."""
    fields = {
        **llama.write_shapes(c),
        "layer_norm_eps": c.norm_eps,
        "use_parallel_residual": c.parallel_residual,
    }
    del fields["num_key_value_heads"]
    fields |= {"rotary_emb_base": c.rope.theta, "rotary_pct": c.rotary_fraction}
    if c.rope.kind != "default":
        fields["rope_scaling"] = rope_fields(c.rope)
    return {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], **fields}


def rules(c: ModelConfig) -> tuple[Rule, ...]:
    """Pythia's tensors."""
    layer = "gpt_neox.layers.{i}"
    table = [Rule("embed/embedding", "gpt_neox.embed_in.weight", "V D -> V D")]
    norms = (
        ("final_norm", "gpt_neox.final_layer_norm"),
        ("layers/attention_norm", f"{layer}.input_layernorm"),
        ("layers/mlp_norm", f"{layer}.post_attention_layernorm"),
    )
    for target, source in norms:
        table += [
            Rule(f"{target}/scale", f"{source}.weight", "D -> D"),
            Rule(f"{target}/bias", f"{source}.bias", "D -> D"),
        ]
    fused = f"{layer}.attention.query_key_value"
    for pick, target in enumerate(("query", "key", "value")):
        table.append(
            Rule(
                f"layers/attention/{target}/kernel",
                f"{fused}.weight",
                "(H 3 K) D -> D H K",
                pick=pick,
            )
        )
        if c.attention_bias:
            table.append(
                Rule(
                    f"layers/attention/{target}/bias", f"{fused}.bias", "(H 3 K) -> H K", pick=pick
                )
            )
    table.append(
        Rule("layers/attention/out/kernel", f"{layer}.attention.dense.weight", "D (H K) -> H K D")
    )
    if c.attention_out_bias:
        table.append(Rule("layers/attention/out/bias", f"{layer}.attention.dense.bias", "D -> D"))
    for target, source, axes, bias in (
        ("up", "dense_h_to_4h", "F D -> D F", "F"),
        ("down", "dense_4h_to_h", "D F -> F D", "D"),
    ):
        table.append(Rule(f"layers/mlp/{target}/kernel", f"{layer}.mlp.{source}.weight", axes))
        table.append(
            Rule(f"layers/mlp/{target}/bias", f"{layer}.mlp.{source}.bias", f"{bias} -> {bias}")
        )
    if not c.tie_embeddings:
        table.append(Rule("unembed/kernel", "embed_out.weight", "V D -> D V"))
    return tuple(table)
