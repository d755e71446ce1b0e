"""How fast a model works: tokens, or examples, per second of wall-clock time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Throughput"]


class Throughput:
    """Tokens or examples per second since the last reading.

    Nothing is synchronised: over many steps the host cannot run far ahead of its device, so read it once in many.

    Args:
        clock: seconds, monotonic.

    Example:
        >>> seconds = iter([0.0, 2.0])
        >>> throughput = Throughput(clock=lambda: next(seconds))
        >>> throughput.add(512), throughput.add(512)
        (None, None)
        >>> throughput.read()
        512.0
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._count = 0
        self._since = clock()

    def add(self, count: int) -> None:
        """Count tokens or examples that were processed."""
        self._count += count

    def read(self) -> float:
        """Their number per second since the last reading, or since the beginning; NaN where no time has passed."""
        now = self._clock()
        seconds, count = now - self._since, self._count
        self._since, self._count = now, 0
        return count / seconds if seconds > 0 else float("nan")
