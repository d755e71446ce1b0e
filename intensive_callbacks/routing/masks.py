"""Hooks that keep the padding mask of a model's inputs while the model runs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from intensive_callbacks.routing.padding import MASKS, real_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from intensive_callbacks.routing.context import RoutingContext

MASK_PART = "the padding mask of the model's inputs"


class MaskHooks:
    """Hooks that keep the padding mask of a model's inputs in the context while the model runs.

    Args:
        context: where to keep it.
        module: a module whose forward accepts one of :data:`MASKS`.
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
        given = {name: args[i] if len(args) > i else kwargs.get(name) for name, i in self._places.items()}
        masks: dict[str, Tensor | None] = {}
        for name, mask in given.items():
            if not isinstance(mask, Tensor):
                masks[name] = None
                continue
            decodes = name.startswith("decoder")
            masks[name] = _of_input(mask, _input(mask, args, kwargs, decodes=decodes), name)
        self._context.begin_forward(masks)

    def _leave(self, *_: Any) -> None:
        self._context.end_forward()


def _input(mask: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], *, decodes: bool) -> Tensor | None:
    """The input that a mask belongs to: one that it fits, else the first of at least two dimensions."""
    named = [value for name, value in kwargs.items() if name.startswith("decoder_") is decodes and "mask" not in name]
    values = (*named, *args) if decodes else (*args, *named)
    tensors = [value for value in values if isinstance(value, Tensor) and value is not mask]
    tensors = [tensor for tensor in tensors if tensor.is_nested or tensor.dim() > 1]
    fitting = (t for t in tensors if not t.is_nested and t.shape[:2] == (mask.shape[0], mask.shape[-1]))
    return next(fitting, tensors[0] if tensors else None)


def _of_input(mask: Tensor, tensor: Tensor | None, name: str) -> Tensor | None:
    """The real tokens of an input in the order of its rows."""
    if tensor is None:  # nothing to compare with: only a mask of two dimensions can be told
        return real_tokens(mask, mask.shape[0], mask.shape[1], name) if mask.dim() == 2 else None
    if tensor.is_nested:
        return None
    first, second = tensor.shape[:2]
    real = real_tokens(mask, first, second, name)
    if real is None and name.endswith("key_padding_mask") and mask.shape == (second, first):
        real = real_tokens(mask, second, first, name)  # torch's own modules have the sequence first by default
        return None if real is None else real.T
    return real


def modules_accepting_a_mask(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules whose forward accepts one of :data:`MASKS`."""
    if any(name in inspect.signature(module.forward).parameters for name in MASKS):
        yield module
    else:
        for child in module.children():
            yield from modules_accepting_a_mask(child)
