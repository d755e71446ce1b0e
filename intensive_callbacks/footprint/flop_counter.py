"""Count FLOPs while operators run, without running anything twice."""
# ruff: noqa: SLF001 - what runs, and in whose backward, is known to torch's internals alone

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.nested._internal.nested_tensor import NestedTensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.flop_counter import flop_registry

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.footprint.flop_formulas import FORMULAS, causal_discount, is_product_like

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["FlopCount", "FlopCounter", "can_count_passively"]

COUNTING = "counting the FLOPs"  # how a warning calls this part


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
        self.mode = _CountingMode(self._names, self._boundary)
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
        )


class _CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it unannotated
    """Sees every operator below autograd, knows which modules are running, and adds up.

    The code that it watches is somebody else's: whatever of ours fails here goes to the boundary, and operators pass
    uncounted from then on.
    """

    supports_higher_order_operators = True

    def __init__(self, names: dict[int, str], boundary: Boundary) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.by_operator: Counter[str] = Counter()
        self.by_module: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.causal_discount = 0
        self._names, self._boundary = names, boundary
        self._counts = True
        self._running: list[str] = []
        self._made_by: dict[int, tuple[str, ...]] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """What somebody compiled stays compiled while this mode is on (torch 2.9 and later ask)."""
        return True

    def enter(self, module: nn.Module, *_: Any) -> None:
        """Forward pre-hook: a module begins to run."""
        if id(module) in self._names:
            self._running.append(self._names[id(module)])

    def leave(self, module: nn.Module, *_: Any) -> None:
        """Forward hook: the innermost module is done, unless it was already running when counting started."""
        if self._running and id(module) in self._names:
            self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, NestedTensor) for kind in types):
            return NotImplemented  # a jagged tensor runs operators on its dense values, and these are counted
        if self._counts and self._boundary.call(COUNTING, self._is_composite, func, args, off=self.stop_counting):
            # Under inference_mode composite operators arrive whole: take them apart, as autograd would have.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if self._counts:
            self._boundary.call(COUNTING, self._count, func, args, kwargs, out, off=self.stop_counting)
        return out

    def stop_counting(self) -> None:
        """Let operators pass uncounted; the mode itself cannot be left while it runs one."""
        self._counts = False

    def _is_composite(self, func: Any, args: Any) -> bool:
        """Whether an operator without a formula may be made of others; of nested tensors it has its own kernel."""
        return (
            _name(func) not in FORMULAS
            and not isinstance(func, HigherOrderOperator)
            and not any(getattr(argument, "is_nested", False) for argument in args)
        )

    def _count(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        name = _name(func)
        packet = getattr(func, "overloadpacket", func)
        if name.removesuffix("_") in FORMULAS:
            cost = _cost_by_formula
        elif packet in flop_registry:
            cost = _cost_by_registry
        elif is_product_like(name):
            self.uncounted[name] += 1
            return
        else:
            return
        # A formula that fails, on tensors of a kind that it does not know, is as good as none.
        counted = self._boundary.call(f"{COUNTING} of {name}", cost, func, args, kwargs, out)
        if counted is None:
            self.uncounted[name] += 1
            return
        num_flops, discount = counted
        self.causal_discount += discount
        self.add(name, num_flops)

    def add(self, name: str, num_flops: int) -> None:
        self.by_operator[name] += num_flops
        for module in self._owners():
            self.by_module[module] += num_flops

    def _owners(self) -> tuple[str, ...]:
        """The running modules; in backward, those that were running when the current node was made."""
        node = torch._C._current_autograd_node()
        if node is not None and not self._running:
            return self._made_by.get(node._sequence_nr(), ())
        owners = tuple(dict.fromkeys(self._running))
        self._made_by[torch._C._autograd._get_sequence_nr() - 1] = owners
        return owners


def _name(func: Any) -> str:
    """An operator's qualified name, without its overload."""
    return str(func.name()).partition(".")[0]


def _cost_by_formula(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> tuple[int, int]:
    """FLOPs of one call, and those of them that a causal kernel may skip."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    num_flops = FORMULAS[_name(func).removesuffix("_")](given, out)
    return num_flops, causal_discount(given, num_flops)


def _cost_by_registry(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> tuple[int, int]:
    """The same by a formula of torch's registry, to which users add their own kernels."""
    return int(flop_registry[getattr(func, "overloadpacket", func)](*args, **kwargs, out_val=out)), 0


def compiled_attribute(module: nn.Module) -> str | None:
    """The attribute of a compiled module that holds what is compiled; ``None`` where the module itself is not."""
    if module._compiled_call_impl is not None:  # by module.compile()
        return "_compiled_call_impl"
    # By torch.compile(module), which returns a module around it, or by torch.compile(module.forward).
    is_compiled = "_orig_mod" in module._modules or hasattr(module.forward, "_torchdynamo_orig_callable")
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
