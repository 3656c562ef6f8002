"""transformers' OLMo with the parameters of the tiny model, and back. Needs torch."""

import numpy as np
import pytest

from amuro_jax.models.parameters import abstract_params, flatten, unflatten
from tests.train.tiny import MODEL


def model_of(params):
    """The torch model; its test is skipped where there is no torch."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.OlmoConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
        pad_token_id=1,
        eos_token_id=2,
        max_position_embeddings=64,
    )
    model = transformers.OlmoForCausalLM(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.tensor(np.array(_as_hf(params, name))))
    return model


def params_of(model):
    """The parameter tree of a torch model."""
    names = flatten(abstract_params(MODEL))
    return unflatten({name: np.asarray(_from_hf(model, name)) for name in names})


_HF = {
    "layers/attention/query/kernel": "self_attn.q_proj",
    "layers/attention/key/kernel": "self_attn.k_proj",
    "layers/attention/value/kernel": "self_attn.v_proj",
    "layers/attention/out/kernel": "self_attn.o_proj",
    "layers/mlp/gate/kernel": "mlp.gate_proj",
    "layers/mlp/up/kernel": "mlp.up_proj",
    "layers/mlp/down/kernel": "mlp.down_proj",
}


def _as_hf(params, name):
    if "layers." not in name:
        return params["embed"]["embedding"]
    layer = int(name.split(".")[2])
    ours = next(ours for ours, theirs in _HF.items() if theirs in name)
    kernel = np.asarray(flatten(params)[ours][layer])
    return (
        kernel.reshape(32, -1).T
        if "out/" not in ours and kernel.ndim == 3
        else kernel.reshape(-1, kernel.shape[-1]).T
    )


def _from_hf(model, name):
    state = model.state_dict()
    if name == "embed/embedding":
        return state["model.embed_tokens.weight"].numpy()
    shape = flatten(abstract_params(MODEL))[name].shape
    return np.stack(
        [
            state[f"model.layers.{i}.{_HF[name]}.weight"].numpy().T.reshape(shape[1:])
            for i in range(2)
        ]
    )
