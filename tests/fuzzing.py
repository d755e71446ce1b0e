"""Random calls of the public functions and metrics, and what may come of them.

A call begins as one that a contract case, or the signature, says is right; then some of its arguments become something
else. What may come of it: values within the case's bounds, NaN, or a ValueError or TypeError that names an argument.
"""

from __future__ import annotations

import inspect
import math
import signal
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from contract.cases import CASES
from intensive_callbacks import functional, metrics

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

SECONDS = 5
SIZES = (0, 1, 2, 3, 5, 8)
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
NUMBERS = (0, 1, -1, 2, 3, 0.0, 0.5, 1.0, -0.5, 1e-300, 1e300, -1e300, 2**31, 2**63, -(2**63), 10**400)
NUMBERS += (math.nan, math.inf, -math.inf, True, 1j, np.float32(0.5), np.int64(3))
THINGS = (None, "", "a", "nan", [], [0.5], [1, 2], (), (1,), {}, {"a": 1}, object, np.ones(3), [[1.0], [1.0, 2.0]])
OPTIONS = {  # arguments that are neither tensors nor numbers
    "correction": ("none", "miller_madow", "adjusted"),
    "divergence": ("kl", "js", "nss"),
    "order": ("inverse", "direct"),
    "names": (("first", "second"),),
    "estimator": ("predictive", "usable", "gaussian", "ksg"),
    "num_features": ((2, 3),),
    "sizes": ((2, 2), (2, 2, 2)),
}


@dataclass(frozen=True)
class Target:
    """What is called: its name, arguments that are right, the names a message may use, and the value's bounds."""

    name: str
    call: Callable[[dict[str, Any]], Any]
    arguments: Callable[[random.Random], dict[str, Any]]
    words: frozenset[str]
    bounds: tuple[float, float] = (-math.inf, math.inf)


@dataclass
class Counts:
    """How often each outcome came, and one example of each that may not."""

    outcomes: dict[str, int] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, target: Target, outcome: str, detail: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome not in ALLOWED:
            self.failures.setdefault((target.name, f"{outcome}: {detail.partition(' <- ')[0][:60]}"), detail)


ALLOWED = ("value", "NaN", "refused")


def targets() -> list[Target]:
    """Every public function and constructor by its signature, and the function and metric of each contract case."""
    found = [_of_signature(name) for name in sorted(vars(functional)) if _is_function(name)]
    found += [_of_constructor(name) for name in sorted(vars(metrics)) if isinstance(getattr(metrics, name), type)]
    for number, case in enumerate(CASES):
        found.append(_of_function(case, number))
        found.append(_of_metric(case, number))
    return found


def _is_function(name: str) -> bool:
    # Models, families and callables are made by their own tests.
    function = getattr(functional, name)
    return inspect.isfunction(function) and name not in ("empirical_ntk", "size_exponent") and name[0] != "_"


def _of_function(case: Any, number: int) -> Target:
    function = case.function
    inner = function.func if isinstance(function, partial) else function
    name = f"{getattr(inner, '__name__', 'function')}#{number}"
    # A case may give an argument another name than the function has.
    words = frozenset(inspect.signature(inner).parameters) | {"logits"}
    return Target(name, lambda given: function(**given), lambda _: dict(case.arguments), words, case.bounds)


def _of_metric(case: Any, number: int) -> Target:
    def call(given: dict[str, Any]) -> Any:
        metric = case.build()
        metric.update(**given)
        return metric.compute()

    words = frozenset(inspect.signature(type(case.build()).update).parameters)
    return Target(
        f"{case.name}#{number}", call, lambda rng: dict(rng.choice([*case.updates, case.whole])), words, case.bounds
    )


def _of_constructor(name: str) -> Target:
    metric = getattr(metrics, name)

    def call(given: dict[str, Any]) -> None:
        metric(**given)

    return _of_parameters(f"{name}()", call, metric)


def _of_signature(name: str) -> Target:
    function = getattr(functional, name)
    return _of_parameters(name, lambda given: function(**given), function)


def _of_parameters(name: str, call: Callable[[dict[str, Any]], Any], signed: Callable[..., Any]) -> Target:
    parameters = {n: p for n, p in inspect.signature(signed).parameters.items() if p.kind is not p.VAR_KEYWORD}

    def arguments(rng: random.Random) -> dict[str, Any]:
        shape = [rng.choice(SIZES[1:]) for _ in range(rng.choice((1, 2, 2, 3)))]
        needed = {n: p for n, p in parameters.items() if p.default is p.empty or rng.random() < 0.3}
        return {n: _plausible(rng, n, _annotation(p), shape) for n, p in needed.items()}

    return Target(name, call, arguments, frozenset(parameters))


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _plausible(rng: random.Random, name: str, annotation: str, shape: list[int]) -> Any:
    if name in OPTIONS:
        return rng.choice(OPTIONS[name])
    if "Tensor" in annotation and ("float" not in annotation or rng.random() < 0.5):
        if any(word in name for word in ("ids", "labels", "codes", "counts", "target", "source", "pairs")):
            return torch.randint(0, 4, shape, generator=_generator(rng))
        tensor = torch.rand(shape, generator=_generator(rng), dtype=torch.float64)
        return tensor > 0.5 if name in ("mask", "sparse_correct", "dense_correct") else tensor
    if annotation == "bool":
        return rng.random() < 0.5
    if "int" in annotation.replace("Tensor", ""):
        return rng.choice((1, 2, 3, 4, 8))
    return (
        rng.choice((0.1, 0.5, 0.9))
        if any(w in name for w in ("accuracy", "baseline", "confidence"))
        else rng.uniform(0.5, 9)
    )


def _generator(rng: random.Random) -> torch.Generator:
    return torch.Generator().manual_seed(rng.getrandbits(32))


def odd_tensor(rng: random.Random) -> Any:
    """A tensor of any shape, type and content."""
    shape = [rng.choice(SIZES) for _ in range(rng.randrange(5))]
    kind = rng.randrange(8)
    dtype = rng.choice(DTYPES)
    tensor = (torch.randn(shape, generator=_generator(rng)) * rng.choice((1, 3, 1e30))).to(dtype)
    if kind == 0 and tensor.numel() and tensor.is_floating_point():
        tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice((math.nan, math.inf, -math.inf))
    if kind == 1:
        return tensor.float().requires_grad_()
    if kind == 2:
        return torch.complex(tensor.float(), tensor.float())
    if kind == 3 and rng.random() < 0.3:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nested tensors are a prototype
            return torch.nested.nested_tensor([torch.rand(2, 3), torch.rand(1, 3)])
    if kind == 4 and rng.random() < 0.3:
        return tensor.float().to_sparse() if tensor.dim() else tensor
    return tensor


def changed(rng: random.Random, value: Any) -> Any:
    """Something else in place of an argument: related to it as often as not."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(THINGS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2 or not isinstance(value, torch.Tensor):
        return odd_tensor(rng) if rng.random() < 0.5 else rng.choice(NUMBERS)
    if kind == 3:
        return value.to(rng.choice((*DTYPES, torch.complex64)))
    if kind == 4 and value.is_floating_point():
        return value * rng.choice((0, -1, 1e30, math.nan, math.inf, -math.inf))
    return value[..., :-1] if value.dim() and rng.random() < 0.5 else value[None]


def draw(rng: random.Random, target: Target) -> dict[str, Any]:
    """A call's arguments, of which one or several are not what they should be."""
    given = target.arguments(rng)
    for name in rng.sample(sorted(given), min(len(given), rng.choice((0, 1, 1, 1, 2, 3)))):
        given[name] = changed(rng, given[name])
    return given


def outcome(target: Target, given: dict[str, Any]) -> tuple[str, str]:
    """What comes of the call, and the reason where it is none of :data:`ALLOWED`."""
    try:
        with _in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = target.call(given)
    except TimeoutError:
        return "hang", described(given)
    except (ValueError, TypeError) as error:
        named = any(word in str(error) for word in target.words)
        return (
            ("refused", "")
            if named
            else ("names no argument", f"{type(error).__name__}: {error} <- {described(given)}")
        )
    except Exception as error:  # noqa: BLE001 - that is the question
        return "other error", f"{type(error).__name__}: {error} <- {described(given)}"
    return _judged(value, target.bounds, given)


def _judged(value: Any, bounds: tuple[float, float], given: dict[str, Any]) -> tuple[str, str]:
    if _is_strange(value):
        return "neither value nor NaN", described(given)
    values = list(_numbers(value))
    if any(isinstance(number, int) and abs(number) > 2**63 for number in values):
        return "out of bounds", described(given)
    if any(isinstance(number, complex) for number in values):
        return "complex", described(given)
    if any(math.isnan(number) for number in values):
        return "NaN", ""
    low, high = bounds
    slack = 1e-3 * max(abs(low), abs(high), 1) if math.isfinite(low) or math.isfinite(high) else 0
    if any(not low - slack <= number <= high + slack for number in values):
        return (
            "out of bounds",
            f"{[n for n in values if not low - slack <= n <= high + slack][:3]} <- {described(given)}",
        )
    return "value", ""


def _is_strange(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_is_strange, value))
    return isinstance(value, torch.Tensor) and (value.is_nested or value.layout != torch.strided)


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield from value.detach().flatten().tolist()
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, (int, float, complex)):
        yield value


def described(given: dict[str, Any]) -> str:
    """The arguments, short."""
    return ", ".join(f"{name}={_short(value)}" for name, value in given.items())


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        content = "" if value.is_nested or value.numel() > 6 or value.is_sparse else f" {value.tolist()}"
        return f"<{str(value.dtype)[6:]} {'nested' if value.is_nested else list(value.shape)}{content}>"
    return repr(value)[:40]


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
