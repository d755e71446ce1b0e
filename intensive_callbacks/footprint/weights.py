"""The weights of a model by their logical shape, also where several are packed into one integer."""

from __future__ import annotations

import re
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

if TYPE_CHECKING:
    from collections.abc import Iterator

    Shape = tuple[int, ...]

# Integers that hold packed weights; of int8 and float8 each element is one weight.
PACKED = {torch.uint8: 8, torch.int16: 16, torch.int32: 32}
LOW_PRECISION = {
    torch.int8,
    *(getattr(torch, name) for name in dir(torch) if name.startswith(("float8_", "float4_"))),
}
WEIGHT_NAMES = ("qweight", "weight_packed", "W_q", "weight")
_SCALES = re.compile(r"scale|qzeros|zero_point|g_idx|weight_shape|tables|zeros$")
_FOUR_BITS = re.compile(r"4bit|fp4|nf4|int4|4_?bit", re.IGNORECASE)
_INPUTS, _OUTPUTS = ("in_features", "infeatures", "num_embeddings"), ("out_features", "outfeatures", "embedding_dim")


class Weights:
    """Every weight of a model once, by the identity of the tensor that holds it.

    Quantized layers keep their weights in parameters, buffers or attributes, two or more in a byte, with scales beside
    them. A weight has the shape that it was quantized from; scales, zero points and indices have bytes but are no
    weights.

    Args:
        model: any module.

    Attributes:
        shapes: the logical shape of each weight.
        sizes: its elements.
        beside: tensors that belong to weights and are neither parameters nor buffers.
        unknown: names of tensors that look packed, of which the number of weights is not known; they count as stored.

    Example:
        >>> Weights(nn.Linear(10, 5)).sizes.values()
        dict_values([50, 5])
    """

    def __init__(self, model: nn.Module) -> None:
        self.shapes: dict[int, Shape] = {}
        self.beside: list[Tensor] = []
        self.unknown: list[str] = []
        self._own: dict[int, set[int]] = {}
        for name, module in model.named_modules():
            read = _Layer(module)
            self._own[id(module)] = {id(tensor) for tensor, _ in read.weights}
            for tensor, shape in read.weights:
                self.shapes.setdefault(id(tensor), shape)
            self.beside += read.beside
            self.unknown += [f"{name}.{each}" if name else each for each in read.unknown]
        self.sizes = {key: prod(shape) for key, shape in self.shapes.items()}

    def of(self, *modules: nn.Module | None) -> set[int]:
        """The weights in modules, their children included."""
        inside = chain.from_iterable(module.modules() for module in modules if module is not None)
        return {key for module in inside for key in self._own.get(id(module), ())}


class _Layer:
    """One module's own weights with their logical shapes, tensors beside them, and names of unknown packed tensors."""

    def __init__(self, module: nn.Module) -> None:
        self.weights: list[tuple[Tensor, Shape]] = []
        self.beside: list[Tensor] = []
        self.unknown: list[str] = []
        parameters = {name: p for name, p in module._parameters.items() if p is not None}  # noqa: SLF001 - faster
        buffers = {name: b for name, b in module._buffers.items() if b is not None}  # noqa: SLF001 - the same
        quantized = [
            tensor for tensor in parameters.values() if tensor.dtype in PACKED or tensor.dtype in LOW_PRECISION
        ]
        stored = {name: b for name, b in buffers.items() if name in WEIGHT_NAMES and _is_integer(b)}
        if quantized or stored:
            bias = {"bias": buffers["bias"]} if "bias" in buffers else {}
            for name, tensor in {**parameters, **stored, **bias}.items():
                self._add(module, name, tensor)
            # HQQ keeps its bias as a plain attribute.
            if isinstance(plain := vars(module).get("bias"), Tensor):
                self.weights.append((plain, tuple(plain.shape)))
                self.beside.append(plain)
            self.beside += _tensors_in(vars(module).get("meta")) + _tensors_in(vars(module).get("state"))
        else:
            self.weights += [(tensor, _shape(tensor)) for tensor in parameters.values()]
        for tensor in _unpacked_by_torch(module):
            self.weights.append((tensor, tuple(tensor.shape)))
            self.beside.append(tensor)

    def _add(self, module: nn.Module, name: str, tensor: Tensor) -> None:
        state = _quant_state(module, name, tensor)
        self.beside += _tensors_in(state) + [value for value in vars(tensor).values() if isinstance(value, Tensor)]
        if _SCALES.search(name):
            self.weights.append((tensor, (0,)))
            return
        shape = _logical_shape(module, name, tensor, state)
        if shape is None:
            self.unknown.append(name)
        self.weights.append((tensor, shape or tuple(tensor.shape)))


def _is_integer(tensor: Tensor) -> bool:
    return tensor.dtype in PACKED or tensor.dtype == torch.int8


def _shape(tensor: Tensor) -> Shape:
    return tuple(tensor.shape) if type(tensor).__name__ != "UninitializedParameter" else (0,)


def _quant_state(module: nn.Module, name: str, tensor: Tensor) -> Any:
    """What bitsandbytes keeps with a packed weight: at the parameter, its module or its parametrization."""
    state = vars(tensor).get("quant_state")
    if state is None and name == "weight":
        state = vars(module).get("quant_state")
    if state is None and isinstance(module, ParametrizationList) and len(module):
        state = vars(module[0]).get("quant_state")
    return state


def _logical_shape(module: nn.Module, name: str, tensor: Tensor, state: Any) -> Shape | None:
    """The shape that a weight was quantized from; ``None`` if it is unknown."""
    if tensor.dtype not in PACKED:
        return tuple(tensor.shape)
    own = vars(module)
    declared = getattr(state, "shape", None)
    if declared is None and isinstance(own.get("meta"), dict):
        declared = own["meta"].get("shape")
    if declared is None and isinstance(shape := getattr(module, "weight_shape", None), Tensor) and not shape.is_meta:
        declared = shape.tolist()
    if declared is not None:
        return tuple(map(int, declared))
    inputs, outputs = (next((own[key] for key in keys if key in own), None) for keys in (_INPUTS, _OUTPUTS))
    if name in WEIGHT_NAMES and isinstance(inputs, int) and isinstance(outputs, int):
        return outputs, inputs
    if name.endswith("_blocks") or _FOUR_BITS.search(type(module).__name__ + type(tensor).__name__):
        return *tensor.shape[:-1], tensor.shape[-1] * PACKED[tensor.dtype] // 4
    return tuple(tensor.shape) if tensor.dim() < 2 else None


def _tensors_in(value: Any) -> list[Tensor]:
    """The tensors in the object or dict that describes a quantized weight, and in what it holds."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        held = value
    elif hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type)):
        held = vars(value)
    else:
        return []
    return [tensor for each in held.values() for tensor in _tensors_in(each)]


def _unpacked_by_torch(module: Any) -> Iterator[Tensor]:
    """Weight and bias that a quantized layer of torch.ao keeps packed, which are no parameters."""

    # Looked up on the class: a property of the module would run code that may raise.
    def packs(each: nn.Module) -> bool:
        return callable(getattr(type(each), "_weight_bias", None))

    if packs(module) and not any(map(packs, module.children())):
        yield from (tensor for tensor in module._weight_bias() if tensor is not None)  # noqa: SLF001 - no other way
