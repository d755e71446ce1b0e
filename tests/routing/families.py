"""Every mixture-of-experts family of the installed transformers, as a tiny random model that runs."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import torch

MOE_CODE = re.compile(r"^class \w*(Expert|MoE|Moe|MOE)\w*\((nn\.|\w*Router)", re.MULTILINE)
TINY = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_experts_moe"), 8),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_top_k", "moe_topk"), 2),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd"), 32),
    **dict.fromkeys(
        ("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size"), 24
    ),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "n_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 8),
    **dict.fromkeys(("topk_group", "first_k_dense_replace", "bos_token_id"), 1),
    **dict.fromkeys(("n_group", "num_group", "num_expert_group"), 2),
    "vocab_size": 97,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
GEMMA = {
    "enable_moe_block": True,
    "num_experts": 8,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
    "vocab_size_per_layer_input": 97,
    "hidden_size_per_layer_input": 8,
}
MORE = {  # what a family's config needs besides to be small, valid and a mixture
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"moe_num_experts": 8, "moe_top_k": 2, "ffn_hidden_size": 24, "ffn_act_fn": {"name": "silu"}},
    },
    "deepseek_ocr2": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], "num_experts_per_tok": 2},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "diffusion_gemma": GEMMA,
    "doge": {"is_moe": True, "num_experts": 16},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "ernie4_5_vl_moe": {
        "moe_intermediate_size": [16, 16],
        "moe_k": 2,
        "rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]},
    },
    "gemma4": GEMMA,
    "glm4v_moe": {"rope_parameters": {**ROPE, "mrope_section": [1, 1, 2], "partial_rotary_factor": 1.0}},
    "glm5_next": {"qk_rope_head_dim": 0},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_expand": 2},
    "hunyuan_v1_moe": {"head_dim": 8, "moe_topk": 2, "num_experts": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mistral4": {"head_dim": 16},
    "longcat_flash": {"zero_expert_num": 4},
    "mimo_v2_flash": {"num_key_value_heads": 2},
    "qwen4_exp": {
        "indexer_compress_ratio": 2,
        "indexer_budget": 4,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
    },
    "step3p7": {"sliding_window": 4},
    "zaya": {"num_experts_per_tok": 1},
}
NUM_TOKENS = 12


def families() -> list[str]:
    """The model packages whose modeling code has a class of experts, a router or a mixture."""
    import transformers

    root = Path(transformers.__file__).parent / "models"
    found = (path for path in sorted(root.glob("*/modeling_*.py")) if MOE_CODE.search(path.read_text(encoding="utf8")))
    # ViTPose has experts but no router: the data set that an image is from selects one.
    return sorted({path.parent.name for path in found} - {"vitpose_backbone"})


def build(family: str) -> torch.nn.Module:
    """A tiny random language model of a family, with every bias of its routers random as well."""
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    torch.manual_seed(0)
    model = _model_class(module)
    config = model.config_class(**{**_tiny(model.config_class()), **MORE.get(family, {})})
    return randomize(model(config)).eval()


def _model_class(module):
    """The one that takes token ids and whose config is that of a text model."""
    from transformers import PreTrainedModel

    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    models = [c for c in own if issubclass(c, PreTrainedModel) and getattr(c, "config_class", None) is not None]
    models = [c for c in models if "forward" in vars(c) and c.__name__.endswith("Model")]
    text = [c for c in models if "input_ids" in inspect.signature(c.forward).parameters]
    return min(text, key=lambda c: ("TextModel" not in c.__name__, "Talker" in c.__name__, len(c.__name__)))


def _tiny(config) -> dict:
    default = config.to_dict()
    return {name: value for name, value in TINY.items() if isinstance(default.get(name), int)}


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter and correction bias a value of the same small scale, so that routing has no ties."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.3 if parameter.dim() > 1 else 0.05
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
        for name, buffer in model.named_buffers():
            if "bias" in name and buffer.is_floating_point():
                buffer.add_(torch.randn(buffer.shape, generator=generator).to(buffer.dtype))
            if "tid2eid" in name:
                buffer.copy_(torch.randint(0, 8, buffer.shape, generator=generator))
    return model


def run(model: torch.nn.Module) -> None:
    """One forward of tokens that all differ."""
    ids = 3 + torch.randperm(94, generator=torch.Generator().manual_seed(2))[: 2 * NUM_TOKENS].view(2, NUM_TOKENS)
    inputs = {"input_ids": ids}
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        inputs["decoder_input_ids"] = ids.flip(1)
    if "use_cache" in inspect.signature(model.forward).parameters or hasattr(model.config, "use_cache"):
        inputs["use_cache"] = False
    with torch.no_grad():
        model(**inputs)
