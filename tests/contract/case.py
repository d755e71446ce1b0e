"""What the contract suite needs to know of a metric: one Case each, in a module of tests/contract/cases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torchmetrics import Metric


@dataclass(frozen=True)
class Case:
    """A metric with data whose value is known by hand.

    Attributes:
        build: makes a fresh metric.
        updates: keyword arguments of successive updates.
        expected: the value after them, by hand, to ``tolerance`` (relative, of the digits given).
        whole: one update that says the same as all of ``updates``.
        function: the pure function, with what ``build`` fixes already in it.
        arguments: its tensor arguments for the same data.
        empty: an update that brings no data, if there can be one.
        undefined: updates after which the value must be NaN.
        bounds: the least and greatest possible value.
        ordered: whether the order of updates matters.
    """

    build: Callable[[], Metric]
    updates: list[dict[str, Any]]
    expected: Any
    whole: dict[str, Any]
    function: Callable[..., Tensor]
    arguments: dict[str, Tensor]
    empty: dict[str, Any] | None = None
    undefined: list[list[dict[str, Any]]] = field(default_factory=list)
    bounds: tuple[float, float] = (-math.inf, math.inf)
    tolerance: float = 1e-4
    ordered: bool = False

    @property
    def name(self) -> str:
        return type(self.build()).__name__
