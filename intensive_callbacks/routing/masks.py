"""The padding mask that a model is called with, kept while it runs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from intensive_callbacks.routing.context import RoutingContext

MASKS = ("attention_mask", "decoder_attention_mask")
MASK_PART = "the padding mask of the model's inputs"


class MaskHooks:
    """Hooks that keep the padding mask of a model's inputs in the context while the model runs.

    Args:
        context: where to keep it.
        module: a module whose forward accepts ``attention_mask``.
    """

    def __init__(self, context: RoutingContext, module: nn.Module) -> None:
        self._context = context
        self._module = module
        parameters = list(inspect.signature(module.forward).parameters)
        self._places = {name: parameters.index(name) for name in MASKS if name in parameters}

    def attach(self, handles: ExitStack) -> None:
        """Register the hooks; closing ``handles`` removes them."""
        handles.callback(self._context.end_forward)
        enter = self._context.hook(MASK_PART, self._enter, off=handles.close)
        leave = self._context.hook(MASK_PART, self._leave, off=handles.close)
        handles.callback(self._module.register_forward_pre_hook(enter, with_kwargs=True).remove)
        handles.callback(self._module.register_forward_hook(leave, always_call=True).remove)

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        masks: dict[str, Tensor | None] = {}
        for name, place in self._places.items():
            value = args[place] if len(args) > place else kwargs.get(name)
            masks[name] = value if isinstance(value, Tensor) and value.dim() == 2 else None
        self._context.begin_forward(masks)

    def _leave(self, *_: Any) -> None:
        self._context.end_forward()


def modules_accepting_attention_mask(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules whose forward accepts ``attention_mask``."""
    if "attention_mask" in inspect.signature(module.forward).parameters:
        yield module
    else:
        for child in module.children():
            yield from modules_accepting_attention_mask(child)
