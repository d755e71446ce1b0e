"""The final table and the run's summary in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intensive_callbacks.sinks.base import Sink

if TYPE_CHECKING:
    from rich.console import Console

    from intensive_callbacks.sinks.base import Table

_WIDTH = 120  # of a file or a pipe


class ConsoleSink(Sink):
    """Prints the featured rows of the final table and the values of the whole run; no values in mid-training."""

    def log_table(self, key: str, table: Table) -> None:  # noqa: ARG002 - there is one table
        """Print the table's featured rows."""
        _console().print(table.featured())

    def set_summary(self, key: str, value: str | float) -> None:
        """Print ``key: value`` on one line."""
        _console().out(f"{key}: {value}", highlight=False)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
