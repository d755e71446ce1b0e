"""What every destination of values, tables and charts has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Table(Protocol):
    """What a sink may use of a :class:`BenchmarkTable`."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns' titles."""

    def rows(self) -> list[list[Any]]:
        """The rows, each with a value per column."""

    def featured(self) -> Any:
        """The few rows that are printed, as an object that rich can print."""

    def to_markdown(self) -> str:
        """The table as Markdown."""

    def to_csv(self, path: str | Path | None = None) -> str:
        """The table as comma-separated values, also written to ``path`` where one is given."""

    def to_json(self, path: str | Path | None = None) -> str:
        """The table as JSON, also written to ``path`` where one is given."""


class Sink:
    """A destination of what is measured; each method does nothing, so that a subclass overrides only what it can take.

    All methods are called on the process with global rank 0 only. A sink does not guard itself: who calls it turns an
    exception into one warning that names the sink, and training goes on.

    Example:
        >>> class Newest(Sink):
        ...     def log_values(self, values, step):
        ...         print(step, *values)
        >>> sink = Newest()
        >>> sink.log_values({"intensive/p3_score": 3.2}, step=50)
        50 intensive/p3_score
        >>> sink.alert("routing/health", "this sink has no alerts")
    """

    @property
    def name(self) -> str:
        """What messages call this sink."""
        return type(self).__name__

    def publish(self) -> None:
        """Create or update prebuilt dashboards, before training; may need a network."""

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Log one row of values, by key.

        Args:
            values: may hold NaN, which stands for an undefined value.
            step: the position on the x axis.
        """

    def log_table(self, key: str, table: Table) -> None:
        """Log a table, such as ``"final_benchmark"``."""

    def log_chart(self, name: str, rows: Sequence[Mapping[str, Any]], *, final: bool = True) -> None:
        """Log a chart's data.

        Args:
            name: ``"overview"``, with rows ``{"step": step, key: value, ...}``, or ``"heatmap"``, with rows
                ``{"step": step, "loads": {layer: [load of each expert]}}``.
            rows: everything that the chart shows, also what was logged before.
            final: false for a preview while training goes on, which a sink skips unless it is cheap there.
        """

    def alert(self, title: str, text: str) -> None:
        """Send a message to the user."""

    def set_summary(self, key: str, value: str | float) -> None:
        """Set a value of the whole run, such as ``"routing/health"``."""

    def close(self) -> None:
        """Write what is still buffered; the tracker's run stays open."""
