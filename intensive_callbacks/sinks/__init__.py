"""Where values, tables and charts go: W&B, any other logger, the terminal, files."""

from intensive_callbacks.sinks.base import Sink
from intensive_callbacks.sinks.console import ConsoleSink
from intensive_callbacks.sinks.files import FileSink
from intensive_callbacks.sinks.logger import LoggerSink, sinks_of
from intensive_callbacks.sinks.mlflow import MlflowSink
from intensive_callbacks.sinks.tensorboard import TensorBoardSink
from intensive_callbacks.sinks.wandb import WandbSink

__all__ = [
    "ConsoleSink",
    "FileSink",
    "LoggerSink",
    "MlflowSink",
    "Sink",
    "TensorBoardSink",
    "WandbSink",
    "sinks_of",
]
