"""MLflow: metrics, the final table as a table, charts as artifacts."""

from __future__ import annotations

import time
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from intensive_callbacks.sinks import charts
from intensive_callbacks.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intensive_callbacks.sinks.base import Table

_MOST_METRICS = 1000  # MLflow's limit for one call


class MlflowSink(Sink):
    """Logs to an MLflow run: values as metrics, tables and charts as artifacts, summary as tags.

    A chart's picture needs the extra ``render``; without it a warning names it once.

    Args:
        client: an ``MlflowClient``.
        run_id: the run.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._alerts: list[str] = []

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Log the values in one call, or in one per 1,000 values."""
        from mlflow.entities import Metric  # type: ignore[import-not-found, unused-ignore]

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        for start in range(0, len(metrics), _MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + _MOST_METRICS])

    def log_table(self, key: str, table: Table) -> None:
        """Log the table as Markdown, CSV and MLflow's own kind of table; to the last a second call appends its rows."""
        self.client.log_text(self.run_id, table.to_markdown(), f"{key}.md")
        self.client.log_text(self.run_id, table.to_csv(), f"{key}.csv")
        if find_spec("pandas"):  # with which MLflow forms its tables; mlflow-skinny does not install it
            columns = dict(zip(table.columns, map(list, zip(*table.rows(), strict=True)), strict=True))
            self.client.log_table(self.run_id, columns, f"{key}.json")

    def log_chart(self, name: str, rows: Sequence[Mapping[str, Any]], *, final: bool = True) -> None:
        """Log what the final chart shows as JSON, and its picture."""
        if not final or not rows:
            return
        self.client.log_dict(self.run_id, {"rows": charts.long_table(name, rows)}, f"{charts.key(name)}.json")
        with TemporaryDirectory() as folder:
            if path := charts.draw(name, rows, folder):
                self.client.log_artifact(self.run_id, str(path))

    def alert(self, title: str, text: str) -> None:
        """Write all alerts so far to the artifact ``alerts.txt``."""
        self._alerts.append(f"{title}: {text}\n")
        self.client.log_text(self.run_id, "".join(self._alerts), "alerts.txt")

    def set_summary(self, key: str, value: str | float) -> None:
        """Set the value as a tag."""
        self.client.set_tag(self.run_id, key, str(value))
