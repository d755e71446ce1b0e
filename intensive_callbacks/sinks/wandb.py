"""W&B: values, tables, charts, alerts and summary. The only module that imports wandb to log.

A value never comes with ``step=``: W&B drops a step lower than its own.
"""

from __future__ import annotations

import math
import re
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeGuard

from intensive_callbacks.sinks import charts
from intensive_callbacks.sinks.base import Sink
from intensive_callbacks.untrusted import MAX_BYTES, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wandb import Run

    from intensive_callbacks.sinks.base import Table

BENCHMARK_KEY = "final_benchmark"
STEP_KEY = "trainer/global_step"  # as Lightning's logger calls the x axis
_LINE_SERIES = {"step": "step", "lineKey": "metric", "lineVal": "value"}


class WandbSink(Sink):
    """Logs to a W&B run: values, the final table, overview and heatmap, alerts and summary.

    Values have the x axis ``trainer/global_step``, as those of Lightning's logger. Each row is committed at once,
    without W&B's ``step``; in a loop that passes ``step`` itself, log your own values of a step first.

    Args:
        run: the W&B run.
        presets: the published chart presets by name, ``"overview"`` and ``"heatmap"``, each as ``entity/name``;
            without them W&B's line series draws the overview, and the heatmap is a table. :meth:`publish` sets them.
        prefix: what stands before each value's key, with a hyphen between, as ``WandbLogger(prefix=...)`` has it.
    """

    def __init__(self, run: Run, *, presets: Mapping[str, str] | None = None, prefix: str = "") -> None:
        self.run = run
        self.presets = dict(presets or {})
        self.prefix = prefix
        self._on_axis: set[str] = set()

    def publish(self) -> None:
        """Publish chart presets and workspace to an online run's project, once, and draw with these presets.

        Raises:
            PublishError: if W&B cannot be reached or refuses.
        """
        from intensive_callbacks.dashboards.publish import publish

        if not self.presets and not self.run.offline:
            self.presets = publish(self.run.entity, self.run.project, self.prefix).presets

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Log one row, and place each new key on the x axis ``trainer/global_step``."""
        row = {f"{self.prefix}-{key}" if self.prefix else key: value for key, value in values.items()}
        for key in row.keys() - self._on_axis:
            self.run.define_metric(key, step_metric=STEP_KEY)
        self._on_axis |= row.keys()
        self.run.log({**row, STEP_KEY: step})

    def log_table(self, key: str, table: Table) -> None:
        """Log a table; a value that is not finite becomes an empty cell."""
        import wandb

        cells = [[_cell(value) for value in row] for row in table.rows()]
        self.run.log({key: wandb.Table(columns=list(table.columns), data=cells, allow_mixed_types=True)})

    def log_chart(self, name: str, rows: Sequence[Mapping[str, Any]], *, final: bool = True) -> None:  # noqa: ARG002 - a preview is cheap enough
        """Log a chart's table, and the chart that draws it: by its preset, or else by W&B's line series."""
        import wandb

        from intensive_callbacks.dashboards.presets import PRESETS

        table = charts.long_table(name, rows, self.run.name or self.run.id)
        if not table:
            return
        logged = wandb.Table(columns=list(table[0]), data=[list(row.values()) for row in table])
        preset, fields = self.presets.get(name), PRESETS[name].fields
        if name == "overview" and preset is None:
            preset, fields = "wandb/lineseries/v0", _LINE_SERIES
        if preset is None:
            self.run.log({PRESETS[name].table: logged})
        else:
            strings = {"title": PRESETS[name].title, "xname": "step"}
            # wandb adds "_table" to the key of the table.
            self.run.log({charts.key(name): wandb.plot_table(preset, logged, dict(fields), strings)})

    def alert(self, title: str, text: str) -> None:
        """Send an alert; W&B would hold back a second one of the same title for a minute."""
        self.run.alert(title, text, wait_duration=0.001)

    def set_summary(self, key: str, value: str | float) -> None:
        """Set a value of the run's summary."""
        self.run.summary[key] = value


def is_run(experiment: Any) -> TypeGuard[Run]:
    """Whether a logger's experiment is a W&B run, whichever Lightning the logger comes from.

    Without wandb imported there can be none, and this does not import it.
    """
    wandb = sys.modules.get("wandb")
    return wandb is not None and isinstance(experiment, wandb.Run)


def sync_command(run: Run) -> str | None:
    """The line that brings an offline run to W&B, or ``None`` for a run that is online."""
    return f"wandb sync {shlex.quote(str(run.settings.sync_dir))}" if run.offline else None


def download_table(path: str, key: str = BENCHMARK_KEY) -> Any:
    """A table that a run on the server has logged, as W&B stores it: an object with ``columns`` and ``data``.

    Args:
        path: ``entity/project/run``.
        key: the key under which it was logged.

    Raises:
        ConnectionError: if the run cannot be read: there is none, or there is no permission or no network.
        FileNotFoundError: if the run has no such table.
        ValueError: if the table is larger than 64 MB or no JSON.
    """
    import wandb

    try:
        files = list(wandb.Api().run(path).files(pattern=f"media/table/{key}_%"))
    except wandb.errors.Error as error:
        raise ConnectionError(f"cannot read the W&B run {path}: {error}") from error
    # W&B numbers a table by the step at which it was logged: media/table/final_benchmark_123_0a1b.table.json. A file is
    # written where its name says, and the server chooses the names: what looks otherwise is not downloaded.
    named = re.compile(rf"media/table/{re.escape(key)}_(\d{{1,18}})_\w+\.table\.json")
    tables = [(int(match[1]), file) for file in files if (match := named.fullmatch(file.name))]
    if not tables:
        raise FileNotFoundError(f"the W&B run {path} has no table {key}: it did not end, or its callback made none")
    newest = max(tables, key=lambda table: table[0])[1]
    if newest.size > MAX_BYTES:
        raise ValueError(f"the table {key} of the W&B run {path} has more than {MAX_BYTES:,} bytes")
    with TemporaryDirectory() as folder:
        newest.download(root=folder).close()
        return read_json(Path(folder, newest.name), within=Path(folder))


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
