"""Arguments are what the signature says, or an error names the one that is not.

:func:`checked` stands on every public function; every metric's constructor and ``update`` get it from their base class.
It looks at the kind of an argument and never at the elements of a tensor: on a device that would wait for it.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from intensive_callbacks.functional.checks import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

LARGEST_INTEGER = 2**53
"""Up to it, a float holds every integer exactly, so counts may be multiplied in float64."""


def checked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function that refuses arguments which are not what its annotations say.

    NumPy's numbers and tensors without dimensions become Python numbers where the annotation says number.

    Raises:
        TypeError: from the function, with the argument's name, what was expected and what came.

    Example:
        >>> @checked
        ... def double(count: int) -> int:
        ...     return 2 * count
        >>> double(np.int64(3))
        6
        >>> double("3")
        Traceback (most recent call last):
        TypeError: count must be an integer, got str '3'
    """
    checks = [(name, _check_of(each)) for name, each in inspect.signature(function).parameters.items()]
    by_name = dict(checks)

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        positional: Any = [check(name, value) for (name, check), value in zip(checks, args, strict=False)]
        surplus: Any = args[len(checks) :]
        named: Any = {name: by_name.get(name, _anything)(name, value) for name, value in kwargs.items()}
        return function(*positional, *surplus, **named)

    return call


def _check_of(parameter: inspect.Parameter) -> Callable[[str, Any], Any]:
    if parameter.annotation is parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return _anything
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    kind = text.replace("torch.", "").removesuffix(" | None")
    check = _check_of_kind("mask" if parameter.name == "mask" else kind)
    return functools.partial(_optional, check) if text.endswith("| None") else check


def _check_of_kind(kind: str) -> Callable[[str, Any], Any]:
    if kind.startswith("tuple["):
        elements = kind.removeprefix("tuple[").removesuffix("]").split(", ")
        length = None if elements[-1] == "..." else len(elements)
        return functools.partial(_several, _check_of_kind(elements[0]), length)
    if kind.startswith("Literal"):
        return _text
    return _CHECKS.get(kind, _anything)


def _anything(_: str, value: Any) -> Any:
    return value


def _optional(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    return None if value is None else check(name, value)


def _several(check: Callable[[str, Any], Any], length: int | None, name: str, value: Any) -> Any:
    if not isinstance(value, (tuple, list)) or not value or len(value) != (length or len(value)):
        raise _refusal(name, f"a tuple of {length or 'at least one'}", value)
    return tuple(check(name, each) for each in value)


def _tensor(name: str, value: Any) -> Any:
    if isinstance(value, Tensor) and _is_dense(value):
        return value
    raise _refusal(name, "a dense tensor of real numbers", value)


def _mask(name: str, value: Any) -> Any:
    if isinstance(value, Tensor) and _is_dense(value) and not value.is_floating_point():
        return value.to(torch.bool)
    raise _refusal(name, "a tensor of booleans", value)


def _number_or_tensor(name: str, value: Any) -> Any:
    return _tensor(name, value) if isinstance(value, Tensor) else _number(name, value)


def _integer_or_tensor(name: str, value: Any) -> Any:
    return _tensor(name, value) if isinstance(value, Tensor) else _integer(name, value)


def _number(name: str, value: Any) -> Any:
    number = _as_python(value)
    if isinstance(number, int) and abs(number) > LARGEST:
        raise ValueError(f"{name} must be a finite number that a float can hold, got {str(number)[:20]}...")
    if isinstance(number, (int, float)):
        return number
    raise _refusal(name, "a real number", value)


def _integer(name: str, value: Any) -> Any:
    number = _as_python(value)
    if isinstance(number, bool) or (isinstance(number, float) and number.is_integer()):
        number = int(number)
    if not isinstance(number, int):
        raise _refusal(name, "an integer", value)
    if abs(number) > LARGEST_INTEGER:
        raise ValueError(f"{name} must be an integer of at most 2**53, got {str(number)[:20]}...")
    return number


def _flag(name: str, value: Any) -> Any:
    number = _as_python(value)
    if isinstance(number, int) and number in (0, 1):
        return bool(number)
    raise _refusal(name, "True or False", value)


def _text(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    raise _refusal(name, "a string", value)


_CHECKS = {
    "Tensor": _tensor,
    "mask": _mask,
    "float | Tensor": _number_or_tensor,
    "int | Tensor": _integer_or_tensor,
    "float": _number,
    "int": _integer,
    "bool": _flag,
    "str": _text,
    "Correction": _text,
    "Divergence": _text,
}


def _is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_nested and not value.is_complex()


def _as_python(value: Any) -> Any:
    """A Python number of NumPy's, or of a tensor without dimensions."""
    if isinstance(value, (np.number, np.bool_)) or (isinstance(value, Tensor) and _is_dense(value) and not value.dim()):
        return value.item()
    return value


def _refusal(name: str, expected: str, value: Any) -> TypeError:
    return TypeError(f"{name} must be {expected}, got {_described(value)}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        form = "nested" if value.is_nested else f"{str(value.layout).removeprefix('torch.')} {list(value.shape)}"
        return f"a tensor of {value.dtype}, {form}"
    return "None" if value is None else f"{type(value).__name__} {repr(value)[:40]}"
