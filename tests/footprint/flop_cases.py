"""Models whose FLOPs are known by hand: 2·MAC of products and convolutions, from the shapes alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

B, T, D, H, V = 2, 64, 128, 4, 512
TOKENS = B * T


@dataclass
class FlopCase:
    """A model, its batch, and what one forward pass costs by hand."""

    name: str
    build: Callable[[], nn.Module]
    flops: int
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    # Forward and backward together, where it is not three times the forward; None: it has no backward.
    both: int | None = -1
    # fvcore cannot trace nested tensors, packed weights and convolutions on the meta device.
    traced: bool = True


def linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def attention(queries: int, keys: int, width: int, batch: int = B) -> int:
    return 2 * batch * 2 * queries * keys * width


class Decoder(nn.Module):
    """Embedding, one block with fused attention, head. Keys and values may have fewer heads."""

    def __init__(self, key_heads: int = H):
        super().__init__()
        self.key_heads = key_heads
        self.embed = nn.Embedding(V, D)
        self.query, self.out = nn.Linear(D, D), nn.Linear(D, D)
        self.key_value = nn.Linear(D, 2 * key_heads * D // H)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        query = self.query(x).unflatten(-1, (H, -1)).transpose(1, 2)
        key, value = self.key_value(x).unflatten(-1, (2, self.key_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=self.key_heads != H)
        x = self.norm(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.head(x + self.down(F.gelu(self.up(x))))


def decoder_flops(key_heads: int = H) -> int:
    projections = linear(TOKENS, D, D) * 2 + linear(TOKENS, D, 2 * key_heads * D // H)
    return projections + attention(T, T, D) + 2 * linear(TOKENS, D, 4 * D) + linear(TOKENS, D, V)


EXPERTS, TOP_K, HIDDEN = 8, 2, 192
MOE_FLOPS = linear(TOKENS, D, EXPERTS) + TOP_K * 2 * linear(TOKENS, D, HIDDEN)


class LoopedMoE(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, D)) for _ in range(EXPERTS)
        )
        self.top_k = TOP_K

    def forward(self, x):
        flat = x.flatten(0, 1)
        weights, ids = self.gate(flat).softmax(-1).topk(TOP_K)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            token, slot = (ids == number).nonzero(as_tuple=True)
            out = out.index_add(0, token, expert(flat[token]) * weights[token, slot, None])
        return out


class FusedMoE(nn.Module):
    """The experts' weights in two tensors; each token's copies are sorted, or its weights gathered."""

    def __init__(self, *, grouped: bool):
        super().__init__()
        self.grouped = grouped
        self.gate = nn.Linear(D, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, D, HIDDEN) / 8)
        self.down = nn.Parameter(torch.randn(EXPERTS, HIDDEN, D) / 8)

    def forward(self, x):
        flat = x.flatten(0, 1)
        ids = self.gate(flat).topk(TOP_K).indices.flatten()
        copies = flat.repeat_interleave(TOP_K, 0)
        if not self.grouped:
            hidden = torch.bmm(copies[:, None], self.up[ids]).relu()
            return torch.bmm(hidden, self.down[ids])
        order = ids.argsort()
        offsets = torch.bincount(ids, minlength=EXPERTS).cumsum(0).to(torch.int32)
        hidden = torch._grouped_mm(copies[order].bfloat16(), self.up.bfloat16(), offs=offsets)
        return torch._grouped_mm(hidden.relu(), self.down.bfloat16(), offs=offsets)


def causal_lm(name: str, attention: str = "sdpa", **config: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        sizes = {"hidden_size": D, "intermediate_size": HIDDEN, "num_hidden_layers": 2, "vocab_size": V}
        heads = {"num_attention_heads": H, "num_key_value_heads": H // 2, "pad_token_id": 0, "eos_token_id": 1}
        made = getattr(transformers, f"{name}Config")(**{**sizes, **heads, **config})
        return getattr(transformers, f"{name}ForCausalLM")._from_config(made, attn_implementation=attention)

    return build


def causal_lm_flops(experts: int = 0, feed_forwards: int = 1) -> int:
    """Two layers with grouped-query attention (half the heads for keys) and gated feed-forwards."""
    projections = 2 * linear(TOKENS, D, D) + 2 * linear(TOKENS, D, D // 2)
    gated = feed_forwards * 3 * linear(TOKENS, D, HIDDEN)
    return 2 * (projections + attention(T, T, D) + linear(TOKENS, D, experts) + gated) + linear(TOKENS, D, V)


def recurrent_flops(gates: int, width: int) -> int:
    """Two layers in both directions: the first reads D numbers, the second both directions of the first."""
    first = linear(TOKENS, D, gates * width) + linear(TOKENS, width, gates * width)
    second = linear(TOKENS, 2 * width, gates * width) + linear(TOKENS, width, gates * width)
    return 2 * (first + second)


def int8_linear() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is about to move to torchao
        return torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, D)), {nn.Linear}, dtype=torch.qint8
        )


def resnet50(device: str = "meta") -> nn.Module:
    import transformers

    with torch.device(device):
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))


def resnet50_flops() -> int:
    """He et al. 2015, table 1, with the stride in the 3 x 3 convolution and a convolution where the width changes."""
    total, inputs = 2 * 112 * 112 * 64 * 3 * 49, 64
    for width, blocks, size in ((256, 3, 56), (512, 4, 28), (1024, 6, 14), (2048, 3, 7)):
        narrow = width // 4
        for block in range(blocks):
            before = size * (2 if block == 0 and width > 256 else 1)
            total += 2 * before**2 * inputs * narrow + 2 * size**2 * narrow * narrow * 9 + 2 * size**2 * narrow * width
            total += 2 * size**2 * inputs * width * (block == 0)
            inputs = width
    return total + linear(1, 2048, 1000)


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(D, H, HIDDEN, batch_first=True, dropout=0.0)


ENCODER_FLOPS = 4 * linear(TOKENS, D, D) + attention(T, T, D) + 2 * linear(TOKENS, D, HIDDEN)
LENGTHS = (20, 40, 64)
PADDING = torch.arange(T)[None] >= torch.tensor(LENGTHS)[:, None]


def hidden(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (B, T, D)), generator=torch.Generator().manual_seed(0))


IDS = torch.arange(TOKENS).reshape(B, T) * 7 % V
# A fused attention keeps no scores: its backward has five products where its forward had two.
RECOMPUTED = attention(T, T, D) // 2

CASES = [
    FlopCase("resnet50", resnet50, resnet50_flops(), (torch.zeros(1, 3, 224, 224, device="meta"),), traced=False),
    FlopCase("decoder-sdpa", Decoder, decoder_flops(), (IDS,), both=3 * decoder_flops() + RECOMPUTED),
    FlopCase("decoder-gqa", lambda: Decoder(2), decoder_flops(2), (IDS,), both=3 * decoder_flops(2) + RECOMPUTED),
    FlopCase("encoder-layer", encoder_layer, ENCODER_FLOPS, (hidden(),), both=3 * ENCODER_FLOPS + RECOMPUTED),
    FlopCase(
        "encoder-padded",
        lambda: nn.TransformerEncoder(encoder_layer(), 2),
        2 * sum(linear(n, D, 4 * D + 2 * HIDDEN) + attention(n, n, D, batch=1) for n in LENGTHS),
        (hidden(3, T, D),),
        {"src_key_padding_mask": PADDING},
        both=None,
        traced=False,
    ),
    FlopCase(
        "multihead-attention",
        lambda: nn.MultiheadAttention(D, H, batch_first=True),
        4 * linear(TOKENS, D, D) + attention(T, T, D),
        (hidden(), hidden(), hidden()),
    ),
    FlopCase(
        "cross-attention",
        lambda: nn.MultiheadAttention(D, H, batch_first=True),
        2 * linear(TOKENS, D, D) + 2 * linear(B * 5, D, D) + attention(T, 5, D),
        (hidden(), hidden(B, 5, D), hidden(B, 5, D)),
    ),
    FlopCase(
        "lstm", lambda: nn.LSTM(D, 24, 2, bidirectional=True, batch_first=True), recurrent_flops(4, 24), (hidden(),)
    ),
    FlopCase(
        "gru",
        lambda: nn.GRU(D, 24, 2, bidirectional=True, batch_first=True),
        recurrent_flops(3, 24),
        (hidden(),),
        # The first state of each sequence is a constant: nothing is carried back to it.
        both=3 * recurrent_flops(3, 24) - 4 * linear(B, 24, 72),
    ),
    FlopCase("moe-loop", LoopedMoE, MOE_FLOPS, (hidden(),)),
    FlopCase("moe-batched", lambda: FusedMoE(grouped=False), MOE_FLOPS, (hidden(),), both=None),
    FlopCase("moe-grouped-mm", lambda: FusedMoE(grouped=True), MOE_FLOPS, (hidden(),), both=None),
    *(
        FlopCase(
            f"olmoe-{experts}",
            causal_lm("Olmoe", num_experts=8, num_experts_per_tok=2, experts_implementation=experts),
            causal_lm_flops(experts=8, feed_forwards=2),
            kwargs={"input_ids": IDS},
            both=None,
        )
        for experts in ("grouped_mm", "batched_mm", "eager")
    ),
    FlopCase(
        "sliding-window",
        causal_lm("Mistral", sliding_window=4),
        causal_lm_flops(),
        kwargs={"input_ids": IDS},
        both=3 * causal_lm_flops() + 2 * RECOMPUTED,
    ),
    FlopCase(
        "grouped-convolution",
        lambda: nn.Conv2d(8, 16, 3, groups=4, stride=2),
        2 * B * 16 * (8 // 4) * 9 * 7 * 7,
        (hidden(B, 8, 15, 15),),
    ),
    FlopCase("depthwise-convolution", lambda: nn.Conv1d(8, 8, 3, groups=8), 2 * B * 8 * 3 * 13, (hidden(B, 8, 15),)),
    FlopCase(
        "transposed-convolution",
        lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2),
        2 * B * 8 * (6 // 2) * 9 * 7 * 7,
        (hidden(B, 8, 7, 7),),
    ),
    FlopCase("int8-dynamic-linear", int8_linear, 2 * linear(TOKENS, D, HIDDEN), (hidden(),), both=None, traced=False),
]
