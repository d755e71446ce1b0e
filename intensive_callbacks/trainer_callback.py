"""IntensiveTrainerCallback: the events of ``transformers.Trainer`` in, a Monitor's calls out."""

# ruff: noqa: ARG002 - the Trainer passes them by position

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from intensive_callbacks.boundary import Boundary, Hook, Refused, at_boundary, remove_hooks, warn
from intensive_callbacks.functional.checks import as_fraction
from intensive_callbacks.monitor.monitor import Monitor
from intensive_callbacks.monitor.options import MonitorOptions, check_options, split_baseline
from intensive_callbacks.monitor.selection import select
from intensive_callbacks.sinks import ConsoleSink, FileSink, MlflowSink, Sink, TensorBoardSink, WandbSink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from torch import nn
    from torch.utils.hooks import RemovableHandle
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from intensive_callbacks.monitor.history import History

STATE_FILE = "intensive_callbacks.pt"
FOLDER = "intensive_metrics"


class IntensiveTrainerCallback(TrainerCallback):  # type: ignore[misc, unused-ignore] # where transformers is not typed
    """What :class:`IntensiveMetricsCallback` does, in a ``transformers.Trainer`` and what derives from it.

    Values go, every N steps and after each evaluation, to the trackers of ``report_to`` (W&B, TensorBoard, MLflow) and
    into ``state.log_history``. When training ends, the trackers get the final table, the overview and the router
    heatmap in the form they have for them, and so does the folder ``intensive_metrics`` in ``output_dir``. Training is
    bit for bit what it is without the callback, and nothing that fails in it ends a run. A training that ends with an
    exception leaves the hooks on the model until the next one begins, since the Trainer has no event for it.

    Args:
        accuracy: the key of the metrics of an evaluation that is the accuracy, a fraction in [0, 1], with its prefix:
            ``compute_metrics`` that returns ``{"accuracy": ...}`` gives ``"eval_accuracy"``. ``None`` leaves out what
            needs an accuracy.
        random_baseline: the accuracy of chance; ``"measure"`` evaluates the untrained model first and takes its
            accuracy; ``None`` leaves out what needs it.
        options: the other arguments of :class:`Monitor`, less ``sinks``.

    Raises:
        TypeError: if an argument is not known.
        ValueError: if an argument cannot be used.

    Example:
        >>> callback = IntensiveTrainerCallback(accuracy="eval_accuracy", every_n_steps=100, random_baseline=0.25)
        >>> callback.accuracy  # and then: Trainer(..., callbacks=[callback])
        'eval_accuracy'
    """

    def __init__(
        self,
        accuracy: str | None = "eval_accuracy",
        *,
        random_baseline: float | str | None = None,
        **options: Unpack[MonitorOptions],
    ) -> None:
        if unknown := options.keys() - MonitorOptions.__annotations__.keys():
            known = ", ".join(sorted(MonitorOptions.__annotations__))
            raise TypeError(f"unknown arguments {', '.join(sorted(unknown))}; there are {known}")
        self.accuracy = accuracy
        given_baseline, self.measures_baseline = split_baseline(random_baseline)
        metrics = options.get("metrics", "default")
        metrics = metrics if isinstance(metrics, str) else list(metrics)
        self.options: dict[str, Any] = {**options, "random_baseline": given_baseline, "metrics": metrics}
        check_options(options.get("every_n_steps", 50), given_baseline, options.get("observe", "sampled"))
        select(metrics)
        self.monitor: Monitor | None = None
        self._boundary = Boundary(strict=options.get("strict", False))
        self._batches: RemovableHandle | None = None
        self._validates = self._is_new_data = False

    @property
    def history(self) -> History:
        """The values logged so far."""
        if self.monitor is None:
            raise RuntimeError("the callback has no values yet: add it to a Trainer's callbacks and call train")
        return self.monitor.history

    @property
    def boundary(self) -> Boundary:
        """The boundary that failures are reported to."""
        return self._boundary if self.monitor is None else self.monitor.boundary

    @at_boundary
    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Count the parameters before the model is wrapped, and ask for an evaluation of the untrained model."""
        if self.measures_baseline:
            vars(args)["eval_on_start"] = True
        if model is not None:
            self.monitor = Monitor(model, **self.options)

    @at_boundary
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        """Register the hooks, and restore from the checkpoint that the training goes on from."""
        self._stop_observing()
        if self.monitor is None or self.monitor.model is not model:
            self.monitor = Monitor(model, **self.options)
        if state.global_step:
            self._restore(args, state.global_step)
        self.monitor.expect_validation(expected=args.eval_strategy != "no")
        self.monitor.attach()
        hook = Hook(self.boundary.call, "observing a batch", self._observe, off=self._ignore_batches)
        self._batches = model.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
        self._validates = False
        self.monitor.begin_training(state.global_step)
        if state.is_world_process_zero:
            self.monitor.use_sinks(
                [*_trackers(args), ConsoleSink(), FileSink(Path(args.output_dir) / FOLDER, page=False)]
            )

    def _restore(self, args: TrainingArguments, step: int) -> None:
        given = args.resume_from_checkpoint
        folders = [Path(given)] if isinstance(given, str) else []
        for folder in (*folders, Path(args.output_dir) / f"checkpoint-{step}"):
            if (folder / STATE_FILE).is_file() and self.monitor is not None:
                self.monitor.load_state_dict(torch.load(folder / STATE_FILE, weights_only=True))
                return
        warn(f"no {STATE_FILE} in the checkpoint of step {step}: what was logged before it is not in the final table")

    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it unannotated
    def _observe(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Record a batch before its forward pass; the first one in evaluation mode begins an evaluation."""
        if self.monitor is None:
            return
        if not model.training and not self._validates:
            self._validates = True
            self.monitor.begin_validation()
        self.monitor.observe(dict(kwargs) or args, data_is_new=self._is_new_data)

    def _ignore_batches(self) -> None:
        if self._batches is not None:
            self._batches.remove()
            self._batches = None

    @at_boundary
    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Examples are new in the first epoch."""
        self._is_new_data = not state.epoch or state.epoch < 1

    @at_boundary
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Log what is due at this optimizer step."""
        if self.monitor is None:
            return
        if self.monitor.has_news(state.global_step):
            self._log(state, None)
        else:
            self.monitor.pass_over(state.global_step)

    @at_boundary
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Log what the evaluation gave, with its accuracy."""
        if self.monitor is None or not self._validates:  # called by the user, outside of a training
            return
        self._validates = False
        known = metrics or {}
        if self.measures_baseline and not state.global_step:
            self.monitor.end_validation(keep=False)
            self._take_baseline(known)
            return
        self.monitor.end_validation()
        if self.accuracy is not None and self.accuracy not in known:
            self.boundary.warn(
                "the accuracy's key",
                f"accuracy={self.accuracy!r} is not among the metrics of the evaluation ({', '.join(sorted(known))}); "
                "what needs an accuracy is not computed. Return it from compute_metrics, name another key, or pass "
                "accuracy=None",
            )
        # All processes evaluate, and each has the metrics of all examples.
        self._log(state, known.get(self.accuracy) if self.accuracy else None, together=True)

    def _take_baseline(self, metrics: Mapping[str, Any]) -> None:
        if self.monitor is None or self.accuracy is None:
            return
        if self.accuracy not in metrics:
            raise Refused(f"accuracy={self.accuracy!r} is not among the metrics {sorted(metrics)}")
        self.monitor.measured_baseline(
            float(as_fraction(f"the metric {self.accuracy!r}", float(metrics[self.accuracy])))
        )

    @at_boundary
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what a resumed training needs into the checkpoint's folder."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.monitor is not None and state.is_world_process_zero and folder.is_dir():
            torch.save(self.monitor.state_dict(), folder / STATE_FILE)

    @at_boundary
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Log the window that is still open, the overview and the final table."""
        if self.monitor is None:
            return
        self._publish(state, self.monitor.end_training())
        self._stop_observing()
        if state.is_world_process_zero:
            self.boundary.call("the final table", self.monitor.finish)

    def _stop_observing(self) -> None:
        if self.monitor is None:
            return
        self._ignore_batches()
        try:
            self.monitor.detach()
        finally:
            remove_hooks(self.monitor.model)

    def _log(self, state: TrainerState, accuracy: Any, *, together: bool = False) -> None:
        if self.monitor is not None:
            self._publish(state, self.monitor.log(state.global_step, accuracy, together=together))

    def _publish(self, state: TrainerState, values: Mapping[str, float]) -> None:
        """Put the values where the Trainer keeps what it logs."""
        if values:
            state.log_history.append({**values, "epoch": state.epoch, "step": state.global_step})


def _trackers(args: TrainingArguments) -> list[Sink]:
    """A sink for each tracker that the Trainer reports to and whose run is known."""
    names = args.report_to or []
    sinks: list[Sink] = []
    if "wandb" in names:
        import wandb

        if wandb.run is not None:
            sinks.append(WandbSink(wandb.run))
    if "tensorboard" in names:
        from torch.utils.tensorboard import SummaryWriter

        sinks.append(TensorBoardSink(SummaryWriter(_tensorboard_folder(args))))
    if "mlflow" in names:
        import mlflow  # type: ignore[import-not-found, unused-ignore]

        if run := mlflow.active_run():
            sinks.append(MlflowSink(mlflow.MlflowClient(), run.info.run_id))
    return sinks


def _tensorboard_folder(args: TrainingArguments) -> str:
    """Where the Trainer's own writer puts its events: TensorBoard shows all files of a folder as one run."""
    if given := os.getenv("TENSORBOARD_LOGGING_DIR"):
        return str(Path(given).expanduser())
    runs = [path for path in (Path(args.output_dir) / "runs").glob("*") if path.is_dir()]
    return str(max(runs, key=lambda path: path.stat().st_mtime, default=Path(args.output_dir) / "runs" / FOLDER))
