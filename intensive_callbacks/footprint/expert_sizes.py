"""Parameters of each routed expert, and the mean number of them that a token uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import nn

from intensive_callbacks.footprint.parameter_kinds import idle_adapters
from intensive_callbacks.footprint.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from intensive_callbacks.routing.discovery import MoELayer

__all__ = ["ExpertSizes", "expert_sizes", "num_holders"]


@dataclass(frozen=True)
class ExpertSizes:
    """The parameters of a layer's routed experts.

    Attributes:
        sizes: parameters of each expert, by its id.
        by_design: parameters that a token uses by the layer's own k; all of them where k is not known.
    """

    sizes: tuple[float, ...] = ()
    by_design: float = 0.0

    def used(self, load: Sequence[float], num_tokens: float) -> float:
        """Mean parameters that a token uses, from the selections of each expert over ``num_tokens`` tokens.

        A layer that selected nothing at all is no evidence that experts were idle: all of them count.

        Example:
            >>> ExpertSizes((100, 300)).used([30, 10], num_tokens=40)
            150.0
        """
        if not any(load):
            return sum(self.sizes)
        if len(set(self.sizes)) == 1:
            return self.sizes[0] * sum(load) / num_tokens
        return sum(size * selections for size, selections in zip(self.sizes, load, strict=False)) / num_tokens


def expert_sizes(model: nn.Module, layers: Iterable[MoELayer]) -> dict[str, ExpertSizes]:
    """Sizes of the experts of each layer, by its name; experts that layers share count in the first of them.

    Example:
        >>> expert_sizes(nn.Linear(2, 2), [])
        {}
    """
    weights = Weights(model)
    active = active_sizes(model, weights)
    known: set[int] = set()
    sizes = {}
    for layer in layers:
        keys = expert_keys(layer, weights) - known
        known |= keys
        num_selected = layer.num_experts if layer.num_experts_per_token is None else layer.num_experts_per_token
        used = sum(active[key] * num_selected / num_rows(layer, weights.shapes[key]) for key in keys)
        here = _by_expert(layer, weights, keys, active)
        times = num_holders(layer)
        # The experts of the others are like those here; which ids these have does not matter then.
        by_id = here if times == 1 else (sum(here) * times / layer.num_classes,) * layer.num_classes
        sizes[layer.name] = ExpertSizes(by_id, used)
    return sizes


def num_holders(layer: MoELayer) -> int:
    """Over how many processes the experts of a layer are spread: 1 where each process has them all.

    A router with p times as many classes as there are experts here, of p processes or a p-th of all processes, sends
    tokens to the experts of others. One whose model names zero-compute experts has them among its classes.

    Example:
        >>> from intensive_callbacks.routing.discovery import MoELayer
        >>> num_holders(MoELayer("moe", nn.Linear(2, 2), None, (), num_experts=4, num_zero_experts=4))
        1
    """
    world_size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    times, rest = divmod(layer.num_classes, layer.num_experts)
    if rest or times < 2 or world_size % times:
        return 1
    holders = [layer.block, layer.router, vars(layer.block).get("config")]
    names = (
        name for holder in holders if hasattr(holder, "__dict__") for name in (type(holder).__name__, *vars(holder))
    )
    says_zero = any("zero" in name.lower() for name in names)
    is_sharded = any(hasattr(parameter, "full_tensor") for parameter in layer.expert_parameters())
    return 1 if says_zero or is_sharded else times


def active_sizes(model: nn.Module, weights: Weights) -> dict[int, float]:
    """Elements of each weight, 0 for adapters that are not in use and for modules that an adapter replaces."""
    return {**weights.sizes, **dict.fromkeys(weights.of(*idle_adapters(model)), 0.0)}


def expert_keys(layer: MoELayer, weights: Weights) -> set[int]:
    """The weights of a layer's routed experts; none of modules that the model has lost since the layer was found."""
    own = {id(parameter) for parameter in layer.expert_parameters()}
    return weights.of(*layer.experts) | (own & weights.sizes.keys())


def num_rows(layer: MoELayer, shape: tuple[int, ...]) -> int:
    """Number of experts that a weight belongs to; some models stack weights for zero-compute experts, too."""
    # Of a list, each module is one that computes.
    stacked = len(shape) >= 2 and not any(isinstance(m, (nn.ModuleList, nn.ModuleDict)) for m in layer.experts)
    return layer.num_classes if stacked and shape[0] == layer.num_classes else layer.num_experts


def _by_expert(layer: MoELayer, weights: Weights, keys: set[int], active: Mapping[int, float]) -> tuple[float, ...]:
    """Elements of each expert: in a list those of its module, of stacked weights an equal share."""
    sizes, rest = [0.0] * layer.num_classes, set(keys)
    for children in _lists(layer, weights):
        for place, child in enumerate(children):
            held = weights.of(child) & rest
            sizes[place] += sum(active[key] for key in held)
            rest -= held
    for key in rest:
        rows = num_rows(layer, weights.shapes[key])
        for place in range(rows):
            sizes[place] += active[key] / rows
    return tuple(sizes)


def _lists(layer: MoELayer, weights: Weights) -> Iterable[list[nn.Module]]:
    """Lists of one module for each expert."""
    for module in (inside for holder in layer.experts for inside in holder.modules()):
        if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            continue
        children = list(module.children())
        computing = [child for child in children if weights.of(child)]
        if len(children) == layer.num_classes:
            yield children
        elif len(computing) == layer.num_experts:
            yield computing
