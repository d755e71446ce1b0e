"""What goes to W&B besides scalars: the overview chart and the final table. The only module that imports wandb.

A value never comes with ``step=``: W&B drops a step lower than its own. A call belongs on the rank that has the real
run; on the others Lightning's loggers hand out a stand-in, which :func:`find_run` does not take.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from intensive_callbacks.dashboards.history import OVERVIEW_COLUMNS, overview_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wandb import Run

OVERVIEW_KEY = "intensive_overview"
BENCHMARK_KEY = "final_benchmark"


class TableLike(Protocol):
    """What :func:`log_table` needs of a table."""

    @property
    def columns(self) -> list[str]:
        """The columns' titles."""

    def rows(self) -> list[list[Any]]:
        """The rows, each with a value per column."""


def is_run(experiment: Any) -> TypeGuard[Run]:
    """Whether a logger's experiment is a W&B run, whichever Lightning the logger comes from.

    Without wandb imported there can be none, and this does not import it.
    """
    wandb = sys.modules.get("wandb")
    return wandb is not None and isinstance(experiment, wandb.Run)


def find_run(loggers: Iterable[Any]) -> Run | None:
    """The W&B run among a Trainer's loggers on this rank, or ``None``."""
    for logger in loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if is_run(experiment):
            return experiment
    return None


def download_table(path: str, key: str = BENCHMARK_KEY) -> Any:
    """A table that a run on the server has logged, as W&B stores it: an object with ``columns`` and ``data``.

    Args:
        path: ``entity/project/run``.
        key: the key under which it was logged.

    Raises:
        ConnectionError: if the run cannot be read: there is none, or there is no permission or no network.
        FileNotFoundError: if the run has no such table.
    """
    import wandb

    try:
        files = [file for file in wandb.Api().run(path).files() if file.name.startswith(f"media/table/{key}_")]
    except wandb.errors.Error as error:
        raise ConnectionError(f"cannot read the W&B run {path}: {error}") from error
    if not files:
        raise FileNotFoundError(f"the W&B run {path} has no table {key}: it did not end, or its callback made none")
    # W&B numbers a table by the step at which it was logged: media/table/final_benchmark_123_0a1b.table.json.
    newest = max(files, key=lambda file: int(file.name.removeprefix(f"media/table/{key}_").partition("_")[0]))
    with TemporaryDirectory() as folder, newest.download(root=folder) as file:
        return json.load(file)


def log_overview(run: Run, rows: Iterable[Mapping[str, Any]], preset: str | None = None) -> None:
    """Log the overview line series, as a table and the chart that draws it.

    Args:
        run: the W&B run.
        rows: the history, each row a ``step`` and values by key.
        preset: the published overview preset, as ``entity/name``; without one W&B's own line series draws the table.
    """
    import wandb

    name = run.name or run.id
    data = [[row[column] for column in OVERVIEW_COLUMNS] for row in overview_table(rows, name)]
    if not data:
        return
    if preset is None:
        preset, fields = "wandb/lineseries/v0", {"step": "step", "lineKey": "metric", "lineVal": "value"}
    else:
        fields = {column: column for column in OVERVIEW_COLUMNS}
    chart = wandb.plot_table(
        vega_spec_name=preset,
        data_table=wandb.Table(columns=list(OVERVIEW_COLUMNS), data=data),
        fields=fields,
        string_fields={"title": "Intensive metrics", "xname": "step"},
    )
    run.log({OVERVIEW_KEY: chart})


def log_table(run: Run, table: TableLike, key: str = BENCHMARK_KEY) -> None:
    """Log a table; what is not finite becomes an empty cell."""
    import wandb

    data = [[_cell(value) for value in row] for row in table.rows()]
    run.log({key: wandb.Table(columns=list(table.columns), data=data, allow_mixed_types=True)})


def sync_command(run: Run) -> str | None:
    """The line that brings an offline run to W&B, or ``None`` for a run that is online."""
    return f"wandb sync {shlex.quote(str(run.settings.sync_dir))}" if run.offline else None


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
