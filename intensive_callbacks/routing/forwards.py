"""Hooks that tell whether the model runs around a layer, or backward has the layer run once more.

Selections are counted at the routers, and what they were to be is expected while the model runs: so a forward that
backward repeats, if it is counted by mistake, shows as a coverage of 2.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intensive_callbacks.routing.context import RoutingContext
    from intensive_callbacks.routing.discovery import MoELayer

FORWARD_PART = "the watch for repeated forwards"


class ForwardHooks:
    """Hooks on the outermost modules that are called around the layers.

    Which of the modules around a layer the model calls is seen when one runs: the hooks inside it are removed then.

    Args:
        context: where to keep whether one of them runs.
        model: the model.
        layers: its layers.
    """

    def __init__(self, context: RoutingContext, model: nn.Module, layers: Sequence[MoELayer]) -> None:
        self._context = context
        self._modules = modules_around(model, layers)
        self._handles: dict[int, ExitStack] = {}

    def attach(self, handles: ExitStack) -> None:
        """Register the hooks; closing ``handles`` removes them."""
        self._context.begin_model(None)
        enter = self._context.hook(FORWARD_PART, self._enter, off=handles.close)
        leave = self._context.hook(FORWARD_PART, self._leave, off=handles.close)
        for module in self._modules:
            own = self._handles[id(module)] = ExitStack()
            handles.callback(own.close)
            own.callback(module.register_forward_pre_hook(enter).remove)
            own.callback(module.register_forward_hook(leave, always_call=True).remove)

    def _enter(self, module: nn.Module, _: tuple[Any, ...]) -> None:
        if self._context.running is not None:
            return
        self._context.begin_model(module)
        if not torch.compiler.is_compiling():
            for inner in self._modules:
                if inner is not module and id(inner) in self._handles and _contains(module, inner):
                    self._handles.pop(id(inner)).close()

    def _leave(self, module: nn.Module, *_: Any) -> None:
        if module is self._context.running:  # no number is counted up: a compiled hook would have a graph for it
            self._context.begin_model(None)


def modules_around(model: nn.Module, layers: Sequence[MoELayer]) -> list[nn.Module]:
    """The modules that contain a layer's block and can be called, from the outside in."""
    names = {id(module): name for name, module in model.named_modules()}
    paths = {
        ".".join(segments[:length])
        for layer in layers
        if id(layer.block) in names and (segments := names[id(layer.block)].split(".")) != [""]
        for length in range(len(segments))
    }
    around = (model.get_submodule(path) for path in sorted(paths, key=len))
    return [module for module in around if type(module).forward is not nn.Module.forward]


def _contains(module: nn.Module, inner: nn.Module) -> bool:
    return any(each is inner for each in module.modules())
