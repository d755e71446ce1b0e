"""The dispatch mode that adds up the FLOPs of every operator that runs."""
# ruff: noqa: SLF001 - what runs, and in whose backward, is known to torch's internals alone

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import HigherOrderOperator
from torch.nested._internal.nested_tensor import NestedTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from intensive_callbacks.footprint.flop_formulas import FORMULAS, causal_discount, is_product_like, real_products

if TYPE_CHECKING:
    from torch import nn

    from intensive_callbacks.boundary import Boundary

COUNTING = "counting the FLOPs"  # how a warning calls this part


class CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it unannotated
    """Adds up the FLOPs of every operator below autograd, in total and for the modules that are running.

    The code that it watches is somebody else's: whatever of ours fails here goes to the boundary, and operators pass
    uncounted from then on.
    """

    supports_higher_order_operators = True

    def __init__(self, names: dict[int, str], boundary: Boundary) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the same
        self.by_operator: Counter[str] = Counter()
        self.by_module: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.failed: dict[str, None] = {}  # a set in order
        self.causal_discount = 0
        self._names, self._boundary = names, boundary
        self._counts = True
        self._running: list[str] = []
        self._made_by: dict[int, tuple[str, ...]] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Keep compiled code compiled while this mode is on (torch 2.9 and later ask)."""
        return True

    def enter(self, module: nn.Module, *_: Any) -> None:
        """Forward pre-hook: mark a module as running."""
        if id(module) in self._names:
            self._running.append(self._names[id(module)])

    def leave(self, module: nn.Module, *_: Any) -> None:
        """Forward hook: the innermost running module has finished; one that ran before counting started is ignored."""
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
            self.failed[name] = None
            self.uncounted[name] += 1
            return
        num_flops, discount = counted
        self.causal_discount += discount
        self.add(name, num_flops)

    def add(self, name: str, num_flops: int) -> None:
        """Add FLOPs to an operator and to the modules that own them."""
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
    num_flops = FORMULAS[_name(func).removesuffix("_")](given, out) * real_products(getattr(out, "dtype", None))
    return num_flops, causal_discount(given, num_flops)


def _cost_by_registry(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> tuple[int, int]:
    """FLOPs of one call by a formula in torch's registry, where users register their own kernels; no discount."""
    return int(flop_registry[getattr(func, "overloadpacket", func)](*args, **kwargs, out_val=out)), 0
