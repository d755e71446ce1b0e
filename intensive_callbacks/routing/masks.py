"""The padding mask that a model is called with, kept while it runs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from intensive_callbacks.routing.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.hooks import RemovableHandle

    from intensive_callbacks.routing.observer import RouterObserver


class MaskHooks(Hooks):
    """Keeps the padding mask of a model's inputs while the model runs.

    Args:
        observer: where to keep it.
        module: a module whose forward takes ``attention_mask``.
    """

    NAMES = ("attention_mask", "decoder_attention_mask")

    def __init__(self, observer: RouterObserver, module: nn.Module) -> None:
        self.observer = observer
        parameters = list(inspect.signature(module.forward).parameters)
        self.places = {name: parameters.index(name) for name in self.NAMES if name in parameters}

    def register(self, module: nn.Module) -> list[RemovableHandle]:
        """Put the hooks on."""
        return [
            module.register_forward_pre_hook(self.enter, with_kwargs=True),
            module.register_forward_hook(self.leave, always_call=True),
        ]

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the mask of this forward."""
        if self.observer is None:
            return
        masks: dict[str, Tensor | None] = {}
        for name, place in self.places.items():
            value = args[place] if len(args) > place else kwargs.get(name)
            masks[name] = value if isinstance(value, Tensor) and value.dim() == 2 else None
        self.observer.inputs_mask = masks

    def leave(self, *_: Any) -> None:
        """Forget it."""
        if self.observer is not None:
            self.observer.inputs_mask = {}


def takers_of_masks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules whose forward takes ``attention_mask``."""
    if "attention_mask" in inspect.signature(module.forward).parameters:
        yield module
    else:
        for child in module.children():
            yield from takers_of_masks(child)
