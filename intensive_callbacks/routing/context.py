"""What the hooks on one model share: the switches, the padding mask of the running forward and the boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from intensive_callbacks.boundary import Hook
from intensive_callbacks.routing.padding import MASKS, real_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.routing.sample import RouterSample


class RoutingContext:
    """The state that :class:`RouterObserver` sets and its hooks read.

    Args:
        boundary: where every hook and every part of the discovery is called through.
        on_sample: called with every :class:`RouterSample`, in eager mode.

    Attributes:
        attached: whether the hooks count.
        paused: whether what runs now is not a forward of this model, even in the middle of one.
        sampling: whether to fill the sums that need weights or probabilities, too.
        in_backward: whether backward runs, so that a forward is the recomputation of a checkpointed one.
        mask: the padding mask that the user set, ``[B, S]``, booleans or any form that :func:`real_tokens` reads.
        running: the outermost hooked module around the layers that runs; none in a forward that backward repeats.
    """

    def __init__(self, boundary: Boundary, on_sample: Callable[[RouterSample], object] | None = None) -> None:
        self.boundary = boundary
        self.on_sample = on_sample
        self.attached = False
        self.paused = False
        self.sampling = True
        self.in_backward = False
        self.mask: Tensor | None = None
        self.running: nn.Module | None = None
        self._input_masks: Mapping[str, Tensor | None] = {}
        self._flat_masks: dict[tuple[bool, int], Tensor | None] = {}  # of this forward, for all its layers

    def switch(self, **switches: Any) -> None:
        """Set attributes by name."""
        vars(self).update(switches)

    def begin_model(self, module: nn.Module | None) -> None:
        """Keep which module around the layers runs, ``None`` once it has returned; compiled hooks call it, too."""
        self.running = module

    def hook(self, part: str, function: Callable[..., object], *args: Any, off: Callable[[], object]) -> Hook:
        """A hook that calls ``function(*args, ...)``; if it fails, the part is reported and ``off`` is called."""
        return Hook(self.boundary.call, part, function, *args, off=off)

    @property
    def is_listening(self) -> bool:
        """Whether a forward that runs now is counted."""
        if not self.attached or self.paused or self.in_backward:
            return False
        # Recomputation of a checkpointed forward: right in every mode of eager checkpointing, where grad mode is not.
        return torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1  # noqa: SLF001

    def begin_forward(self, masks: Mapping[str, Tensor | None]) -> None:
        """Keep the real tokens by each mask, ``[B, S]`` booleans, that the model is called with."""
        self._input_masks = masks
        self._flat_masks = {}

    def end_forward(self) -> None:
        """Forget the masks."""
        self._input_masks = {}
        self._flat_masks = {}

    def mask_for(self, layer: str, num_tokens: int) -> Tensor | None:
        """The padding mask of a layer's tokens, row by row, if one is known that fits them."""
        mask, masks = self.mask, self._input_masks
        if mask is not None:
            if num_tokens % mask.shape[0] == 0:
                mask = real_tokens(mask, mask.shape[0], num_tokens // mask.shape[0])
            return _flat(mask, num_tokens)
        if not masks:
            return None
        decodes = "decoder_attention_mask" in masks and "decoder." in f".{layer}"
        key = decodes, num_tokens
        if key in self._flat_masks:
            return self._flat_masks[key]
        names = ("decoder_attention_mask",) if decodes else MASKS
        mask = _flat(next((masks[name] for name in names if masks.get(name) is not None), None), num_tokens)
        if not torch.compiler.is_compiling():
            self._flat_masks[key] = mask
        return mask

    def warn_about_reading(self, layer: str, both: str, *, counted: bool) -> None:
        """Warn once about a layer whose experts computed something else than what was read."""
        then = "Its load is counted at the experts" if counted else "Its load is that of the selections"
        self.boundary.warn(
            f"reading of {layer}",
            f"the routing of layer {layer!r} is read from other tensors than its experts follow: {both}. {then}; pass "
            "a reader for more: routers={'name.of.the.router': read}",
            UserWarning,
        )

    def publish(self, sample: RouterSample) -> None:
        """Pass a sample on to the subscriber; one that fails is no longer called."""
        if self.on_sample is not None and not torch.compiler.is_compiling():
            self.boundary.call("on_sample", self.on_sample, sample, off=self._unsubscribe)

    def _unsubscribe(self) -> None:
        self.on_sample = None


def _flat(mask: Tensor | None, num_tokens: int) -> Tensor | None:
    """A mask ``[B, S]`` row by row, if it fits so many tokens."""
    if mask is None or num_tokens % mask.shape[0] != 0:
        return None
    # With a cache the mask covers what came before, too: the tokens are its last columns.
    columns = num_tokens // mask.shape[0]
    return mask[:, -columns:].reshape(-1) if columns <= mask.shape[-1] else None
