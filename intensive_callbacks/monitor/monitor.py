"""Monitor: watches a model while it trains and says, every N steps, what its configuration delivers for its cost.

It knows nothing of Lightning: a plain loop can drive it. Each logging step goes one way: a :class:`Window` of what the
hooks accumulated is reduced over all processes, evaluated with the :class:`ModelFacts` and handed to the sinks.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intensive_callbacks.boundary import Boundary, Refused, remove_hooks, warn
from intensive_callbacks.dashboards.tables import overview_is_due
from intensive_callbacks.distributed import Processes, ProcessesDisagree
from intensive_callbacks.footprint.parameters import parameter_fingerprint
from intensive_callbacks.functional.checks import require_baseline
from intensive_callbacks.monitor.collector import Collector
from intensive_callbacks.monitor.counting import BatchCounter
from intensive_callbacks.monitor.evaluate import Results, evaluate
from intensive_callbacks.monitor.facts import ModelFacts
from intensive_callbacks.monitor.feeds import Feeds
from intensive_callbacks.monitor.final_table import final_table
from intensive_callbacks.monitor.history import Heatmap, History
from intensive_callbacks.monitor.options import check_options, refuse_what_cannot_be_measured
from intensive_callbacks.monitor.reports import Reports
from intensive_callbacks.monitor.selection import select
from intensive_callbacks.monitor.sharing import Share, share_of
from intensive_callbacks.monitor.window import UNKNOWN, Quality, Window
from intensive_callbacks.routing.coverage import describe_coverage
from intensive_callbacks.routing.health import RoutingHealth
from intensive_callbacks.routing.observer import RouterObserver
from intensive_callbacks.sinks.group import SinkGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from torch import Tensor, nn
    from torchmetrics import Metric

    from intensive_callbacks.benchmark.table import BenchmarkTable
    from intensive_callbacks.monitor.taps import RouterTap, Tap
    from intensive_callbacks.routing.sums import RoutingSums
    from intensive_callbacks.sinks.base import Sink

# What a process may be unable to read, in words.
LOST = {
    "counts": "the examples, tokens and costs",
    "training": "the routers' sums of training",
    "validation": "the routers' sums of the validation",
    "quality": "the accuracies",
}
MANY_TENSORS = 5000  # whose walk takes longer than all else of a logging step
STATE = ("step", "last_due", "history", "heatmap", "facts", "errors", "window")


class Monitor:
    """Measures a model in training, driven by any loop.

    Args:
        model: the model that trains.
        every_n_steps: optimizer steps between two logged values.
        random_baseline: the accuracy of chance; what needs it is absent without it.
        num_tokens: ``num_tokens(batch)``, ``None`` for a batch without tokens; by default counted from ``input_ids``
            and ``attention_mask``, or from integer sequences with a label for each position, where there are any.
        num_examples: ``num_examples(batch)``; by default the first dimension of its first tensor.
        mask: ``mask(batch)``, the real tokens of a batch, ``[B, S]``; by default read from the mask that the model is
            called with and the batch has.
        routers: which routers are observed, as :class:`RouterObserver` takes it; ``None`` for none.
        taps: :class:`Tap` and :class:`RouterTap` objects.
        metrics: ``"default"``, or a list of symbols, keys and Metric objects: exactly these. In a list ``"default"``
            stands for all of the default.
        benchmark: baselines of the final table: ``"auto"``, ``"language"``, ``"vision"``, a path or ``None``.
        model_name: the model's name in the final table; its class by default.
        task: the task's name in the final table.
        per_layer: also give the routing values of every layer.
        observe: ``"sampled"`` collects what needs logits in steps that feed a logged value, ``"every_step"`` in all.
        strict: raise instead of warning when something cannot be measured.
        sinks: where values, final table, charts and alerts go.
        alert: also send the findings about routers in mid-training to the sinks as alerts.
        process_group: the processes that train this model; by default all there are.

    Raises:
        KeyError: if a metric's name is not known.
        ValueError: if another argument cannot be used. No hook is registered then.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from intensive_callbacks import Monitor
        >>> model, inputs = nn.Linear(4, 2), torch.ones(8, 4)
        >>> with Monitor(model, every_n_steps=10, random_baseline=0.5) as monitor:
        ...     for step in range(1, 21):
        ...         monitor.observe(inputs)
        ...         _ = model(inputs)  # and the backward pass and the optimizer's step
        ...         values = monitor.log(step, accuracy=0.75 if step % 10 == 0 else None)
        >>> round(values["intensive/relevance_rate"], 6)  # dense: 1 x 0.75 / 0.5
        1.5
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every_n_steps: int = 50,
        random_baseline: float | None = None,
        num_tokens: Callable[[Any], int | None] | None = None,
        num_examples: Callable[[Any], int] | None = None,
        mask: Callable[[Any], Tensor | None] | None = None,
        routers: Any = "auto",
        taps: Sequence[Tap | RouterTap] = (),
        metrics: str | Iterable[str | Metric] = "default",
        benchmark: str | None = "auto",
        model_name: str | None = None,
        task: str | None = None,
        per_layer: bool = False,
        observe: str = "sampled",
        strict: bool = False,
        sinks: Sequence[Sink] = (),
        alert: bool = False,
        process_group: Any = None,
    ) -> None:
        check_options(every_n_steps, random_baseline, observe)
        self.model = model
        self.every_n_steps = every_n_steps
        self.benchmark, self.model_name, self.task = benchmark, model_name or type(model).__name__, task
        self.boundary = Boundary(strict=strict)
        self.history, self.heatmap, self.health = History(), Heatmap(), RoutingHealth()
        self.alarms: list[str] = []
        self._processes, self._is_off, self._measured = Processes(process_group), False, Quality()
        self._differed: set[str] = set()
        self._sinks = SinkGroup(sinks, self.boundary)
        self.selected = select(metrics)
        self.reports = Reports(self.selected, self.boundary)
        self.facts = ModelFacts(random_baseline=random_baseline)
        self.observer = self._observer(routers)
        self._every_step, self._per_layer, self._alerts = observe == "every_step", per_layer, alert
        self._fingerprint: Any = None
        self._num_counts = 0
        self._count()
        has_router = bool(self.layers) or bool(self.boundary.failed)
        refuse_what_cannot_be_measured(self.selected, self.facts.by_argument, has_router=has_router)
        layers = {layer.name: layer.num_classes for layer in self.layers}
        self.feeds = Feeds(
            model,
            taps=taps,
            selected=self.selected,
            layers=layers,
            facts=lambda: self.facts.by_argument,
            boundary=self.boundary,
        )
        self.counter = BatchCounter(num_examples, num_tokens, self.boundary)
        self.collector = Collector(model, self.observer, self.feeds, self.counter, mask=mask, boundary=self.boundary)
        self._last_routing: RoutingSums | None = None
        self._step, self._increment, self._last_due = 0, 1, 0
        self._resumed_at: int | None = None
        self._before_the_end: Mapping[str, Any] | None = None
        self._data_is_new = False
        self._is_baseline_logged = False
        self._num_rows = 0
        self._held: tuple[Any, int | None, float | None] = (None, None, None)

    def _observer(self, routers: Any) -> RouterObserver | None:
        if routers is None:
            return None
        if routers != "auto":  # what the user wrote is refused where it does not fit
            try:
                return RouterObserver(self.model, routers, boundary=self.boundary)
            except ValueError as error:
                raise Refused(str(error)) from error
        return self.boundary.call("finding the routers", RouterObserver, self.model, routers, boundary=self.boundary)

    @property
    def is_attached(self) -> bool:
        """Whether the hooks are registered."""
        return self.collector.is_attached

    def expect_validation(self, *, expected: bool) -> None:
        """Declare whether the training has validations; otherwise the first one shows it."""
        self.collector.expect_validation(expected=expected)

    @property
    def layers(self) -> Sequence[Any]:
        """The mixtures of experts that are observed."""
        return self.observer.layers if self.observer else ()

    def _count(self) -> None:
        """Count the parameters, again where the model has grown or shrunk."""
        fingerprint = self.boundary.call("counting the parameters", parameter_fingerprint, self.model)
        if fingerprint is not None and fingerprint == self._fingerprint:
            return
        self._fingerprint = fingerprint
        counted = self.boundary.call("counting the parameters", self.facts.counted, self.model, self.layers)
        self.facts = self.facts.uncounted() if counted is None else counted

    def _count_again(self) -> None:
        """Count where the model has changed; one of very many modules is walked only at every eighth logging step."""
        self._num_counts += 1
        num_tensors = self._fingerprint[0] if self._fingerprint else 0
        if num_tensors < MANY_TENSORS or self._num_counts % 8 == 1:
            self._count()

    def attach(self, *, calls_begin_backward: bool = False) -> None:
        """Register the hooks; a second call does nothing.

        Args:
            calls_begin_backward: whether the loop calls :meth:`begin_backward` after every forward pass.
        """
        self.boundary.call("registering the hooks", self.collector.attach, calls_begin_backward=calls_begin_backward)

    def detach(self) -> None:
        """Remove every hook; if that fails, remove the remaining ones one by one."""
        if not self._is_off and self.boundary.call("asking the processes", lambda: self._processes.were_left):
            self._switch_off()
            self.boundary.warn(
                "logging",
                "another process waited in vain for this one to log, and nothing is logged since; call log() on every "
                "process at the same steps",
            )
        if "removing the hooks" in self.boundary.failed:
            return
        self.boundary.call("removing the hooks", self.collector.detach, off=lambda: remove_hooks(self.model))

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.detach()
        self.boundary.call("reporting the differences", self._report_differences)
        if kind is None and not self._is_off:
            self.boundary.call("reporting what is absent", self.reports.warn_about_missing)

    # Where the loop is.

    def begin_training(self, step: int) -> None:
        """Count from this optimizer step on, and drop what has run before.

        After a checkpoint of this step was restored, its open windows go on instead, as do those of a training that
        ended at this step. A step below the last one begins a new training: the history of the one before is dropped.
        """
        if self._before_the_end is not None and step == self._step:
            self.load_state_dict({**self._before_the_end, "history": self.history.state_dict()})
        if self._resumed_at == step:
            self.collector.start_clock()
        else:
            if step < self._step:
                self._begin_anew()
            self._last_due = step
            self.facts = self.facts.restarted(step)
            self.collector.restart()
        self._step, self._resumed_at, self._before_the_end = step, None, None

    def _begin_anew(self) -> None:
        if self.history.newest():
            warn(f"a new training begins after step {self._step}: the history and final table are those of the new one")
        self._held = None, None, None
        self.history, self.heatmap, self.health = History(), Heatmap(), RoutingHealth()
        self.reports, self._last_routing = Reports(self.selected, self.boundary), None
        self.facts = ModelFacts(random_baseline=self.facts.random_baseline)
        self._fingerprint, self._is_baseline_logged, self._num_rows = None, False, 0
        self._count()

    def measured_baseline(self, accuracy: float, weight: float | None = None) -> None:
        """Use the untrained model's accuracy as the accuracy of chance, unless chance is known.

        In a distributed run every process calls it before the first ``log``, which then has the mean over all of them.

        Args:
            accuracy: a fraction in [0, 1].
            weight: its weight in the mean over processes, such as the number of examples.
        """
        if self.facts.random_baseline is None and self._processes.are_several:
            self._measured = Quality.of(accuracy, weight=weight)
        elif self.facts.random_baseline is None:
            with self.boundary.guard("the measured baseline"):
                self.facts = replace(self.facts, random_baseline=require_baseline(accuracy))

    def observe(self, batch: Any, *, data_is_new: bool = False, parts: Sequence[Any] = ()) -> None:
        """Call it with every training batch before its forward pass; a RouterTap needs those of validation, too.

        Args:
            batch: the batch.
            data_is_new: whether no example of it, nor of any batch before, was trained on before.
            parts: the batches in it, where several loaders gave one each.
        """
        self._data_is_new, self._resumed_at, self._before_the_end = data_is_new, None, None
        sampling = self._every_step or self.is_due(self._step + self._increment)
        early = not sampling and not self._is_baseline_logged
        begin = self.collector.begin_batch
        self.boundary.call("observing a batch", begin, batch, sampling=sampling, early=early, parts=parts)

    @property
    def wants_gradients(self) -> bool:
        """Whether a metric was asked for that :meth:`observe_gradients` feeds."""
        return bool(self.feeds.gradients)

    def observe_gradients(
        self,
        small_norm_squared: Tensor,
        large_norm_squared: Tensor,
        small_batch_size: int,
        large_batch_size: int,
    ) -> None:
        """Call it at every optimizer step with the squared gradient norms that a critical batch size is formed from.

        Steps of other batch sizes than the metric's (those of the first call, unless it came with its own), such as the
        last of an epoch, are left out. :mod:`intensive_callbacks.gradients` measures the norms.
        """
        sizes = small_batch_size, large_batch_size
        if self.facts.small_batch_size is None:
            self.facts = replace(self.facts, small_batch_size=small_batch_size, large_batch_size=large_batch_size)
        feed = self.feeds.observe_gradients
        self.boundary.call("observing the gradients", feed, small_norm_squared, large_norm_squared, sizes)

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Around a validation in a plain loop, so that it fills a window of its own."""
        self.begin_validation()
        try:
            yield
        finally:
            self.end_validation()

    def begin_validation(self) -> None:
        """Collect the following forward passes as a validation."""
        self.boundary.call("observing the validation", self.collector.begin_validation)

    def end_validation(self, *, keep: bool = True) -> None:
        """Collect training again; keep what the validation gave for the next ``log``, or drop it."""
        self.boundary.call("observing the validation", self.collector.end_validation, keep=keep)

    def begin_backward(self) -> None:
        """Ignore hooks until :meth:`end_backward`: they belong to recomputation. A plain loop need not call it."""
        self.boundary.call("observing the backward pass", self.collector.begin_backward)

    def end_backward(self) -> None:
        """Collect forward passes again."""
        self.boundary.call("observing the backward pass", self.collector.end_backward)

    def is_due(self, step: int) -> bool:
        """Whether values are due at this optimizer step."""
        return step // self.every_n_steps != self._step // self.every_n_steps

    def has_news(self, step: int) -> bool:
        """Whether :meth:`log` gives values at this optimizer step, also without an accuracy.

        In a distributed run only the step decides: what this process alone knows would leave it waiting for others.
        """
        if self._is_off:
            return False
        validated = self.collector.has_ended_validation and not self._processes.are_several
        return self.is_due(step) or not self._is_baseline_logged or validated

    def pass_over(self, step: int) -> None:
        """Record an optimizer step that logs nothing; :meth:`log` does this itself."""
        self._increment, self._step = max(step - self._step, 1), step
        self.collector.commit_batches()

    # A logging step.

    def log(
        self,
        step: int,
        accuracy: float | Tensor | None = None,
        num_examples: int | None = None,
        *,
        weight: float | None = None,
        x: int | None = None,
        together: bool = False,
    ) -> dict[str, float]:
        """The values of this optimizer step, empty where nothing is due; the sinks get them, too.

        In a distributed run every process calls it at the same steps; an accuracy or a validation that comes between
        two steps at which values are due is logged with the next ones, unless ``together``.

        Args:
            step: optimizer steps done. Values are due when ``step // every_n_steps`` has changed.
            accuracy: a fraction in [0, 1], only where it is fresh.
            num_examples: how many answers, right or wrong, the accuracy is a share of on this process, where that is
                known: it has a standard error then.
            weight: the weight of this process's accuracy in the mean over processes, ``num_examples`` by default.
            x: where the sinks' x axis is, if that is not ``step``.
            together: whether every process calls it here for sure, as after a validation that all of them ran: what
                that gave is then logged at once.

        Returns:
            ``{key: value}``. The first call also gives the ``baseline/`` values.
        """
        x = step if x is None else x
        given = accuracy, num_examples, weight
        results = self.boundary.call("logging", self._log, step, x, *given, together=together)
        return self._hand_out(step, x, results)

    def end_training(self, accuracy: float | Tensor | None = None, *, x: int | None = None) -> dict[str, float]:
        """Log the window of training that is still open: what the final table shows is of one moment, the end.

        In a distributed run every process calls it. In a run of one process :meth:`finish` does so itself. The window
        stays open in :meth:`state_dict`, so that a training that goes on from here is one that never ended.

        Args:
            accuracy: a fraction in [0, 1], only where it is fresh.
            x: where the sinks' x axis is, if that is not the step.
        """
        if not self.has_open_window or self._is_off:
            return {}
        self._before_the_end = self.boundary.call("saving the state", self.state_dict)
        self.boundary.call("reporting the differences", self._report_differences)
        step, x = self._step, self._step if x is None else x
        results = self.boundary.call("logging", self._log, step, x, accuracy, None, None, ends=True)
        return self._hand_out(step, x, results)

    @property
    def has_open_window(self) -> bool:
        """Whether optimizer steps were done since values were last due."""
        return self._step != self._last_due

    def _hand_out(self, step: int, x: int, results: Results | None) -> dict[str, float]:
        if results is None or not results.values:
            return {}
        self.boundary.call("the history", self.history.append, step, results.values, x)
        self._sinks.call("log_values", results.values, x)
        self._num_rows += 1
        if overview_is_due(self._num_rows):
            self._sinks.call("log_chart", "overview", self.history.rows("x"), final=False)
        for alarm in self.alarms if self._alerts else ():
            self._sinks.call("alert", "routing/health", alarm)
        return results.values

    def _log(
        self,
        step: int,
        x: int,
        accuracy: Any,
        num_examples: int | None,
        weight: float | None,
        *,
        ends: bool = False,
        together: bool = False,
    ) -> Results | None:
        self.alarms = []
        due, first = ends or self.is_due(step), not self._is_baseline_logged
        has_news = ends or (together and not self._is_off) or self.has_news(step)
        self.pass_over(step)
        if due:
            self._last_due = step
        several = self._processes.are_several
        if self._is_off or (not has_news and accuracy is None):
            return None
        if not has_news and several:  # another process may have none here: it waits for the next values
            self._held = accuracy, num_examples, weight
            return None
        if accuracy is None:
            accuracy, num_examples, weight = self._held
        self._held = None, None, None
        # What fails from here on is not asked for again on this process alone.
        self._is_baseline_logged = self._is_baseline_logged or several
        quality = self.boundary.call("the accuracy", Quality.of, accuracy, num_examples, weight) or Quality(unusable=1)
        # A short window at the end says little of the routers: it is only read where there was no other.
        whole = not ends or self.facts.num_windows == 0
        window = self._window(quality, step, due=due, first=first, routing=whole)
        if window is None:
            return None
        self._report_failures(window, quality)
        if first or window.has_validation or not window.validates:
            self._count_again()
        self.facts = self.facts.after(window, step, data_is_new=self._data_is_new)
        results = evaluate(window, self.facts, self.selected, self.feeds, self.boundary, per_layer=self._per_layer)
        self._is_baseline_logged = True
        self.reports.take(results)
        if due and window.training:
            self.boundary.call("the verdict on the routers", self._judge, step, x, window.training)
        return results

    def _window(self, quality: Quality, step: int, *, due: bool, first: bool, routing: bool) -> Window | None:
        """What all processes have seen; ``None`` where they do not log together, and log nothing from now on."""
        close = functools.partial(self.collector.close, quality, due=due, first=first, routing=routing)
        window = self.boundary.call("closing the window", close)
        if window is None:
            if not self._processes.are_several:
                return None
            failed = frozenset({"counts", "training", "validation", *self.feeds.names})
            window = Window(due, first, self.collector.validates, quality, UNKNOWN, failed=failed)
        if self._processes.are_several:
            window = replace(window, baseline=self._measured, share=self._share)
        try:
            window = window.reduced(self._processes, step=step, due=due, first=first)
        except ProcessesDisagree as error:
            self.boundary.fail("logging", error, off=self._switch_off)
            return None
        if window.baseline.is_fresh:
            with self.boundary.guard("the measured baseline"):
                self.facts = replace(self.facts, random_baseline=require_baseline(window.baseline.accuracy))
        self._measured = Quality()
        if window.validates:  # also if only on another process
            self.collector.expect_validation(expected=True)
        return window

    @functools.cached_property
    def _share(self) -> Share:
        experts = [parameter for layer in self.layers for parameter in layer.expert_parameters()]
        return self.boundary.call("the device mesh", share_of, self.model, experts) or Share()

    def _switch_off(self) -> None:
        self._is_off = True
        self.detach()

    def _report_failures(self, window: Window, own: Quality) -> None:
        """What failed on another process alone is reported here as well."""
        for name in window.failed & self.feeds.names:
            part = self.feeds.part(name)
            if part not in self.boundary.failed:
                error = RuntimeError("it failed on another process, or differs from what that measures")
                self.boundary.fail(part, error, off=functools.partial(self.feeds.disable, name))
        lost = [name for name in LOST if name in window.failed and (self.layers or name in {"quality", "counts"})]
        for name in lost:
            self.boundary.warn(name, f"a process could not read {LOST[name]}, which are left out on all")
        if window.quality.unusable and not own.unusable:
            self.boundary.warn("the accuracy", "the accuracy of another process is no fraction in [0, 1]: none is used")
        self._differed |= {LOST[name] for name in lost} | {*map(self.feeds.part, window.failed & self.feeds.names)}

    def _report_differences(self) -> None:
        """Say again, at the end, what could not be reduced."""
        if self._differed and self._processes.are_several:
            parts = ", ".join(sorted(self._differed))
            said = f"left out, since it failed on a process or differs between them: {parts}"
            self.boundary.warn("processes", said, UserWarning)

    def _judge(self, step: int, x: int, routing: RoutingSums) -> None:
        """Keep the loads for the heatmap, and warn once about each newly unhealthy router."""
        if self.observer:
            self.observer.warn_about_unobserved_layers()
        self._last_routing = routing
        if said := describe_coverage(routing):
            self.boundary.warn("routing/coverage", said, UserWarning)
        self.heatmap.append(step, x, routing)
        self.alarms = [f"step {step}: {each.kind} in {each.layer}: {each.text}" for each in self.health.new(routing)]
        for alarm in self.alarms:
            warn(alarm, UserWarning)

    def verdict(self) -> str | None:
        """The routers' health over the last window, in words; ``None`` where no router was seen."""
        return self.health.verdict(self._last_routing) if self._last_routing else None

    # The end.

    def finish(self) -> BenchmarkTable:
        """The final table: this model, with the newest values, and the published ones of ``benchmark``.

        The sinks get it, with the charts and the verdict on the routers.
        """
        if not self._processes.are_several:
            self.end_training()
        self.boundary.call("reporting what is absent", self.reports.warn_about_missing)
        table = self._table()
        self._sinks.call("log_table", "final_benchmark", table)
        self._sinks.call("log_chart", "overview", self.history.rows("x"))
        if snapshots := self.heatmap.rows("x"):
            self._sinks.call("log_chart", "heatmap", snapshots)
        if verdict := self.boundary.call("the verdict on the routers", self.verdict):
            self._sinks.call("set_summary", "routing/health", verdict)
        self._sinks.call("close")
        return table

    def _table(self) -> BenchmarkTable:
        computed = {selected.card.key for selected in [*self.selected, *self.feeds.tapped.values()]}
        newest = self.history.newest()
        measured = {key: value for key, value in newest.items() if key in computed or key.startswith("cost/")}
        return final_table(
            self.model_name,
            self.task,
            facts=self.facts,
            measured=measured,
            errors=self.reports.errors,
            # Beside what may be a language model, vision models say nothing.
            benchmark=None if self.benchmark == "auto" and self.counter.may_have_tokens else self.benchmark,
        )

    def use_sinks(self, sinks: Iterable[Sink]) -> None:
        """Use these sinks from now on."""
        self._sinks = SinkGroup(sinks, self.boundary)

    @property
    def sinks(self) -> list[Sink]:
        """Where values, final table, charts and alerts go."""
        return self._sinks.sinks

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that a resumed training is one that was never interrupted.

        The open windows are those of this process: a checkpoint stands for all processes as if they had as much.
        """
        if self._before_the_end is not None:
            return dict(self._before_the_end)
        return {
            "step": self._step,
            "last_due": self._last_due,
            "history": self.history.state_dict(),
            "heatmap": self.heatmap.state_dict(),
            "facts": self.facts.state_dict(),
            "errors": dict(self.reports.errors),
            "window": self.collector.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from a checkpoint; what it does not have begins anew, what is not known is ignored."""
        missing = [name for name in STATE if name not in state]
        if missing:
            warn(f"another version wrote the checkpoint: its state has no {', '.join(missing)}, which begin anew")
        self._before_the_end = None
        guard = self.boundary.guard
        with guard("the step of the checkpoint"):
            self._step = self._last_due = int(state.get("step", 0))
            self._last_due = int(state.get("last_due", self._step))
        with guard("the history of the checkpoint"):
            self.history.load_state_dict(state.get("history", {"series": []}))
        with guard("the heatmap of the checkpoint"):
            self.heatmap.load_state_dict(state.get("heatmap", {}))
        with guard("the facts of the checkpoint"):
            self.facts = self.facts.restored(state.get("facts", {}))
        with guard("the standard errors of the checkpoint"):
            self.reports.restored(state.get("errors", {}), self.history.newest())
        with guard("the open window of the checkpoint"):
            self.collector.load_state_dict(state.get("window", {}))
        self._resumed_at = self._step if "window" in state else None
