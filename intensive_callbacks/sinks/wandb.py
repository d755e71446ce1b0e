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

from intensive_callbacks.dashboards.presets import PRESETS
from intensive_callbacks.dashboards.publish import publish
from intensive_callbacks.dashboards.tables import heatmap_table, overview_is_due, overview_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wandb import Run

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
        files = list(wandb.Api().run(path).files(pattern=f"media/table/{key}_%"))
    except wandb.errors.Error as error:
        raise ConnectionError(f"cannot read the W&B run {path}: {error}") from error
    if not files:
        raise FileNotFoundError(f"the W&B run {path} has no table {key}: it did not end, or its callback made none")
    # W&B numbers a table by the step at which it was logged: media/table/final_benchmark_123_0a1b.table.json.
    newest = max(files, key=lambda file: int(file.name.removeprefix(f"media/table/{key}_").partition("_")[0]))
    with TemporaryDirectory() as folder, newest.download(root=folder) as file:
        return json.load(file)


def log_overview(run: Run, rows: Iterable[Mapping[str, Any]], preset: str | None = None) -> None:
    """Log the overview line series: the table, and the chart that draws it.

    Args:
        run: the W&B run.
        rows: the history, each row a ``step`` and values by key.
        preset: the published overview preset, as ``entity/name``; without one W&B's own line series draws the table.
    """
    table = overview_table(rows, run.name or run.id)
    if preset is None:
        _log_chart(
            run, "overview", table, "wandb/lineseries/v0", {"step": "step", "lineKey": "metric", "lineVal": "value"}
        )
    else:
        _log_chart(run, "overview", table, preset, PRESETS["overview"].fields)


class GrowingOverview:
    """The overview while its run goes on: logged again at every doubling of what there is to draw, 20 times at most.

    W&B writes the whole chart each time and, online, waits for its server; so it is logged rarely, and no more once
    that has failed.

    Args:
        run: the W&B run.
        preset: the published overview preset, as :func:`log_overview` takes it.
    """

    def __init__(self, run: Run, preset: str | None = None) -> None:
        self.run = run
        self.preset = preset
        self._num_logged = 0
        self._gave_up = False

    def grow(self, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Take note of one more logged row; log the overview if it is due.

        Args:
            rows: gives the history, and is only called when the overview is due.
        """
        self._num_logged += 1
        if self._gave_up or not overview_is_due(self._num_logged):
            return
        self._gave_up = True
        log_overview(self.run, rows(), self.preset)
        self._gave_up = False


def log_heatmap(
    run: Run, snapshots: Sequence[tuple[int, Mapping[str, Sequence[float]]]], preset: str | None = None
) -> None:
    """Log which experts each layer used: the table, and with the published preset the chart that draws it.

    Args:
        run: the W&B run.
        snapshots: moments of training as (step, load of each expert by layer's name).
        preset: the published heatmap preset, as ``entity/name``; W&B has none of its own that fits.
    """
    table = heatmap_table(snapshots, run.name or run.id)
    _log_chart(run, "heatmap", table, preset, PRESETS["heatmap"].fields)


def _log_chart(run: Run, name: str, rows: list[dict[str, Any]], preset: str | None, fields: Mapping[str, str]) -> None:
    import wandb

    if not rows:
        return
    key = PRESETS[name].table
    table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
    if preset is None:
        run.log({key: table})
        return
    chart = wandb.plot_table(preset, table, dict(fields), {"title": PRESETS[name].title, "xname": "step"})
    run.log({key.removesuffix("_table"): chart})  # wandb adds the suffix to the table's key


def log_table(run: Run, table: TableLike, key: str = BENCHMARK_KEY) -> None:
    """Log a table; what is not finite becomes an empty cell."""
    import wandb

    data = [[_cell(value) for value in row] for row in table.rows()]
    run.log({key: wandb.Table(columns=list(table.columns), data=data, allow_mixed_types=True)})


def publish_dashboard(run: Run, prefix: str = "") -> dict[str, str]:
    """Publish charts and workspace view to an online run's project.

    Returns:
        The presets for :func:`log_overview` and :func:`log_heatmap`, by name; nothing for an offline run.

    Raises:
        PublishError: if W&B cannot be reached or refuses.
    """
    return {} if run.offline else publish(run.entity, run.project, prefix).presets


def sync_command(run: Run) -> str | None:
    """The line that brings an offline run to W&B, or ``None`` for a run that is online."""
    return f"wandb sync {shlex.quote(str(run.settings.sync_dir))}" if run.offline else None


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
