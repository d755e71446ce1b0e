"""FLOPs of one forward pass: counted by operator as it runs, and checked against fvcore's trace of it."""

from __future__ import annotations

import dataclasses
import warnings
from math import isqrt, prod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from intensive_callbacks.boundary import Boundary, warn
from intensive_callbacks.footprint.analytic import experts_by_formula
from intensive_callbacks.footprint.flop_counter import FlopCount, FlopCounter, can_count_passively
from intensive_callbacks.footprint.flop_formulas import FORMULAS, real_products
from intensive_callbacks.footprint.preserve import on_the_side

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    Handle = Callable[[list[Any], list[Any]], int]

__all__ = ["FlopCount", "FlopCounter", "can_count_passively", "count_flops"]

TOLERANCE = 0.01


def count_flops(model: nn.Module, *args: Any, **kwargs: Any) -> FlopCount:
    """FLOPs of one forward pass of this batch, 1 MAC = 2 FLOPs, products and convolutions only.

    Runs the model in eval mode without gradients, uncompiled, and then traces it a second time with fvcore; where the
    two differ by more than 1 %, a warning names the operators. Code that runs other operators when it is traced is no
    such difference: the trace is then ignored. Parameters, buffers, random states, modes and hooks are as before; the
    model's own forward hooks do fire, at least twice, so detach observers first.

    Args:
        model: any module. On the meta device nothing is computed.
        args: its inputs.
        kwargs: its inputs by keyword.

    Returns:
        The count of the whole batch: divide by its tokens or examples.

    Raises:
        ValueError: if the count is zero.

    Example:
        >>> count_flops(torch.nn.Linear(10, 5), torch.ones(4, 10)).total
        400
    """
    return flops_of_batch(model, args, kwargs)


def flops_of_batch(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    num_experts_per_token: float | Mapping[str, float] | None = None,
) -> FlopCount:
    """As :func:`count_flops`, with the number of experts per token that meta tensors cannot show.

    Args:
        model: as there.
        args: as there.
        kwargs: as there.
        num_experts_per_token: as :func:`~intensive_callbacks.footprint.parameters.count_parameters` takes it; used
            where the experts cannot run.
    """
    model = getattr(model, "_orig_mod", model)
    count = _run(model, args, kwargs, num_experts_per_token)
    if count.uncounted:
        warn(
            f"FLOPs of these operators are not known and not in the count: {', '.join(count.uncounted)}; give them a "
            "formula with torch.utils.flop_counter.register_flop_formula",
            UserWarning,
        )
    traceable = _Positional(model, args, kwargs)
    macs = _trace(traceable)
    if macs is None:
        return count
    traced = int(2 * macs.total())
    if abs(traced - count.total) > TOLERANCE * count.total:
        if _num_flops_while_traced(traceable) != count.total:
            return count  # the model asks whether it is traced, and then runs other code
        warn(
            f"two ways of counting FLOPs disagree: {count.total} as the operators ran, {count.by_operator}; "
            f"{traced} by fvcore's trace, in MACs {dict(macs)}; the first is returned, so check these operators",
            UserWarning,
        )
    return dataclasses.replace(count, traced=traced)


def _run(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    num_experts_per_token: float | Mapping[str, float] | None,
) -> FlopCount:
    """Count one forward pass; experts that cannot run on the meta device are counted by formula."""
    try:
        with on_the_side(model), FlopCounter(model) as counter:
            model(*args, **kwargs)
    except (RuntimeError, NotImplementedError):
        if not any(parameter.is_meta for parameter in model.parameters()):
            raise
        with (
            on_the_side(model),
            FlopCounter(model) as counter,
            experts_by_formula(model, counter, num_experts_per_token),
        ):
            model(*args, **kwargs)
    return counter.result()


class _Positional(nn.Module):
    """Wraps a model for fvcore's tracing: positional tensors in, a tuple of tensors out."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._leaves, self._structure = tree_flatten((args, kwargs))
        self.tensors = tuple(leaf for leaf in self._leaves if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        args, kwargs = tree_unflatten(leaves, self._structure)
        return tuple(leaf for leaf in tree_leaves(self.model(*args, **kwargs)) if isinstance(leaf, Tensor))


def _trace(model: _Positional) -> Counter[str] | None:
    """MACs by operator of the graph that fvcore traces; ``None`` where the model cannot be traced."""
    with warnings.catch_warnings(), on_the_side(model):
        warnings.simplefilter("ignore")  # fvcore and the tracer warn about their own limits
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, model.tensors)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.clear_op_handles().set_op_handle(**{name: _of_any_type(each) for name, each in _handles().items()})
        # Tracing runs the user's code on tracer tensors, which may fail in any way; the warning is ignored as well.
        return Boundary().call("tracing with fvcore", analysis.by_operator)


def _num_flops_while_traced(model: _Positional) -> int:
    """FLOPs of the operators that run while the model is traced."""
    with FlopCounter() as counter:
        _trace(model)
    return counter.mode.by_operator.total()


def _handles() -> dict[str, Handle]:
    """Handles of fvcore for products and convolutions, and our own for operators that it lacks."""
    from fvcore.nn import jit_handles

    ours = {name: _handle(name) for name in FORMULAS}
    recurrent: dict[str, Handle] = {}
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        recurrent |= {f"aten::{name}": _recurrent_macs, f"aten::{name}_cell": _cell_macs}
    return {
        **ours,
        **recurrent,
        "aten::tensordot": _tensordot_macs,
        "aten::inner": _tensordot_macs,
        "aten::addmm": jit_handles.addmm_flop_jit,
        "aten::mm": jit_handles.matmul_flop_jit,
        "aten::matmul": jit_handles.matmul_flop_jit,
        "aten::bmm": jit_handles.bmm_flop_jit,
        "aten::linear": jit_handles.linear_flop_jit,
        "aten::einsum": jit_handles.einsum_flop_jit,
        "aten::_convolution": jit_handles.conv_flop_jit,
    }


def _of_any_type(handle: Handle) -> Handle:
    """A handle that counts the real products of complex ones."""

    def macs(inputs: list[Any], outputs: list[Any]) -> Any:
        times = real_products(outputs[0].type().dtype()) if outputs[0].isCompleteTensor() else 1
        return handle(inputs, outputs) * times if times > 1 else handle(inputs, outputs)

    return macs


def _handle(name: str) -> Handle:
    namespace, _, operator = name.partition("::")

    def macs(inputs: list[Any], outputs: list[Any]) -> int:
        packet = getattr(getattr(torch.ops, namespace), operator)
        schema = getattr(packet, packet.overloads()[0])._schema  # noqa: SLF001 - names of arguments stand nowhere else
        names = [argument.name for argument in schema.arguments]
        given = dict(zip(names, map(_stand_in, inputs), strict=False))
        return FORMULAS[name](given, _stand_in(outputs[0])) // 2

    return macs


def _stand_in(value: Any) -> Any:
    """A value of the traced graph as the formulas take it: a shape for a tensor, a list, or a constant."""
    if value.isCompleteTensor():
        return SimpleNamespace(shape=tuple(value.type().sizes()))
    if value.node().kind() == "prim::ListConstruct":
        return [_stand_in(item) for item in value.node().inputs()]
    return value.toIValue()


def _recurrent_macs(inputs: list[Any], _: list[Any]) -> int:
    """Every step is multiplied by every weight matrix in the layer's list; its states have three dimensions."""
    steps, *others = map(_stand_in, inputs)
    listed = [item for other in others if isinstance(other, list) for item in other]
    return int(prod(steps.shape[:-1]) * sum(prod(item.shape) for item in listed if len(item.shape) == 2))


def _cell_macs(inputs: list[Any], _: list[Any]) -> int:
    """The two weight matrices follow the input and its state."""
    steps, _state, *weights = map(_stand_in, inputs)
    return int(steps.shape[0] * sum(prod(weight.shape) for weight in weights[:2]))


def _tensordot_macs(inputs: list[Any], outputs: list[Any]) -> int:
    first, second, out = (prod(_stand_in(value).shape) for value in (*inputs[:2], outputs[0]))
    return isqrt(first * second * out)
