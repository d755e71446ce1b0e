"""Several sinks as one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.sinks.base import Sink


class SinkGroup:
    """Calls a method of every sink; where it fails, it is one warning, and that sink's method is not called again.

    A server that does not answer would otherwise delay every logging step.

    Args:
        sinks: where values, tables and charts go.
        boundary: what an exception is reported to.
    """

    def __init__(self, sinks: Iterable[Sink], boundary: Boundary) -> None:
        self.sinks = list(sinks)
        self._boundary = boundary
        self._failed: set[tuple[int, str]] = set()

    def call(self, method: str, *arguments: Any, **settings: Any) -> None:
        """Call ``method`` of every sink; a chart's preview fails apart from the final chart."""
        call = "a preview" if settings.get("final") is False else method
        for place, sink in enumerate(self.sinks):
            if (place, call) not in self._failed:
                off = functools.partial(self._failed.add, (place, call))
                self._boundary.call(f"{sink.name}, {call}", getattr(sink, method), *arguments, off=off, **settings)
