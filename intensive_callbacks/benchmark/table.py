"""The final benchmark: models beside each other, within their task and protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark.columns import (
    COMPARABLE,
    amount_columns,
    comparable_column,
    measured_columns,
    with_analytic,
)
from intensive_callbacks.benchmark.grid import Grid
from intensive_callbacks.benchmark.printers import flat, markdown, structured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType

    from intensive_callbacks.benchmark.grid import Group
    from intensive_callbacks.benchmark.row import BenchmarkRow


class BenchmarkTable:
    """Models, what they cost, what they score, and what follows from it.

    The comparable columns are formed from the figures of each row by one convention (:attr:`BenchmarkRow.facts`);
    values that a run measured have columns of their own, and so have FLOPs that were estimated, not counted. Rows are
    grouped by task and protocol, and those of different groups are never ranked together. An undefined value is a dash
    with a reason.

    Args:
        rows: the models, in the order in which they are shown.
        metrics: keys or symbols of the comparable metrics.
        sort: key, symbol or title of a column by which each group is ordered, best first.
        note: a sentence that is printed below the table.

    Raises:
        KeyError: if a metric or ``sort`` is not known.
        ValueError: if a metric does not follow from the figures of a row.

    Example:
        >>> from intensive_callbacks import load_baselines
        >>> table = BenchmarkTable(load_baselines("language"), sort="P3")
        >>> table.best("P3", ("MMLU", "5-shot, evaluated by DeepSeek for V3"))
        ['DeepSeek-V2']
    """

    def __init__(
        self,
        rows: Iterable[BenchmarkRow],
        metrics: Sequence[str] = COMPARABLE,
        sort: str | None = None,
        note: str = "",
    ) -> None:
        models = list(rows)
        self.note = note
        comparable = [comparable_column(name) for name in metrics]
        self.metrics = tuple(metrics)
        columns = with_analytic([*amount_columns(), *comparable], models)
        self.grid = Grid(models, [*columns, *measured_columns(models, comparable)])
        if sort is not None:
            self.grid.sort(self.grid.find(sort))

    @property
    def groups(self) -> dict[Group, list[BenchmarkRow]]:
        """The rows of each task and protocol, in the order in which they are shown."""
        return self.grid.groups

    def best(self, column: str, group: Group) -> list[str]:
        """The models of a group that are best in a column, which is named by its key, symbol or title."""
        places = self.grid.best(group, self.grid.find(column))
        return [self.groups[group][i].model for i in sorted(places)]

    def featured(self) -> BenchmarkTable:
        """The table of the few rows that are printed."""
        return BenchmarkTable(
            (row for members in self.groups.values() for row in members if row.featured), self.metrics, note=self.note
        )

    @property
    def columns(self) -> list[str]:
        """The titles of :meth:`rows`, each with its unit."""
        return flat.columns_of(self.grid)

    def rows(self) -> list[list[str | float | None]]:
        """Plain cells, ``None`` where a value is undefined: what W&B, CSV files and data frames hold.

        The last cell of a row is its record by key, from which ``leaderboard`` and :func:`load_baselines` read the row
        back exactly.
        """
        return flat.rows_of(self.grid)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from intensive_callbacks.benchmark.printers.terminal import renderables

        yield from renderables(self.grid, options.max_width)
        if self.note:
            yield self.note

    def to_markdown(self) -> str:
        """One Markdown table per group, with the reasons for its dashes below it."""
        return markdown.to_markdown(self.grid)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Comma-separated values, safe to open in a spreadsheet; also written to ``path`` if given."""
        return _written(flat.to_csv(self.grid), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """JSON by key, with each cell's value, standard error and reason; also written to ``path`` if given."""
        return _written(structured.to_json(self.grid), path)

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas data frame of :meth:`rows`."""
        return flat.to_dataframe(self.grid)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="")
    return text
