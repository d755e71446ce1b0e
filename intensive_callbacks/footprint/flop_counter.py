"""Counting FLOPs as operators pass by, without running anything again."""
# ruff: noqa: SLF001 - what runs, and in whose backward, is known to torch's internals alone

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils.flop_counter import flop_registry

from intensive_callbacks.footprint.flop_formulas import FORMULAS, causal_discount, is_product_like

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from torch.utils.hooks import RemovableHandle

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
        causal_discount: the part of the total that attention kernels told ``is_causal`` may skip.
        traced: the total by the second mechanism, fvcore's trace; ``None`` where it was not asked or cannot trace.
    """

    total: int
    by_operator: dict[str, int]
    by_module: dict[str, int]
    uncounted: dict[str, int] = field(default_factory=dict)
    causal_discount: int = 0
    traced: int | None = None


class FlopCounter:
    """Counts the FLOPs of whatever runs while it is on, forward and backward, and changes nothing.

    Only for eager code: a dispatch mode switches compilation off (see :func:`can_count_passively`). It may be started
    in one function and stopped in another; stopping twice is harmless. The backward of fused attention forms the scores
    again, as the kernels do, and so counts 2.5 forwards; recomputed activations count when they are recomputed.

    Args:
        model: gives the names in ``by_module``; without one no module is hooked, and only the sum is there.

    Example:
        >>> model = torch.nn.Linear(10, 5)
        >>> with FlopCounter(model) as counter:
        ...     loss = model(torch.ones(4, 10)).sum()
        >>> counter.result().total
        400
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self._names = {id(module): name for name, module in model.named_modules()} if model is not None else {}
        self._mode = _CountingMode(self._names)
        self._on = False
        self._handles: list[RemovableHandle] = []

    def start(self) -> Self:
        """Begin to count, or go on."""
        if self._names:
            # Hooks on the modules themselves would keep nn.MultiheadAttention from its fast path.
            self._handles = [
                register_module_forward_pre_hook(self._mode.enter),
                register_module_forward_hook(self._mode.leave, always_call=True),
            ]
        self._on = True
        self._mode.__enter__()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        return self

    def stop(self) -> None:
        """Cease to count.

        Raises:
            RuntimeError: if a dispatch mode that was entered later is still on.
        """
        if not self._on:
            return
        if _get_current_dispatch_mode() is not self._mode:
            raise RuntimeError("a dispatch mode entered after the FlopCounter is still on; leave that one first")
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call] # the same
        self._on = False
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, operator: str, num_flops: int) -> None:
        """Count work that no operator shows, in the modules now running."""
        self._mode.add(operator, num_flops)

    def result(self) -> FlopCount:
        """What was counted so far.

        Raises:
            ValueError: if nothing was: the model was compiled, or what it multiplies with has no formula.
        """
        counts = self._mode
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
        )


class _CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call] # the same
    """Sees every operator below autograd, knows which modules are running, and adds up."""

    supports_higher_order_operators = True

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.by_operator: Counter[str] = Counter()
        self.by_module: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.causal_discount = 0
        self._names = names
        self._running: list[str] = []
        self._made_by: dict[int, tuple[str, ...]] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """What somebody compiled stays compiled while this mode is on (torch 2.9 and later ask)."""
        return True

    def enter(self, module: nn.Module, *_: Any) -> None:
        """A hook that says that a module begins to run."""
        if id(module) in self._names:
            self._running.append(self._names[id(module)])

    def leave(self, module: nn.Module, *_: Any) -> None:
        """A hook that says that the innermost module is done."""
        if id(module) in self._names:
            self._running.pop()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().partition(".")[0]
        if name not in FORMULAS and not isinstance(func, HigherOrderOperator):
            # Under inference_mode composite operators arrive whole: take them apart, as autograd would have.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self._count(name, func, args, kwargs, out)
        return out

    def _count(self, name: str, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        formula = FORMULAS.get(name.removesuffix("_"))
        packet = getattr(func, "overloadpacket", func)
        if formula is not None:
            given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
            num_flops = formula(given, out)
            self.causal_discount += causal_discount(given, num_flops)
        elif packet in flop_registry:
            num_flops = flop_registry[packet](*args, **kwargs, out_val=out)
        else:
            if is_product_like(name):
                self.uncounted[name] += 1
            return
        self.add(name, num_flops)

    def add(self, name: str, num_flops: int) -> None:
        self.by_operator[name] += num_flops
        for module in self._owners():
            self.by_module[module] += num_flops

    def _owners(self) -> tuple[str, ...]:
        """The modules at work; in backward, those at work when the node being undone was made."""
        node = torch._C._current_autograd_node()
        if node is not None and not self._running:
            return self._made_by.get(node._sequence_nr(), ())
        owners = tuple(dict.fromkeys(self._running))
        self._made_by[torch._C._autograd._get_sequence_nr() - 1] = owners
        return owners


def compiled_attribute(module: nn.Module) -> str | None:
    """The attribute of a compiled module that holds what is compiled; ``None`` where the module itself is not."""
    if module._compiled_call_impl is not None:  # by module.compile()
        return "_compiled_call_impl"
    # By torch.compile(module), which returns a module around it, or by torch.compile(module.forward).
    is_compiled = hasattr(module, "_orig_mod") or hasattr(module.forward, "_torchdynamo_orig_callable")
    return "forward" if is_compiled else None


def can_count_passively(model: nn.Module) -> bool:
    """Whether a :class:`FlopCounter` may watch this model's own training: nothing in it is compiled or scripted.

    A dispatch mode makes compiled code run eagerly, which changes its rounding. Where this is ``False``, count before
    training with :func:`~intensive_callbacks.footprint.flops.count_flops`, which runs the model eagerly on the side.

    Example:
        >>> can_count_passively(torch.nn.Linear(2, 2))
        True
    """
    return not any(
        isinstance(module, torch.jit.ScriptModule) or compiled_attribute(module) is not None
        for module in model.modules()
    )
