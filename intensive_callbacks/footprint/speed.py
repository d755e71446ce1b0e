"""What training takes in time and energy, less what runs in between."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from intensive_callbacks.footprint.energy import EnergyMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["Pace"]


class Pace:
    """Seconds of wall-clock time, and joules of the GPUs a model lies on, that pass while it is on.

    Nothing is synchronised: over many steps the host cannot run far ahead of its device, so read it once in many.

    Args:
        model: whose GPUs are metered, by :class:`~intensive_callbacks.footprint.energy.EnergyMeter`.
        clock: seconds, monotonic.

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

    def __init__(self, model: nn.Module, clock: Callable[[], float] = time.perf_counter) -> None:
        devices = {parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"}
        self._clock, self._meter = clock, EnergyMeter(sorted(devices))
        self._seconds, self._joules = 0.0, 0.0
        self.resume()

    def pause(self) -> None:
        """What passes from here on does not count."""
        self._seconds += self._clock() - self._since
        self._meter.stop()
        self._joules += math.nan if self._meter.joules is None else self._meter.joules

    def resume(self) -> None:
        """Count again."""
        self._since = self._clock()
        self._meter.start()

    def read(self) -> tuple[float, float]:
        """Seconds and joules since the last reading, pauses left out; joules are NaN where there is no meter."""
        self.pause()
        self.resume()
        seconds, joules = self._seconds, self._joules
        self._seconds, self._joules = 0.0, 0.0
        return seconds, joules
