"""IntensiveMetricsCallback: Lightning's events in, a Monitor's calls out. The only module that imports Lightning."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from intensive_callbacks import batches
from intensive_callbacks.functional.checks import as_fraction
from intensive_callbacks.gradients import GradientPairs
from intensive_callbacks.monitor import Monitor, check_options
from intensive_callbacks.selection import select
from intensive_callbacks.sinks.wandb import (
    GrowingOverview,
    find_run,
    log_heatmap,
    log_overview,
    log_table,
)
from intensive_callbacks.sinks.wandb import (
    publish_dashboard as publish,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytorch_lightning import LightningModule, Trainer
    from torchmetrics import Metric

    from intensive_callbacks.history import History
    from intensive_callbacks.taps import RouterTap, Tap

PROGRESS_BAR = {"intensive/p3_score": "P3", "intensive/relevance_rate": "R3", "intensive/config_entropy": "CES"}


class IntensiveMetricsCallback(Callback):
    """Logs what a model's configuration delivers for what it costs, every N steps and after each validation.

    Values go to every logger of the Trainer, to ``trainer.callback_metrics`` (so that ModelCheckpoint can monitor
    them; list EarlyStopping after this callback) and a few to the progress bar. A W&B logger also gets, when training
    ends, the chart ``intensive_overview`` and the table ``final_benchmark``. Training is bit for bit what it is without
    the callback, and nothing that fails in it ends a run.

    Args:
        accuracy: a key of ``trainer.callback_metrics``, or ``accuracy(trainer, pl_module)``, run every N steps; a
            fraction in [0, 1]. ``None`` leaves out what needs an accuracy.
        every_n_steps: optimizer steps between two logged values.
        random_baseline: the accuracy of chance; ``"measure"`` takes it from the untrained model over the whole
            validation set; ``None`` leaves out what needs it.
        num_tokens: ``num_tokens(batch)``; by default counted from ``input_ids`` and ``attention_mask`` where there are
            any.
        routers: which routers are watched: ``"auto"``, a pattern, ``{pattern: reader}`` or ``None``.
        taps: :class:`Tap` and :class:`RouterTap` objects: which signal inside the model feeds which metric.
        metrics: ``"default"``, or a list of symbols, keys and Metric objects: exactly these. In a list ``"default"``
            stands for all of the default.
        benchmark: baselines of the final table: ``"auto"``, ``"language"``, ``"vision"``, a path or ``None``.
        model_name: the model's name in the final table; the LightningModule's class by default.
        task: the task's name in the final table.
        per_layer: also log the routing values of every layer.
        observe: ``"sampled"`` takes what needs logits on the steps that feed a logged value, ``"every_step"`` on all.
        strict: raise instead of warning when something cannot be measured.
        alert: also send what ``routing/health`` warns of in mid-training as a W&B alert.
        publish_dashboard: bring charts and workspace to the project of an online W&B run, when training starts.

    Raises:
        ValueError: before training starts, if an argument cannot be used, the accuracy's key is unknown after the
            sanity check, or its value is no fraction.

    Example:
        >>> callback = IntensiveMetricsCallback(accuracy="val/accuracy", every_n_steps=100, random_baseline=0.1)
        >>> callback.every_n_steps
        100
    """

    def __init__(
        self,
        accuracy: str | Callable[[Trainer, LightningModule], float] | None = "val/accuracy",
        *,
        every_n_steps: int = 50,
        random_baseline: float | str | None = None,
        num_tokens: Callable[[Any], int] | None = None,
        routers: Any = "auto",
        taps: Sequence[Tap | RouterTap] = (),
        metrics: str | Iterable[str | Metric] = "default",
        benchmark: str | None = "auto",
        model_name: str | None = None,
        task: str | None = None,
        per_layer: bool = False,
        observe: str = "sampled",
        strict: bool = False,
        alert: bool = False,
        publish_dashboard: bool = False,
    ) -> None:
        metrics = metrics if isinstance(metrics, str) else list(metrics)
        if isinstance(random_baseline, str) and random_baseline != "measure":
            raise ValueError(f'random_baseline must be a fraction, "measure" or None, got {random_baseline!r}')
        self.accuracy = accuracy
        self.every_n_steps = every_n_steps
        self.measures_baseline = random_baseline == "measure"
        self.options: dict[str, Any] = {
            "every_n_steps": every_n_steps,
            "random_baseline": None if self.measures_baseline else random_baseline,
            "num_tokens": num_tokens,
            "routers": routers,
            "taps": taps,
            "metrics": metrics,
            "benchmark": benchmark,
            "model_name": model_name,
            "task": task,
            "per_layer": per_layer,
            "observe": observe,
            "strict": strict,
        }
        check_options(every_n_steps, self.options["random_baseline"], observe)
        select(metrics)
        self.monitor: Monitor | None = None
        self._restored: dict[str, Any] | None = None
        self._num_validated: int | None = 0
        self._gradients: GradientPairs | None = None
        self._alerts = alert
        self._publishes = publish_dashboard
        self._presets: dict[str, str] = {}
        self._overview: GrowingOverview | None = None

    @property
    def history(self) -> History:
        """The values logged so far."""
        return self._running.history

    @property
    def _running(self) -> Monitor:
        if self.monitor is None:
            raise RuntimeError("the callback has no values yet: add it to a Trainer's callbacks and call fit")
        return self.monitor

    # Before training.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask for a sanity check over the whole validation set where chance is to be measured."""
        if stage == "fit" and self.measures_baseline:
            trainer.num_sanity_val_steps = math.inf

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch the model, or go on."""
        if self.monitor is None or self.monitor.model is not pl_module:
            self.monitor = Monitor(pl_module, **self.options)
            self.monitor.gatherer.forward_ends_with_model = False
        if self._restored is not None:
            self.monitor.load_state_dict(self._restored)
            self._restored = None
        self.monitor.gatherer.has_validation = trainer.enable_validation
        self._gradients = _gradient_pairs(trainer) if self.monitor.wants_gradients else None
        self.monitor.attach()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the untrained model's routing out of the windows."""
        self._running.begin_validation()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an accuracy that cannot be used, and take the untrained one where it was asked for."""
        self._running.end_validation(keep=False)
        if not isinstance(self.accuracy, str) or "train" in self.accuracy:
            return
        known = trainer.callback_metrics
        if self.accuracy not in known:
            raise ValueError(
                f"accuracy={self.accuracy!r} is not logged in validation; there are {sorted(map(str, known))}. "
                "Log it with self.log, name another key, or pass accuracy=None"
            )
        value = float(as_fraction(f"the metric {self.accuracy!r}", float(known[self.accuracy])))
        if self.measures_baseline:
            self._running.measured_baseline(value)

    # Training.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the loops are now, and forget what a learning rate finder or the like has run before."""
        self._running.begin_training(trainer.global_step)
        run = find_run(trainer.loggers)
        if run and self._publishes and not self._presets:
            with self._running.guard("publishing the dashboard"):
                self._presets = publish(run, _prefix(trainer))
        self._overview = GrowingOverview(run, self._presets.get("overview")) if run else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A batch comes."""
        self._running.known.data_is_new = trainer.current_epoch == 0
        self._running.observe(batch)
        if self._gradients is not None:
            self._gradients.begin_batch(batches.num_examples(batch))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """The forward pass is over; what the hooks hear from here on is recomputation."""
        self._running.begin_backward()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The backward pass is over."""
        self._running.end_backward()
        if self._gradients is not None:
            with self._running.guard("observing the gradients"):
                self._gradients.end_backward()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """The gradients of a step are complete, and not yet clipped."""
        if self._gradients is not None:
            with self._running.guard("observing the gradients"):
                if pair := self._gradients.step():
                    self._running.observe_gradients(*pair)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what is due at this optimizer step."""
        accuracy = None
        if self._running.is_due(trainer.global_step):
            accuracy = self._accuracy_in_training(trainer, pl_module)
        self._log(trainer, self._running.log(trainer.global_step, accuracy))

    def _accuracy_in_training(self, trainer: Trainer, pl_module: LightningModule) -> float | torch.Tensor | None:
        """From the callable, or from a key that training itself has just logged."""
        if isinstance(self.accuracy, str):
            return _just_logged(trainer).get(self.accuracy)
        if self.accuracy is None:
            return None
        with self._running.guard("the accuracy callable"), self._running.validation(), _undisturbed(pl_module):
            return self.accuracy(trainer, pl_module)
        return None

    # Validation.

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is validation."""
        if _validates_a_fit(trainer):
            self._num_validated = 0
            self._running.begin_validation()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the examples that the accuracy stands for."""
        if trainer.state.fn == "fit":
            self._running.observe(batch)
        if dataloader_idx > 0:
            self._num_validated = None  # of several sets nothing tells which the accuracy is over
        elif self._num_validated is not None:
            self._num_validated += batches.num_examples(batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the validation gave, with its accuracy if it is the one that is watched."""
        if not _validates_a_fit(trainer):
            return
        self._running.end_validation()
        accuracy = _just_logged(trainer).get(self.accuracy) if isinstance(self.accuracy, str) else None
        self._log(trainer, self._running.log(trainer.global_step, accuracy, self._num_validated))

    # The end.

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the overview and the final table, and print the table."""
        running = self._running
        running.detach()
        if not trainer.is_global_zero:
            return
        with running.guard("the final table"):
            table = running.finish()
            console = Console()
            console = console if console.is_terminal else Console(width=120)
            console.print(table.featured())
            if verdict := running.verdict():
                console.print(f"routing/health: {verdict}", highlight=False, soft_wrap=True)
        if run := find_run(trainer.loggers):
            with running.guard("the final table in W&B"):
                log_table(run, table)
            with running.guard("the charts in W&B"):
                self._log_charts(run, running.verdict())

    def _log_charts(self, run: Any, verdict: str | None) -> None:
        running = self._running
        log_overview(run, running.history.rows(), self._presets.get("overview"))
        snapshots = [(row["step"], row["loads"]) for row in running.heatmap.kept()]
        if snapshots:
            log_heatmap(run, snapshots, self._presets.get("heatmap"))
        if verdict:
            run.summary["routing/health"] = verdict

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._stop_watching()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no hook behind."""
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self.monitor is not None:
            self.monitor.detach()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that history and final table go on where they were."""
        return self.monitor.state_dict() if self.monitor else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was."""
        self._restored = state_dict or None

    def _log(self, trainer: Trainer, values: dict[str, float]) -> None:
        """One row to every logger, and the values to where other callbacks find them."""
        if not values:
            return
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in values.items()})
        bar: dict[str, Any] = trainer.progress_bar_metrics  # the bars show text as it is
        bar.update({symbol: f"{values[key]:.3g}" for key, symbol in PROGRESS_BAR.items() if key in values})
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # noqa: SLF001 - the x axis of Lightning's own values
        for logger in trainer.loggers if trainer.is_global_zero else ():
            with self._running.guard(type(logger).__name__):
                logger.log_metrics(values, step)
        if self._overview is not None:
            with self._running.guard("the overview in W&B"):
                self._overview.grow(self._running.history.rows)
            for alarm in self._running.alarms if self._alerts else ():
                with self._running.guard("the alert in W&B"):
                    self._overview.run.alert("routing/health", alarm)


def _gradient_pairs(trainer: Trainer) -> GradientPairs:
    """What takes the gradients' norms in this training, whose gradients must be those of the loss."""
    if not trainer.lightning_module.automatic_optimization:
        raise ValueError("the critical batch size needs automatic optimization; in a loop of your own use a Monitor")
    if len(trainer.optimizers) != 1:
        raise ValueError(f"the critical batch size needs one optimizer, got {len(trainer.optimizers)}")
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ValueError("the critical batch size needs gradients that are not scaled; train in bf16 or full precision")
    return GradientPairs(trainer.strategy.model or trainer.lightning_module, trainer.accumulate_grad_batches)


def _prefix(trainer: Trainer) -> str:
    """What the W&B logger puts before each key."""
    return next((prefix for logger in trainer.loggers if (prefix := getattr(logger, "_prefix", ""))), "")


def _validates_a_fit(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _just_logged(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What this training step, or this validation, has logged: ``callback_metrics`` also has values from before."""
    results = trainer._results  # noqa: SLF001 - no other way
    return dict(results.metrics(on_step=trainer.training)["callback"]) if results else {}


@contextmanager
def _undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Random numbers and the modes of all modules as they were."""
    modes = {each: each.training for each in module.modules()}
    devices = sorted({p.device.index for p in module.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            for each, mode in modes.items():
                each.training = mode
