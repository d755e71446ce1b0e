"""The final benchmark: models beside each other, within their task and protocol."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from intensive_callbacks.benchmark import export
from intensive_callbacks.benchmark.columns import (
    COMPARABLE,
    Cell,
    Column,
    amount_columns,
    comparable_column,
    measured_columns,
)
from intensive_callbacks.cards import card

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderResult

    from intensive_callbacks.benchmark.row import BenchmarkRow

TEXT = ("model", "task", "protocol")
FIGURES = ("accuracy standard error", "examples", "accuracy of chance", "training tokens", "FLOPs per")


class BenchmarkTable:
    """Models, what they cost, what they score, and what follows from it.

    The comparable columns are formed from the figures of each row by one convention (:attr:`BenchmarkRow.facts`); what
    was measured on a model stands in columns of its own. Rows of different task or protocol are grouped and never
    ranked together. What is undefined is a dash that has a reason.

    Args:
        rows: the models, in the order in which they are to stand.
        metrics: keys or symbols of the comparable metrics.
        sort: key, symbol or title of a column by which each group is ordered, best first.

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
        self, rows: Iterable[BenchmarkRow], metrics: Sequence[str] = COMPARABLE, sort: str | None = None
    ) -> None:
        models = list(rows)
        comparable = [comparable_column(name) for name in metrics]
        self.metrics = tuple(metrics)
        self.numbers: list[Column] = [*amount_columns(), *comparable, *measured_columns(models, comparable)]
        self.groups: dict[tuple[str, str], list[BenchmarkRow]] = {}
        for row in models:
            self.groups.setdefault(row.group, []).append(row)
        # The cells of a group, column by column.
        self.cells: dict[tuple[str, str], list[list[Cell]]] = {
            group: [[column.cell(row) for row in members] for column in self.numbers]
            for group, members in self.groups.items()
        }
        if sort is not None:
            self._sort(self._place(sort))

    def _place(self, name: str) -> int:
        titles = [column.title.casefold() for column in self.numbers]
        if name.casefold() not in titles:
            name = card(name).symbol
        if name.casefold() not in titles:
            raise KeyError(f"the table has no column {name!r}; it has {', '.join(c.title for c in self.numbers)}")
        return titles.index(name.casefold())

    def _sort(self, place: int) -> None:
        sign = 1 if self.numbers[place].better == "lower" else -1
        for group, cells in self.cells.items():
            values = [cell.value for cell in cells[place]]
            order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), sign * values[i]))
            self.groups[group] = [self.groups[group][i] for i in order]
            self.cells[group] = [[column[i] for i in order] for column in cells]

    def best_places(self, group: tuple[str, str], place: int) -> set[int]:
        """The rows of a group that are best in a column; none where fewer than two can be compared."""
        better = self.numbers[place].better
        values = {i: cell.value for i, cell in enumerate(self.cells[group][place]) if not math.isnan(cell.value)}
        if better == "neither" or len(values) < 2:
            return set()
        target = max(values.values()) if better == "higher" else min(values.values())
        return {i for i, value in values.items() if value == target}

    def best(self, column: str, group: tuple[str, str]) -> list[str]:
        """The models of a group that are best in a column."""
        return [self.groups[group][i].model for i in sorted(self.best_places(group, self._place(column)))]

    def featured(self) -> BenchmarkTable:
        """The table of the few rows that are printed."""
        return BenchmarkTable((row for row in self._members() if row.featured), self.metrics)

    def _members(self) -> list[BenchmarkRow]:
        return [row for members in self.groups.values() for row in members]

    @property
    def columns(self) -> list[str]:
        """The titles of :meth:`rows`, each with its unit."""
        numbers = [f"{column.title} ({column.unit})" if column.unit != "1" else column.title for column in self.numbers]
        return [*TEXT, *numbers, *FIGURES, "best in", "source"]

    def rows(self) -> list[list[str | float | None]]:
        """Plain cells, ``None`` where a value is undefined: what goes to W&B, CSV and data frames."""
        plain: list[list[str | float | None]] = []
        for group, members in self.groups.items():
            best = [self.best_places(group, i) for i in range(len(self.numbers))]
            for i, row in enumerate(members):
                numbers = [_plain(column[i].value) for column in self.cells[group]]
                won = (column.title for column, places in zip(self.numbers, best, strict=True) if i in places)
                figures = [_plain(row.accuracy_error), row.num_examples, row.random_baseline, row.num_tokens, row.per]
                plain.append([row.model, *row.group, *numbers, *figures, ", ".join(won), row.source])
        return plain

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        from intensive_callbacks.benchmark.terminal import renderables

        yield from renderables(self, options.max_width)

    def to_markdown(self) -> str:
        """One Markdown table per group, with the reasons for its dashes below it."""
        return export.to_markdown(self)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Comma-separated values, safe to open in a spreadsheet; also written to ``path`` where one is given."""
        return export.to_csv(self, path)

    def to_json(self, path: str | Path | None = None) -> str:
        """JSON with each cell's value, standard error and reason; also written to ``path`` where one is given."""
        return export.to_json(self, path)

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas data frame of :meth:`rows`."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=self.columns)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
