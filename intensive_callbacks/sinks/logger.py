"""Loggers of Lightning and Fabric, whichever tracker stands behind them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intensive_callbacks.sinks.base import Sink
from intensive_callbacks.sinks.files import FileSink
from intensive_callbacks.sinks.mlflow import MlflowSink
from intensive_callbacks.sinks.tensorboard import TensorBoardSink
from intensive_callbacks.sinks.wandb import WandbSink, is_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from intensive_callbacks.sinks.base import Table


class LoggerSink(Sink):
    """Logs values through a logger's own ``log_metrics``, and everything else in the form that its tracker has.

    So values have the logger's prefix and x axis. :func:`tracker_of` says what each tracker gets.

    Args:
        logger: any object with ``log_metrics(values, step)``.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    @cached_property
    def tracker(self) -> Sink:
        """What takes tables, charts, alerts and summary; found at its first use, which may start the logger's run."""
        return tracker_of(self.logger)

    @property
    def name(self) -> str:
        """The logger's class."""
        return type(self.logger).__name__

    def publish(self) -> None:
        """Publish the tracker's dashboards."""
        self.tracker.publish()

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Log one row by the logger itself."""
        self.logger.log_metrics(values, step)

    def log_table(self, key: str, table: Table) -> None:
        """Hand the table to the tracker."""
        self.tracker.log_table(key, table)

    def log_chart(self, name: str, rows: Sequence[Mapping[str, Any]], *, final: bool = True) -> None:
        """Hand the chart to the tracker."""
        self.tracker.log_chart(name, rows, final=final)

    def alert(self, title: str, text: str) -> None:
        """Hand the alert to the tracker."""
        self.tracker.alert(title, text)

    def set_summary(self, key: str, value: str | float) -> None:
        """Hand the value to the tracker."""
        self.tracker.set_summary(key, value)

    def close(self) -> None:
        """Write what logger and tracker have buffered."""
        if save := getattr(self.logger, "save", None):
            save()
        self.tracker.close()


def sinks_of(loggers: Iterable[Any]) -> list[Sink]:
    """A sink for each of a Trainer's or a Fabric's loggers; no logger is touched before its sink is used."""
    return [LoggerSink(logger) for logger in loggers]


def tracker_of(logger: Any) -> Sink:
    """The sink for what a logger has no method for.

    A W&B run gets all there is; a TensorBoard writer text and images; an MLflow client tables and artifacts; a CSV
    logger files beside its ``metrics.csv``; anything else, such as the stand-in that loggers have on other processes,
    nothing. Trackers are recognized by what they can do, since Lightning comes in two packages.
    """
    experiment = getattr(logger, "experiment", None)
    if is_run(experiment):
        return WandbSink(experiment, prefix=getattr(logger, "_prefix", ""))
    if _can(experiment, "add_text", "add_image"):
        return TensorBoardSink(experiment)
    if _can(experiment, "log_text", "log_dict", "log_artifact", "set_tag"):
        return MlflowSink(experiment, logger.run_id)
    file = getattr(experiment, "metrics_file_path", None)
    if isinstance(file, str) and "://" not in file:  # a bucket is no folder
        return FileSink(Path(file).parent, page=False)
    return Sink()


def _can(experiment: Any, *methods: str) -> bool:
    """Whether an object has these methods; one that has a method of any name, as Lightning's stand-in, has none."""
    takes_any_name = hasattr(experiment, "no_tracker_has_a_method_of_this_name")
    return not takes_any_name and all(callable(getattr(experiment, method, None)) for method in methods)
