"""What a model's configuration delivers for what it costs: a Lightning callback and a family of torchmetrics."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from intensive_callbacks import cards

if TYPE_CHECKING:
    from intensive_callbacks.benchmark.baselines import load_baselines as load_baselines
    from intensive_callbacks.benchmark.table import BenchmarkTable as BenchmarkTable
    from intensive_callbacks.callback import IntensiveMetricsCallback as IntensiveMetricsCallback
    from intensive_callbacks.cards import register_card as register_card
    from intensive_callbacks.footprint.flops import FlopCount as FlopCount
    from intensive_callbacks.footprint.flops import count_flops as count_flops
    from intensive_callbacks.footprint.parameters import ParameterCount as ParameterCount
    from intensive_callbacks.footprint.parameters import count_parameters as count_parameters
    from intensive_callbacks.losses import SparseAccuracyLoss as SparseAccuracyLoss
    from intensive_callbacks.metrics import *
    from intensive_callbacks.monitor import Monitor as Monitor
    from intensive_callbacks.monitor import register_signal as register_signal
    from intensive_callbacks.monitor.taps import RouterTap as RouterTap
    from intensive_callbacks.monitor.taps import Tap as Tap
    from intensive_callbacks.routing.observer import RouterObserver as RouterObserver
    from intensive_callbacks.routing.sample import RouterSample as RouterSample
    from intensive_callbacks.sinks import ConsoleSink as ConsoleSink
    from intensive_callbacks.sinks import FileSink as FileSink
    from intensive_callbacks.sinks import LoggerSink as LoggerSink
    from intensive_callbacks.sinks import Sink as Sink
    from intensive_callbacks.sinks import WandbSink as WandbSink
    from intensive_callbacks.trainer_callback import IntensiveTrainerCallback as IntensiveTrainerCallback

__version__ = "0.1.0"

# Its former name gives the same module: what is registered with one is registered with the other.
keys = sys.modules[f"{__name__}.keys"] = cards

_MODULES = {
    "BenchmarkTable": "benchmark.table",
    "ConsoleSink": "sinks",
    "FileSink": "sinks",
    "FlopCount": "footprint.flops",
    "IntensiveMetricsCallback": "callback",
    "IntensiveTrainerCallback": "trainer_callback",
    "LoggerSink": "sinks",
    "Monitor": "monitor",
    "ParameterCount": "footprint.parameters",
    "RouterObserver": "routing.observer",
    "RouterSample": "routing.sample",
    "RouterTap": "monitor.taps",
    "Sink": "sinks",
    "SparseAccuracyLoss": "losses",
    "Tap": "monitor.taps",
    "WandbSink": "sinks",
    "count_flops": "footprint.flops",
    "count_parameters": "footprint.parameters",
    "load_baselines": "benchmark.baselines",
    "register_card": "cards",
    "register_signal": "monitor",
}
for _card in cards.CARDS:
    if _card.metric:
        _module, _, _name = _card.metric.partition(".")
        _MODULES[_name] = f"metrics.{_module}"

__all__ = sorted([*_MODULES, "__version__"])  # noqa: PLE0605 - the metrics' names are those of their cards


def __getattr__(name: str) -> object:
    """Import a public name where it is first used, so that one metric does not load Lightning, wandb or fvcore."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    # The one name that depends on what is loaded when it is used.
    return module.callback_class() if name == "IntensiveMetricsCallback" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
