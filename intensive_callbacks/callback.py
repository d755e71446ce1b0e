"""IntensiveMetricsCallback: Lightning's events in, a Monitor's calls out. The only module that imports Lightning."""

from __future__ import annotations

import functools
import math
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.boundary import Boundary, Refused, at_boundary, remove_hooks, undisturbed, warn
from intensive_callbacks.functional.checks import as_fraction
from intensive_callbacks.monitor import batches
from intensive_callbacks.monitor.monitor import Monitor
from intensive_callbacks.monitor.options import check_options, split_baseline
from intensive_callbacks.monitor.selection import select
from intensive_callbacks.sinks import ConsoleSink, FileSink, sinks_of
from intensive_callbacks.trainer_state import (
    ScoredItems,
    folder_of,
    gradient_pairs,
    just_logged,
    modes_kept,
    parts_of,
    validates_a_fit,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.callbacks import Callback
    from torchmetrics import Metric

    from intensive_callbacks.monitor.gradients import GradientPairs
    from intensive_callbacks.monitor.history import History
    from intensive_callbacks.monitor.taps import RouterTap, Tap
    from intensive_callbacks.sinks import Sink

    Base = Callback

# Lightning comes in two packages, and the command line of each takes only callbacks that derive from its own.
PACKAGES = ("pytorch_lightning", "lightning.pytorch")


def _bases() -> list[type]:
    """The class of callbacks in each package that is loaded."""
    return [import_module(f"{name}.callbacks").Callback for name in PACKAGES if name in sys.modules]


if not TYPE_CHECKING:
    if not _bases():
        import_module(PACKAGES[0])

    class Base(*_bases()):
        """A callback of every package that was loaded before this module."""


def _in_a_fit(event: Callable[..., None]) -> Callable[..., None]:
    """An event that is ignored where no Monitor runs: outside a fit, or where it could not be built."""
    reported = at_boundary(event)

    @functools.wraps(event)
    def ignored_without_monitor(callback: IntensiveMetricsCallback, *args: Any, **kwargs: Any) -> None:
        if callback.monitor is not None:
            reported(callback, *args, **kwargs)

    return ignored_without_monitor


PROGRESS_BAR = {"intensive/p3_score": "P3", "intensive/relevance_rate": "R3", "intensive/config_entropy": "CES"}


class IntensiveMetricsCallback(Base):
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
        num_tokens: ``num_tokens(batch)``, ``None`` for a batch without tokens; by default counted from ``input_ids``
            and ``attention_mask``, or from integer sequences with a label for each position, where there are any.
        num_examples: ``num_examples(batch)``; by default the first dimension of its first tensor, of the batches of
            several loaders their sum.
        mask: ``mask(batch)``, the real tokens of a batch, ``[B, S]``; by default read from the mask that the model is
            called with and the batch has.
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
        process_group: the processes that train the model; by default all there are.
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
        num_tokens: Callable[[Any], int | None] | None = None,
        num_examples: Callable[[Any], int] | None = None,
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
        process_group: Any = None,
        publish_dashboard: bool = False,
    ) -> None:
        metrics = metrics if isinstance(metrics, str) else list(metrics)
        given_baseline, self.measures_baseline = split_baseline(random_baseline)
        self.accuracy = accuracy
        self.every_n_steps = every_n_steps
        self.options: dict[str, Any] = {
            "every_n_steps": every_n_steps,
            "random_baseline": given_baseline,
            "num_tokens": num_tokens,
            "num_examples": num_examples,
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
            "process_group": process_group,
        }
        check_options(every_n_steps, given_baseline, observe)
        select(metrics)
        self.monitor: Monitor | None = None
        self._boundary = Boundary(strict=strict)
        self._restored: Mapping[str, Any] | None = None
        self._scored: ScoredItems | None = None
        self._num_batches = self._first_step = 0
        self._stale_accuracy: Any = None
        self._has_accuracy = self._has_validated = False
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
        """The boundary that failures are reported to."""
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
        """Register the hooks, and restore from a checkpoint."""
        if self.monitor is None or self.monitor.model is not pl_module:
            self.monitor = Monitor(pl_module, **self.options)
        if self._restored is not None:
            self.monitor.load_state_dict(self._restored)
            self._restored = None
        self.monitor.expect_validation(expected=bool(trainer.enable_validation))
        self._gradients = gradient_pairs(trainer) if self.monitor.wants_gradients else None
        self.monitor.attach(calls_begin_backward=True)

    @_in_a_fit
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the sanity check apart from the training."""
        self._running.begin_validation()

    @_in_a_fit
    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an accuracy that cannot be used, and take the untrained one where it was asked for."""
        self._running.end_validation(keep=False)
        if not isinstance(self.accuracy, str) or "train" in self.accuracy:
            return
        if trainer.world_size > 1 and not self._has_validated:
            return  # this process has no share of the validation data
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
            self._running.measured_baseline(value, self._scored.num_examples if self._scored else None)

    # Training.

    @_in_a_fit
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the loops are now, and drop what a learning rate finder or the like has run before."""
        self._running.begin_training(trainer.global_step)
        self._num_batches, self._first_step = 0, trainer.global_step
        folder = self.boundary.call("choosing a folder for files", folder_of, trainer)
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
        parts = self.boundary.call("the batches of several loaders", parts_of, trainer, batch) or []
        self._running.observe(batch, data_is_new=trainer.current_epoch == 0, parts=parts)
        if self._gradients is not None:
            self._gradients.begin_batch(sum(map(batches.num_examples, parts or [batch])))

    @_in_a_fit
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Ignore hooks: they belong to recomputation until the backward pass ends."""
        self._running.begin_backward()

    @_in_a_fit
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect forward passes again."""
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
        self._num_batches += 1
        if self._num_batches == self.every_n_steps:
            self._warn_about_raw_optimizers(trainer)
        if self._running.has_news(step):
            due = self._running.is_due(step)
            self._log(trainer, self._accuracy_in_training(trainer, pl_module) if due else None)
        else:
            self._running.pass_over(step)

    def _accuracy_in_training(self, trainer: Trainer, pl_module: LightningModule) -> Any:
        """From the callable, or from a key that training itself has just logged."""
        if isinstance(self.accuracy, str):
            return just_logged(trainer).get(self.accuracy)
        if self.accuracy is None:
            return None
        with self._running.validation(), modes_kept(pl_module), undisturbed():
            return self.boundary.call("the accuracy callable", self.accuracy, trainer, pl_module)

    def _warn_about_raw_optimizers(self, trainer: Trainer) -> None:
        """In manual optimization Lightning counts the steps of its own optimizers alone."""
        if (
            self._num_batches
            and trainer.global_step == self._first_step
            and not trainer.lightning_module.automatic_optimization
        ):
            self.boundary.warn(
                "raw optimizers",
                f"no optimizer step was counted in {self._num_batches} training batches, so that no values every "
                f"{self.every_n_steps} steps are logged. In manual optimization step the optimizers that "
                "self.optimizers() returns",
            )

    # Validation.

    @_in_a_fit
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the validation apart from the training."""
        if trainer.state.fn == "fit":
            self._scored = ScoredItems(self.accuracy) if isinstance(self.accuracy, str) else None
        if validates_a_fit(trainer):
            self._stale_accuracy = self._validated_accuracy(trainer)
            self._running.begin_validation()

    @_in_a_fit
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show the batch to router taps."""
        if trainer.state.fn == "fit":
            self._has_validated = True
            self._running.observe(batch, data_is_new=trainer.current_epoch == 0)

    @_in_a_fit
    def on_validation_batch_end(  # noqa: PLR0917 - Lightning passes them by position
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the answers that the accuracy is a share of."""
        if self._scored is not None and trainer.state.fn == "fit":
            off = self._ignore_scored
            self.boundary.call("counting the answers", self._scored.add, trainer, batch, dataloader_idx, off=off)

    def _ignore_scored(self) -> None:
        self._scored = None

    @_in_a_fit
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the validation gave, with its accuracy if it logged the one that is asked for."""
        if not validates_a_fit(trainer):
            return
        self._running.end_validation()
        accuracy, scored = self._validated_accuracy(trainer), self._scored
        if accuracy is self._stale_accuracy:
            accuracy = None
        if accuracy is None and isinstance(self.accuracy, str) and "train" not in self.accuracy:
            self._warn_about_accuracy(trainer, "is not logged in validation")
        number = None
        if accuracy is not None and scored is not None:
            count = scored.count, accuracy, trainer.world_size
            number = self.boundary.call("counting the answers", *count, off=self._ignore_scored)
        weight = scored.num_examples if scored else None
        self._log(trainer, accuracy, number, weight, together=True)

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
        self._warn_about_raw_optimizers(trainer)
        has_callable = callable(self.accuracy) and self._running.has_open_window
        self._log_end(trainer, self._accuracy_in_training(trainer, pl_module) if has_callable else None)
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
            self._log_end(trainer, None)
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
        """What a checkpoint needs, so that a resumed training is one that was never interrupted."""
        if self.monitor is None or self._restored is not None:
            return dict(self._restored or {})
        return self.boundary.call("saving the state", self.monitor.state_dict) or {}

    @at_boundary
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore from a checkpoint: at once in mid-training, otherwise when training starts."""
        if self.monitor is not None and self.monitor.is_attached:
            self.monitor.load_state_dict(state_dict)
        else:
            self._restored = state_dict or None

    def _log(
        self,
        trainer: Trainer,
        accuracy: Any,
        num_examples: int | None = None,
        weight: float | None = None,
        *,
        together: bool = False,
    ) -> None:
        """Log what is due at this step, at the x of Lightning's own values."""
        self._has_accuracy = self._has_accuracy or accuracy is not None
        step, x = trainer.global_step, _batches_that_stepped(trainer)
        self._publish(trainer, self._running.log(step, accuracy, num_examples, weight=weight, x=x, together=together))

    def _log_end(self, trainer: Trainer, accuracy: Any) -> None:
        """Log the window that is still open; at the end the last batch is counted already."""
        self._publish(trainer, self._running.end_training(accuracy, x=_batches_that_stepped(trainer) - 1))

    def _publish(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Put the values where other callbacks and the progress bar find them."""
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in values.items()})
        bar: dict[str, Any] = trainer.progress_bar_metrics  # the bars show text as it is
        bar.update({symbol: f"{values[key]:.3g}" for key, symbol in PROGRESS_BAR.items() if key in values})


def callback_class() -> type[IntensiveMetricsCallback]:
    """The class as a callback of every package of Lightning that is loaded by now."""
    later = tuple(base for base in _bases() if not issubclass(IntensiveMetricsCallback, base))
    return _derived(later) if later else IntensiveMetricsCallback


@functools.cache
def _derived(bases: tuple[type, ...]) -> type[IntensiveMetricsCallback]:
    attributes = {"__doc__": IntensiveMetricsCallback.__doc__, "__module__": __package__}
    return type(IntensiveMetricsCallback.__name__, (IntensiveMetricsCallback, *bases), attributes)


OURS = ("intensive/", "routing/", "routing_by_layer/", "baseline/", "cost/")


def _batches_that_stepped(trainer: Trainer) -> int:
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)  # noqa: SLF001 - there is no public one


def _name(chosen: Any) -> str:
    return chosen if isinstance(chosen, str) else getattr(chosen, "__name__", type(chosen).__name__)
