"""FLOPs by formula where operators cannot be counted: from parameters, and for experts on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from intensive_callbacks.routing.discovery import discover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from intensive_callbacks.footprint.flop_counter import FlopCounter
    from intensive_callbacks.routing.discovery import MoELayer

__all__ = ["analytic_flops_per_token"]


def analytic_flops_per_token(
    num_params: float, *, training: bool = False, num_layers: int = 0, sequence_length: int = 0, width: int = 0
) -> float:
    """FLOPs per token of a transformer by formula: 2 N forward, 6 N in training, plus attention if its shape is given.

    .. math:: F = 2 N + 4 L T d

    and three times that in training. This is an estimate; prefer a measured count where there is one.

    Args:
        num_params: N, the parameters that multiply a token: active, without the input embedding.
        training: with the backward pass, which costs two forwards.
        num_layers: L, layers with attention.
        sequence_length: T, keys per query; a causal mask does not lower it, as in a measured count.
        width: d, heads times their size.

    Raises:
        ValueError: if an argument is negative.

    Source:
        "Intensive Intelligence: Measurement Frameworks", metric 2, for 2 N and 6 N; Kaplan et al. 2020
        (arXiv 2001.08361), table 1, for the attention.

    Example:
        >>> analytic_flops_per_token(175e9, training=True)  # GPT-3
        1050000000000.0
    """
    if min(num_params, num_layers, sequence_length, width) < 0:
        raise ValueError(
            f"num_params, num_layers, sequence_length and width must not be negative, got {num_params}, {num_layers}, "
            f"{sequence_length} and {width}"
        )
    forward = 2.0 * num_params + 4.0 * num_layers * sequence_length * width
    return 3 * forward if training else forward


@contextmanager
def experts_by_formula(
    model: nn.Module, counter: FlopCounter, num_experts_per_token: float | Mapping[str, float] | None = None
) -> Iterator[None]:
    """Replace the forward of each experts module by its cost, since its work depends on values that meta tensors lack.

    Each token is multiplied by the matrices of its top-k experts once. The module must take the hidden states as its
    first argument and return a tensor of their shape, as those of transformers do.

    Raises:
        ValueError: if a layer's experts are no such module, or its k is not known.
    """
    layers = discover(model)
    chosen = {layer.name: _experts_per_token(layer, num_experts_per_token) for layer in layers}
    for layer in layers:
        if len(layer.experts) != 1 or isinstance(layer.experts[0], (nn.ModuleList, nn.ModuleDict)):
            raise ValueError(
                f"{layer.name} cannot run on the meta device: its experts are chosen in its own code. Count a real "
                "batch, or use analytic_flops_per_token"
            )
        if chosen[layer.name] is None:
            raise ValueError(f"{layer.name} does not say how many experts a token is sent to. Count a real batch")
    replaced = [layer.experts[0] for layer in layers]
    try:
        for layer in layers:
            # An attribute of the instance hides the method until the count is done.
            vars(layer.experts[0])["forward"] = _formula_of(layer, counter, chosen[layer.name] or 0)
        yield
    finally:
        for experts in replaced:
            vars(experts).pop("forward", None)


def _experts_per_token(layer: MoELayer, given: float | Mapping[str, float] | None) -> float | None:
    """The given number, or the layer's own k."""
    by_name = given if isinstance(given, Mapping) else {} if given is None else {layer.name: given}
    return by_name.get(layer.name, layer.num_experts_per_token)


def _formula_of(layer: MoELayer, counter: FlopCounter, num_selected: float) -> Callable[..., torch.Tensor]:
    matrices = [parameter for parameter in layer.expert_parameters() if parameter.dim() >= 3]
    per_token = sum(2 * matrix[0].numel() for matrix in matrices) * num_selected

    def forward(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        counter.add("experts by formula", round(per_token * prod(hidden_states.shape[:-1])))
        return torch.empty_like(hidden_states)

    return forward
