"""TensorBoard: scalars, the final table as text, charts as images."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from intensive_callbacks.sinks import charts
from intensive_callbacks.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intensive_callbacks.sinks.base import Table


class TensorBoardSink(Sink):
    """Logs to a ``SummaryWriter``: values as scalars, tables, alerts and summary as text, charts as images.

    Images need the extra ``render``; without it a warning names it once.

    Args:
        writer: a ``SummaryWriter`` of ``torch.utils.tensorboard`` or of ``tensorboardX``.
    """

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Add a scalar for each value."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def log_table(self, key: str, table: Table) -> None:
        """Add the table as text, which TensorBoard shows as Markdown."""
        self.writer.add_text(key, table.to_markdown())

    def log_chart(self, name: str, rows: Sequence[Mapping[str, Any]], *, final: bool = True) -> None:
        """Add the final chart as an image."""
        if not final:
            return
        with TemporaryDirectory() as folder:
            if path := charts.draw(name, rows, folder):
                import numpy as np
                from PIL import Image

                with Image.open(path) as picture:
                    self.writer.add_image(charts.key(name), np.asarray(picture.convert("RGB")), dataformats="HWC")

    def alert(self, title: str, text: str) -> None:
        """Add the alert to the texts under ``alerts``."""
        self.writer.add_text("alerts", f"**{title}**: {text}")

    def set_summary(self, key: str, value: str | float) -> None:
        """Add the value as text."""
        self.writer.add_text(key, str(value))

    def close(self) -> None:
        """Flush the event file."""
        self.writer.flush()
