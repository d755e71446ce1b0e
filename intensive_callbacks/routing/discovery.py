"""Which mixtures of experts of a model are observed: those that the search finds and the user asks for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from intensive_callbacks.routing.layer import MoELayer
from intensive_callbacks.routing.readers import registered_reader
from intensive_callbacks.routing.search import find_layers
from intensive_callbacks.routing.structure import NUM_EXPERTS, NUM_SELECTED, first_matrix_rows, positive_attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

__all__ = ["MoELayer", "discover", "find_layers", "select_layers"]


def discover(model: nn.Module, routers: str | Mapping[str, Callable[..., Any]] | None = "auto") -> list[MoELayer]:
    """The mixtures of experts of a model, in the order of its modules.

    Args:
        model: any module; only names, attributes and shapes are looked at.
        routers: ``"auto"``: all that are found; a pattern such as ``"layers.*.mlp"``: those of them whose name, or
            whose router's name, matches; a mapping from patterns to readers: every module that matches one of them is
            a layer; ``None``: none.

    Raises:
        ValueError: if a pattern matches nothing, or it matches a module that does not tell its number of experts.

    Example:
        >>> from torch import nn
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.gate = nn.Linear(16, 4)
        ...         self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        >>> [(layer.name, layer.num_experts) for layer in discover(nn.Sequential(Block(), Block()))]
        [('0', 4), ('1', 4)]
    """
    return [] if routers is None else select_layers(model, find_layers(model), routers)


def select_layers(
    model: nn.Module, found: list[MoELayer], routers: str | Mapping[str, Callable[..., Any]] | None
) -> list[MoELayer]:
    """Those of the layers found that the user asks for, as :func:`discover` takes them."""
    if routers is None:
        return []
    layers = {layer.name: layer for layer in found}
    names = {id(module): name for name, module in model.named_modules()}
    if routers == "auto":
        taken = {id(module) for layer in found for module in (layer.block, layer.router)}
        own = {name: None for name, m in model.named_modules() if registered_reader(m) and id(m) not in taken}
        return [*found, *_matched(model, own, [])]
    if isinstance(routers, str):
        chosen = [
            layer
            for layer in found
            if fnmatchcase(layer.name, routers) or fnmatchcase(names.get(id(layer.router), ""), routers)
        ]
        if not chosen:
            raise ValueError(f"no router matches routers={routers!r}; found were {sorted(layers)}")
        return chosen
    return _matched(model, routers, found)


def _matched(model: nn.Module, routers: Mapping[str, Any], found: list[MoELayer]) -> list[MoELayer]:
    """A layer for each module that a pattern names, with what the search knows of it."""
    known = {id(module): layer for layer in found for module in (layer.block, layer.router) if module is not None}
    chosen = []
    for pattern in routers:
        matches = [(name, module) for name, module in model.named_modules() if fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"no module matches the pattern {pattern!r} of routers; see model.named_modules()")
        for name, module in matches:
            layer = known.get(id(module))
            num_experts = (
                layer.num_experts if layer else positive_attribute(module, NUM_EXPERTS) or first_matrix_rows(module)
            )
            if num_experts is None:
                raise ValueError(f"{name} does not tell its number of experts; give the module an int num_experts")
            chosen.append(
                MoELayer(
                    name,
                    module,
                    module,
                    layer.experts if layer else (),
                    num_experts,
                    layer.num_experts_per_token if layer else positive_attribute(module, NUM_SELECTED),
                    layer.num_zero_experts if layer else 0,
                )
            )
    return chosen
