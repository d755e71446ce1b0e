"""Everything a run gave, as files in a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intensive_callbacks.sinks import charts
from intensive_callbacks.sinks.base import Sink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intensive_callbacks.sinks.base import Table


class FileSink(Sink):
    """Writes values, final table, charts and verdict into a folder.

    ========================================= ======================================================================
    file                                      content
    ========================================= ======================================================================
    ``values.jsonl``                          one line per logging step, written at once; ``null`` is undefined
    ``alerts.jsonl``                          one line per alert, written at once
    ``final_benchmark.md``, ``.csv``,         the final table
    ``.json``
    ``overview.json``, ``heatmap.json``       what the charts show, one object for each point or cell
    ``summary.json``                          values of the whole run, such as ``routing/health``
    ``overview.html``                         one page that draws all of it without a network (extra ``render``)
    ========================================= ======================================================================

    Lines are appended to what is there, so that a resumed run goes on; give each run a folder of its own.

    Args:
        folder: where to write; created with the first file.
        page: draw ``overview.html`` at :meth:`close`, which takes a few seconds.
    """

    def __init__(self, folder: str | Path, *, page: bool = True) -> None:
        self.folder = Path(folder)
        self.page = page
        self._summary: dict[str, str | float] = {}
        self._history: list[dict[str, Any]] = []
        self._tables: dict[str, list[dict[str, Any]]] = {}

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Append a line to ``values.jsonl``."""
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._append("values.jsonl", {"step": step, **finite})

    def log_table(self, key: str, table: Table) -> None:
        """Write the table as Markdown, CSV and JSON."""
        self._write(f"{key}.md", table.to_markdown())
        table.to_csv(self.folder / f"{key}.csv")
        table.to_json(self.folder / f"{key}.json")
        self._tables[key] = [dict(zip(table.columns, row, strict=True)) for row in table.rows()]

    def log_chart(self, name: str, rows: Sequence[Mapping[str, Any]], *, final: bool = True) -> None:
        """Write what a final chart shows; a preview's values are in ``values.jsonl``."""
        if not final or not rows:
            return
        table = charts.long_table(name, rows, self._name)
        self._write(f"{name}.json", json.dumps(table, indent=1))
        if name == "overview":
            self._history = [dict(row) for row in rows]
        else:
            self._tables[f"{charts.key(name)}_table"] = table

    def alert(self, title: str, text: str) -> None:
        """Append a line to ``alerts.jsonl``."""
        self._append("alerts.jsonl", {"title": title, "text": text})

    def set_summary(self, key: str, value: str | float) -> None:
        """Write ``summary.json`` anew."""
        self._summary[key] = value
        self._write("summary.json", json.dumps(self._summary, indent=1))

    def close(self) -> None:
        """Draw the page of the charts and tables written since the last call."""
        if not self.page or not (self._history or self._tables) or not charts.can_draw():
            return
        from intensive_callbacks.dashboards.comparison import charts_of
        from intensive_callbacks.dashboards.render import page
        from intensive_callbacks.dashboards.runs import RunRecord

        drawn = charts_of([RunRecord(self._name, self._history, self._tables)])
        if drawn:
            self._write("overview.html", page(drawn, self._name))
        self._history, self._tables = [], {}

    @property
    def _name(self) -> str:
        return self.folder.resolve().name

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
