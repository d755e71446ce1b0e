"""Time and energy of training, without pauses."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from intensive_callbacks.boundary import Boundary
from intensive_callbacks.footprint.energy import READING, EnergyMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["Pace"]


class Pace:
    """Measures wall-clock seconds and the joules of a model's GPUs while it is on.

    Nothing is synchronized: over many steps the host cannot run far ahead of its device, so read it once in many.

    Args:
        model: whose GPUs are metered, by :class:`~intensive_callbacks.footprint.energy.EnergyMeter`.
        clock: seconds, monotonic.
        boundary: where it is reported that GPUs have no energy counter, or that it fails: joules are NaN then; by
            default one of its own, which warns.

    Example:
        >>> from torch import nn
        >>> clock = iter([0.0, 2.0, 10.0, 13.0, 13.0])
        >>> pace = Pace(nn.Linear(2, 2), clock=lambda: next(clock))
        >>> pace.pause()  # a validation, say
        >>> pace.resume()
        >>> seconds, joules = pace.read()
        >>> seconds
        5.0
    """

    def __init__(
        self,
        model: nn.Module,
        clock: Callable[[], float] = time.perf_counter,
        boundary: Boundary | None = None,
    ) -> None:
        self._clock, self._boundary = clock, boundary or Boundary()
        self._meter = self._boundary.call(READING, _meter_of, model)
        if self._meter is not None and self._meter.missing:
            self._boundary.warn(READING, f"the energy of training is not measured: {self._meter.missing}")
        self.reset()

    def reset(self) -> None:
        """Reset both sums and start measuring."""
        self._seconds, self._joules = 0.0, 0.0
        self.resume()

    def pause(self) -> None:
        """Stop measuring until :meth:`resume`."""
        self._seconds += self._clock() - self._since
        self._joules += self._joules_since()

    def resume(self) -> None:
        """Resume measuring."""
        self._since = self._clock()
        if self._meter is not None:
            self._boundary.call(READING, self._meter.start, off=self._drop_meter)

    def read(self) -> tuple[float, float]:
        """Seconds and joules since the last reading, without pauses; joules are NaN where there is no meter."""
        self.pause()
        read = self._seconds, self._joules
        self.reset()
        return read

    def _joules_since(self) -> float:
        if self._meter is None:
            return math.nan
        self._boundary.call(READING, self._meter.stop, off=self._drop_meter)
        return math.nan if self._meter is None or self._meter.joules is None else self._meter.joules

    def _drop_meter(self) -> None:
        self._meter = None


def _meter_of(model: nn.Module) -> EnergyMeter:
    return EnergyMeter(_devices_of(model))


def _devices_of(model: nn.Module) -> list[int]:
    return sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
