"""Count FLOPs while operators run, without running anything twice."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.footprint.counting_mode import COUNTING, CountingMode

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["FlopCount", "FlopCounter", "can_count_passively"]


@dataclass(frozen=True)
class FlopCount:
    """FLOPs (1 MAC = 2) of products and convolutions; elementwise work is not in them.

    Attributes:
        total: of the whole batch. A causal mask does not lower it.
        by_operator: shares of the total by the operator's name, such as ``"aten::addmm"``.
        by_module: what ran inside each module, its children included, by the names of ``model.named_modules()``.
        uncounted: operators that may multiply matrices and have no formula, and how often they ran. Give a formula with
            ``torch.utils.flop_counter.register_flop_formula``.
        causal_discount: the part of the total that attention kernels with ``is_causal`` may skip.
        traced: the total by the second mechanism, fvcore's trace; ``None`` where it was not asked, cannot trace, or the
            model runs other operators when it is traced.
        failed: those of ``uncounted`` that have a formula which failed: the total is too small by them.
    """

    total: int
    by_operator: dict[str, int]
    by_module: dict[str, int]
    uncounted: dict[str, int] = field(default_factory=dict)
    causal_discount: int = 0
    traced: int | None = None
    failed: tuple[str, ...] = ()


class FlopCounter:
    """Counts the FLOPs of all operators that run while it is on, forward and backward, without changing any result.

    Only for eager code: a dispatch mode disables compilation (see :func:`can_count_passively`). It may be started
    in one function and stopped in another; stopping twice is harmless. The backward of fused attention recomputes the
    scores, as the kernels do, and so counts 2.5 forwards; recomputed activations count when they are recomputed.
    Where counting itself fails, the code that is counted goes on uncounted.

    Args:
        model: gives the names in ``by_module``; without one no module is hooked, and only the sum is there.
        boundary: where failures are reported; by default one of its own, which warns.

    Attributes:
        mode: the dispatch mode that counts.
        installed: what :meth:`start` has put in place: the hooks and, last, the mode.

    Example:
        >>> model = torch.nn.Linear(10, 5)
        >>> with FlopCounter(model) as counter:
        ...     loss = model(torch.ones(4, 10)).sum()
        >>> counter.result().total
        400
    """

    def __init__(self, model: nn.Module | None = None, boundary: Boundary | None = None) -> None:
        self._names = {id(module): name for name, module in model.named_modules()} if model is not None else {}
        self._boundary = boundary or Boundary()
        self.mode = CountingMode(self._names, self._boundary)
        self.installed = ExitStack()

    def start(self) -> Self:
        """Start counting, or continue."""
        if self._names:
            # Hooks on the modules themselves would keep nn.MultiheadAttention from its fast path.
            hooks = self.installed.enter_context(ExitStack())

            def off() -> None:
                hooks.close()
                self.mode.stop_counting()

            enter, leave = (
                partial(self._boundary.call, COUNTING, hook, off=off) for hook in (self.mode.enter, self.mode.leave)
            )
            hooks.callback(register_module_forward_pre_hook(enter).remove)
            hooks.callback(register_module_forward_hook(leave, always_call=True).remove)
        self.installed.enter_context(self.mode)
        return self

    def stop(self) -> None:
        """Stop counting.

        Raises:
            RuntimeError: if a dispatch mode that was entered later is still on.
        """
        if self.mode in _get_current_dispatch_mode_stack()[:-1]:
            raise RuntimeError("a dispatch mode entered after the FlopCounter is still on; leave that one first")
        self.installed.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, operator: str, num_flops: int) -> None:
        """Count work that no operator shows, in the modules now running."""
        self.mode.add(operator, num_flops)

    def result(self) -> FlopCount:
        """What was counted so far.

        Raises:
            ValueError: if nothing was (the model was compiled, or what it multiplies with has no formula), or counting
                failed.
        """
        if error := self._boundary.failed.get(COUNTING):
            raise ValueError(f"{COUNTING} failed: {error}") from error
        counts = self.mode
        total = counts.by_operator.total()
        if total == 0:
            missed = ", ".join(counts.uncounted) or "none"
            raise ValueError(
                "no FLOPs were counted: no product or convolution with a formula ran (a compiled model hides them). "
                f"Operators that may multiply and have none: {missed}"
            )
        return FlopCount(
            total,
            by_operator=dict(counts.by_operator),
            # A LightningModule's own forward may not be what runs.
            by_module={**counts.by_module, "": total},
            uncounted=dict(counts.uncounted),
            causal_discount=counts.causal_discount,
            failed=tuple(counts.failed),
        )


def compiled_attribute(module: nn.Module) -> str | None:
    """The attribute of a compiled module that holds what is compiled; ``None`` where the module itself is not."""
    if module._compiled_call_impl is not None:  # noqa: SLF001 - by module.compile(), which leaves no other trace
        return "_compiled_call_impl"
    # By torch.compile(module), which returns a module around it, or by torch.compile(module.forward).
    is_compiled = "_orig_mod" in dict(module.named_children()) or hasattr(module.forward, "_torchdynamo_orig_callable")
    return "forward" if is_compiled else None


def can_count_passively(model: nn.Module) -> bool:
    """Whether a :class:`FlopCounter` may be on during this model's own training: nothing in it is compiled or scripted.

    A dispatch mode makes compiled code run eagerly, which changes its rounding. Where this is ``False``, count before
    training with :func:`~intensive_callbacks.footprint.flops.count_flops`, which makes an extra eager forward pass.

    Example:
        >>> can_count_passively(torch.nn.Linear(2, 2))
        True
    """
    return not any(
        isinstance(module, torch.jit.ScriptModule) or compiled_attribute(module) is not None
        for module in model.modules()
    )
