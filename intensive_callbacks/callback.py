"""IntensiveMetricsCallback: Lightning's events in, a Monitor's calls out. The only module that imports Lightning."""

from __future__ import annotations

import functools
import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import Callback

from intensive_callbacks.boundary import Boundary, Refused, at_boundary, remove_hooks, undisturbed, warn
from intensive_callbacks.functional.checks import as_fraction
from intensive_callbacks.monitor import batches
from intensive_callbacks.monitor.gradients import GradientPairs
from intensive_callbacks.monitor.monitor import Monitor, check_options
from intensive_callbacks.monitor.selection import select
from intensive_callbacks.sinks import ConsoleSink, FileSink, sinks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytorch_lightning import LightningModule, Trainer
    from torchmetrics import Metric

    from intensive_callbacks.monitor.history import History
    from intensive_callbacks.monitor.taps import RouterTap, Tap
    from intensive_callbacks.sinks import Sink


def _in_a_fit(event: Callable[..., None]) -> Callable[..., None]:
    """An event that is ignored where no Monitor runs: outside a fit, or where it could not be built."""
    reported = at_boundary(event)

    @functools.wraps(event)
    def ignored_without_monitor(callback: IntensiveMetricsCallback, *args: Any, **kwargs: Any) -> None:
        if callback.monitor is not None:
            reported(callback, *args, **kwargs)

    return ignored_without_monitor


PROGRESS_BAR = {"intensive/p3_score": "P3", "intensive/relevance_rate": "R3", "intensive/config_entropy": "CES"}


class IntensiveMetricsCallback(Callback):
    """Logs what a model's configuration delivers for what it costs, every N steps and after each validation.

    Values go to every logger of the Trainer, to ``trainer.callback_metrics`` (so that ModelCheckpoint can monitor
    them; list EarlyStopping after this callback) and a few to the progress bar. When training ends, every logger gets
    the final table, the overview and the router heatmap in the form it has for them, and so does a folder of files.
    Training is bit for bit what it is without the callback, and nothing that fails in it ends a run.

    Args:
        accuracy: a key of ``trainer.callback_metrics``, or ``accuracy(trainer, pl_module)``, run every N steps; a
            fraction in [0, 1]. ``None`` leaves out what needs an accuracy.
        every_n_steps: optimizer steps between two logged values.
        random_baseline: the accuracy of chance; ``"measure"`` takes it from the untrained model over the whole
            validation set; ``None`` leaves out what needs it.
        num_tokens: ``num_tokens(batch)``; by default counted from ``input_ids`` and ``attention_mask`` where there are
            any.
        mask: ``mask(batch)``, which of a batch's tokens are real, ``[B, S]``; by default that is read from the mask that
            the model is called with and the batch has.
        routers: which routers are observed: ``"auto"``, a pattern, ``{pattern: reader}`` or ``None``.
        taps: :class:`Tap` and :class:`RouterTap` objects: which signal inside the model feeds which metric.
        metrics: ``"default"``, or a list of symbols, keys and Metric objects: exactly these. In a list ``"default"``
            stands for all of the default.
        benchmark: baselines of the final table: ``"auto"``, ``"language"``, ``"vision"``, a path or ``None``.
        model_name: the model's name in the final table; the LightningModule's class by default.
        task: the task's name in the final table.
        per_layer: also log the routing values of every layer.
        observe: ``"sampled"`` collects what needs logits in steps that feed a logged value, ``"every_step"`` in all.
        strict: raise instead of warning when something cannot be measured.
        alert: also send what ``routing/health`` warns about in mid-training as a W&B alert.
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
        mask: Callable[[Any], torch.Tensor | None] | None = None,
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
            "mask": mask,
            "routers": routers,
            "taps": taps,
            "metrics": metrics,
            "benchmark": benchmark,
            "model_name": model_name,
            "task": task,
            "per_layer": per_layer,
            "observe": observe,
            "strict": strict,
            "alert": alert,
        }
        check_options(every_n_steps, self.options["random_baseline"], observe)
        select(metrics)
        self.monitor: Monitor | None = None
        self._boundary = Boundary(strict=strict)
        self._restored: Mapping[str, Any] | None = None
        self._num_validated: int | None = 0
        self._stale_accuracy: Any = None
        self._has_accuracy = False
        self._gradients: GradientPairs | None = None
        self._publishes = publish_dashboard
        self._state_key = self._generate_state_key(
            accuracy=_name(accuracy),
            metrics=metrics if isinstance(metrics, str) else [_name(each) for each in metrics],
            **{name: self.options[name] for name in ("every_n_steps", "model_name", "task", "per_layer")},
        )

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the state; two callbacks that measure different things have two."""
        return self._state_key

    @property
    def history(self) -> History:
        """The values logged so far."""
        return self._running.history

    @property
    def boundary(self) -> Boundary:
        """What everything that fails is reported to."""
        return self._boundary if self.monitor is None else self.monitor.boundary

    @property
    def _running(self) -> Monitor:
        if self.monitor is None:
            raise RuntimeError("the callback has no values yet: add it to a Trainer's callbacks and call fit")
        return self.monitor

    # Before training.

    @at_boundary
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask for a sanity check over the whole validation set where chance is to be measured."""
        if stage == "fit" and self.measures_baseline:
            trainer.num_sanity_val_steps = math.inf

    @at_boundary
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to observe the model, or go on."""
        if self.monitor is None or self.monitor.model is not pl_module:
            self.monitor = Monitor(pl_module, **self.options)
        if self._restored is not None:
            self.monitor.load_state_dict(self._restored)
            self._restored = None
        self.monitor.expect_validation(expected=bool(trainer.enable_validation))
        self._gradients = _gradient_pairs(trainer) if self.monitor.wants_gradients else None
        self.monitor.attach(announces_backward=True)

    @_in_a_fit
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the untrained model's routing out of the windows."""
        self._running.begin_validation()

    @_in_a_fit
    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an accuracy that cannot be used, and take the untrained one where it was asked for."""
        self._running.end_validation(keep=False)
        if not isinstance(self.accuracy, str) or "train" in self.accuracy:
            return
        known = trainer.callback_metrics
        if self.accuracy not in known:
            # Lightning shows nothing of several loaders before the first validation.
            if trainer.num_sanity_val_batches and len(trainer.num_sanity_val_batches) > 1:
                return
            raise Refused(
                f"accuracy={self.accuracy!r} is not logged in validation; there are {sorted(map(str, known))}. "
                "Log it with self.log(..., on_epoch=True), name another key, or pass accuracy=None"
            )
        try:
            value = float(as_fraction(f"the metric {self.accuracy!r}", float(known[self.accuracy])))
        except ValueError as error:
            raise Refused(str(error)) from error
        if self.measures_baseline:
            self._take_baseline(trainer, value)

    def _take_baseline(self, trainer: Trainer, value: float) -> None:
        if self._running.facts.random_baseline is None and (trainer.ckpt_path or trainer.global_step):
            warn(
                'random_baseline="measure" needs an untrained model, and this one goes on from a checkpoint: what '
                "needs the accuracy of chance is absent. Pass random_baseline= as a fraction"
            )
        else:
            self._running.measured_baseline(value)

    # Training.

    @_in_a_fit
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the loops are now, and forget what a learning rate finder or the like has run before."""
        self._running.begin_training(trainer.global_step)
        folder = self.boundary.call("choosing a folder for files", _folder, trainer)
        if trainer.is_global_zero:
            self._running.use_sinks(self._sinks(trainer, folder))

    def _sinks(self, trainer: Trainer, folder: Path | None) -> list[Sink]:
        sinks = sinks_of(trainer.loggers)
        for sink in sinks if self._publishes else ():
            self.boundary.call("publishing the dashboard", sink.publish)
        return [*sinks, ConsoleSink(), *([FileSink(folder, page=False)] if folder else [])]

    @_in_a_fit
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record a batch before its forward pass."""
        self._running.observe(batch, data_is_new=trainer.current_epoch == 0)
        if self._gradients is not None:
            self._gradients.begin_batch(batches.num_examples(batch))

    @_in_a_fit
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """The forward pass is over; hooks that fire from here on belong to recomputation."""
        self._running.begin_backward()

    @_in_a_fit
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The backward pass is over."""
        self._running.end_backward()
        if self._gradients is not None:
            self.boundary.call("observing the gradients", self._gradients.end_backward, off=self._ignore_gradients)

    @_in_a_fit
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Observe the gradients of a step, complete and not yet clipped."""
        if self._gradients is None:
            return
        pair = self.boundary.call("observing the gradients", self._gradients.step, off=self._ignore_gradients)
        if pair:
            self._running.observe_gradients(*pair)

    def _ignore_gradients(self) -> None:
        self._gradients = None

    @_in_a_fit
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what is due at this optimizer step."""
        step = trainer.global_step
        if self._running.has_news(step):
            due = self._running.is_due(step)
            self._log(trainer, self._accuracy_in_training(trainer, pl_module) if due else None, None)
        else:
            self._running.pass_over(step)

    def _accuracy_in_training(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        """From the callable, or from a key that training itself has just logged."""
        if isinstance(self.accuracy, str):
            return _just_logged(trainer).get(self.accuracy)
        if self.accuracy is None:
            return None
        with self._running.validation(), _modes_kept(pl_module), undisturbed():
            return self.boundary.call("the accuracy callable", self.accuracy, trainer, pl_module)

    # Validation.

    @_in_a_fit
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is validation."""
        if _validates_a_fit(trainer):
            self._num_validated = 0
            self._stale_accuracy = self._validated_accuracy(trainer)
            self._running.begin_validation()

    @_in_a_fit
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the examples that the accuracy stands for."""
        if trainer.state.fn == "fit":
            self._running.observe(batch, data_is_new=trainer.current_epoch == 0)
        if dataloader_idx > 0:
            self._num_validated = None  # of several sets nothing tells which the accuracy is over
        elif self._num_validated is not None:
            self._num_validated += batches.num_examples(batch)

    @_in_a_fit
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the validation gave, with its accuracy if it logged the one that is asked for."""
        if not _validates_a_fit(trainer):
            return
        self._running.end_validation()
        accuracy = self._validated_accuracy(trainer)
        if accuracy is self._stale_accuracy:
            accuracy = None
        if accuracy is None and isinstance(self.accuracy, str) and "train" not in self.accuracy:
            self._warn_about_accuracy(trainer, "is not logged in validation")
        self._log(trainer, accuracy, self._num_validated)

    def _validated_accuracy(self, trainer: Trainer) -> Any:
        """The newest value of the key; Lightning replaces the tensor when a validation logs it again."""
        return trainer.callback_metrics.get(self.accuracy) if isinstance(self.accuracy, str) else None

    def _warn_about_accuracy(self, trainer: Trainer, what: str) -> None:
        if not self._has_accuracy:
            known = sorted(key for key in map(str, trainer.callback_metrics) if not key.startswith(OURS))
            self.boundary.warn(
                "the accuracy's key",
                f"accuracy={self.accuracy!r} {what} (logged: {', '.join(known) or 'nothing'}); what needs an accuracy "
                "is not computed. Log it with self.log(..., on_epoch=True), name another key, or pass accuracy=None",
            )

    # The end.

    @_in_a_fit
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the window that is still open, the overview and the final table."""
        self._log(trainer, None, None, ends=True)
        self._running.detach()
        if isinstance(self.accuracy, str):
            self._warn_about_accuracy(trainer, "was never logged at a step that values are due at, or in validation")
        if trainer.is_global_zero:
            self.boundary.call("the final table", self._running.finish)

    @_in_a_fit
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook behind; the final table is of what there is."""
        self._stop_observing()
        if not self._running.history.newest():
            return
        if trainer.world_size == 1:  # the others may not come here
            self._log(trainer, None, None, ends=True)
        if trainer.is_global_zero:
            self.boundary.call("the final table", self._running.finish)

    @_in_a_fit
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no hook behind."""
        self._stop_observing()

    def _stop_observing(self) -> None:
        if self.monitor is None:
            return
        try:
            self.monitor.detach()
        finally:
            remove_hooks(self.monitor.model)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that history and final table go on where they were."""
        if self.monitor is None:
            return {}
        return self.boundary.call("saving the state", self.monitor.state_dict) or {}

    @at_boundary
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was: at once in mid-training, otherwise when training starts."""
        if self.monitor is not None and self.monitor.is_attached:
            self.monitor.load_state_dict(state_dict)
        else:
            self._restored = state_dict or None

    def _log(self, trainer: Trainer, accuracy: Any, num_examples: int | None, *, ends: bool = False) -> None:
        """One row to every sink, and the values to where other callbacks find them."""
        self._has_accuracy = self._has_accuracy or accuracy is not None
        # The x axis of Lightning's own values; at the end the last batch is counted already.
        x = trainer.fit_loop.epoch_loop._batches_that_stepped - ends  # noqa: SLF001 - there is no public one
        running = self._running
        values = running.end_training(x=x) if ends else running.log(trainer.global_step, accuracy, num_examples, x=x)
        if not values:
            return
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in values.items()})
        bar: dict[str, Any] = trainer.progress_bar_metrics  # the bars show text as it is
        bar.update({symbol: f"{values[key]:.3g}" for key, symbol in PROGRESS_BAR.items() if key in values})


OURS = ("intensive/", "routing/", "routing_by_layer/", "baseline/", "cost/")


def _gradient_pairs(trainer: Trainer) -> GradientPairs:
    """What takes the gradients' norms in this training, whose gradients must be those of the loss."""
    if not trainer.lightning_module.automatic_optimization:
        raise Refused("the critical batch size needs automatic optimization; in a loop of your own use a Monitor")
    if len(trainer.optimizers) != 1:
        raise Refused(f"the critical batch size needs one optimizer, got {len(trainer.optimizers)}")
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise Refused("the critical batch size needs gradients that are not scaled; train in bf16 or full precision")
    return GradientPairs(trainer.strategy.model or trainer.lightning_module, trainer.accumulate_grad_batches)


def _folder(trainer: Trainer) -> Path | None:
    """Where the files of a run go: beside its logger's, as ModelCheckpoint's do."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined] # Lightning sets it aside
        return None
    if not trainer.loggers:
        return Path(trainer.default_root_dir) / FOLDER
    logger = trainer.loggers[0]
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or trainer.default_root_dir) / str(logger.name) / version / FOLDER


FOLDER = "intensive_metrics"


def _validates_a_fit(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _just_logged(trainer: Trainer) -> dict[str, torch.Tensor]:
    """What this training step has logged: ``callback_metrics`` also has values from before."""
    results = trainer._results  # noqa: SLF001 - no other way
    return dict(results.metrics(on_step=True)["callback"]) if results else {}


def _name(chosen: Any) -> str:
    return chosen if isinstance(chosen, str) else getattr(chosen, "__name__", type(chosen).__name__)


@contextmanager
def _modes_kept(module: torch.nn.Module) -> Iterator[None]:
    """The modes of all modules are afterwards as they were."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        yield
    finally:
        for each, mode in modes:
            vars(each)["training"] = mode
