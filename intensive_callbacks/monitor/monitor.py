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
from intensive_callbacks.distributed import is_distributed, num_processes
from intensive_callbacks.footprint.parameters import parameter_fingerprint
from intensive_callbacks.functional.checks import require_baseline
from intensive_callbacks.monitor import batches
from intensive_callbacks.monitor.collector import Collector
from intensive_callbacks.monitor.evaluate import Results, evaluate
from intensive_callbacks.monitor.facts import ModelFacts
from intensive_callbacks.monitor.feeds import Feeds
from intensive_callbacks.monitor.final_table import final_table
from intensive_callbacks.monitor.history import History, Series
from intensive_callbacks.monitor.reports import Reports
from intensive_callbacks.monitor.selection import select
from intensive_callbacks.monitor.window import Quality, Window
from intensive_callbacks.routing.health import RoutingHealth
from intensive_callbacks.routing.observer import RouterObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from torch import Tensor, nn
    from torchmetrics import Metric

    from intensive_callbacks.benchmark.table import BenchmarkTable
    from intensive_callbacks.monitor.taps import RouterTap, Tap
    from intensive_callbacks.routing.sums import RoutingSums
    from intensive_callbacks.sinks.base import Sink

MAX_HEATMAP_STEPS = 100


class Monitor:
    """Measures a model in training, driven by any loop.

    Args:
        model: the model that trains.
        every_n_steps: optimizer steps between two logged values.
        random_baseline: the accuracy of chance; what needs it is absent without it.
        num_tokens: ``num_tokens(batch)``; by default counted from ``input_ids`` and ``attention_mask`` where there are
            any.
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
        sinks: Sequence[Sink] = (),
        alert: bool = False,
    ) -> None:
        check_options(every_n_steps, random_baseline, observe)
        self.model = model
        self.every_n_steps = every_n_steps
        self.benchmark, self.model_name, self.task = benchmark, model_name or type(model).__name__, task
        self.boundary = Boundary(strict=strict)
        self.history = History()
        self.heatmap = Series()
        self.health = RoutingHealth()
        self.alarms: list[str] = []
        self.sinks = list(sinks)
        # A server that does not answer would delay every logging step.
        self._failed_calls: set[tuple[int, str]] = set()
        self.selected = select(metrics)
        self.reports = Reports(self.selected, self.boundary)
        self.facts = ModelFacts(random_baseline=random_baseline)
        self.observer = self._observer(routers)
        self._every_step, self._per_layer, self._alerts = observe == "every_step", per_layer, alert
        self._fingerprint: Any = None
        self._count()
        self._refuse_what_cannot_be_measured()
        layers = {layer.name: layer.num_classes for layer in self.layers}
        self.feeds = Feeds(
            model,
            taps=taps,
            selected=self.selected,
            layers=layers,
            facts=lambda: self.facts.by_argument,
            boundary=self.boundary,
        )
        self.collector = Collector(model, self.observer, self.feeds, num_tokens or batches.num_tokens, self.boundary)
        self._last_routing: RoutingSums | None = None
        self._step, self._increment, self._last_due = 0, 1, 0
        self._data_is_new = False
        self._is_baseline_logged = False
        self._num_rows = 0
        self._held: tuple[Any, int | None] = (None, None)

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
        """Say beforehand whether the training has validations; otherwise the first one tells."""
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

    def _refuse_what_cannot_be_measured(self) -> None:
        asked = [each for each in self.selected if each.asked]
        routed = [each.card.symbol for each in asked if each.card.fed_by == "routing"]
        if routed and not self.layers and not self.boundary.failed:
            raise Refused(f"{', '.join(routed)} need a router and the model shows none; name it with routers=")
        chance = [each.card.symbol for each in asked if "random_baseline" in each.missing(self.facts.by_argument)]
        if chance:
            raise Refused(f"{', '.join(chance)} need the accuracy of chance; pass random_baseline=")

    def attach(self, *, announces_backward: bool = False) -> None:
        """Register the hooks; twice is once.

        Args:
            announces_backward: whether the loop calls :meth:`begin_backward` after every forward pass.
        """
        self.boundary.call("registering the hooks", self.collector.attach, announces_backward=announces_backward)

    def detach(self) -> None:
        """Remove every hook; where that fails, those that are left are removed one by one."""
        if "removing the hooks" in self.boundary.failed:
            return
        self.boundary.call("removing the hooks", self.collector.detach, off=lambda: remove_hooks(self.model))

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.detach()
        if kind is None:
            self.boundary.call("reporting what is absent", self.reports.never_came)

    # Where the loop is.

    def begin_training(self, step: int) -> None:
        """Count from this optimizer step on, and forget what has run before.

        A step below the last one begins a new training: the history of the one before is dropped.
        """
        if step < self._step:
            self._begin_anew()
        self._step = self._last_due = step
        self.facts = self.facts.restarted(step)
        self.collector.restart()

    def _begin_anew(self) -> None:
        if self.history.newest():
            warn(f"a new training begins after step {self._step}: the history and final table are those of the new one")
        self.history, self.heatmap, self.health = History(), Series(), RoutingHealth()
        self.reports, self._last_routing = Reports(self.selected, self.boundary), None
        self.facts = ModelFacts(random_baseline=self.facts.random_baseline)
        self._fingerprint, self._is_baseline_logged = None, False
        self._count()

    def measured_baseline(self, accuracy: float) -> None:
        """Take the untrained model's accuracy for that of chance, unless chance is known."""
        if self.facts.random_baseline is None:
            with self.boundary.guard("the measured baseline"):
                self.facts = replace(self.facts, random_baseline=require_baseline(accuracy))

    def observe(self, batch: Any, *, data_is_new: bool = False) -> None:
        """Call it with every training batch before its forward pass; a RouterTap needs those of validation, too.

        Args:
            batch: the batch.
            data_is_new: whether no example of it, nor of any batch before, was trained on before.
        """
        self._data_is_new = data_is_new
        feeds_a_value = self._every_step or self.is_due(self._step + self._increment) or not self._is_baseline_logged
        self.boundary.call("observing a batch", self.collector.begin_batch, batch, sampling=feeds_a_value)

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
        """What runs from here on is validation."""
        self.boundary.call("observing the validation", self.collector.begin_validation)

    def end_validation(self, *, keep: bool = True) -> None:
        """Training goes on; what the validation gave is kept for the next ``log``, or dropped."""
        self.boundary.call("observing the validation", self.collector.end_validation, keep=keep)

    def begin_backward(self) -> None:
        """The forward pass is over; what fires from here on is recomputation. A plain loop need not say so."""
        self.boundary.call("observing the backward pass", self.collector.begin_backward)

    def end_backward(self) -> None:
        """The backward pass is over."""
        self.boundary.call("observing the backward pass", self.collector.end_backward)

    def is_due(self, step: int) -> bool:
        """Whether values are due at this optimizer step."""
        return step // self.every_n_steps != self._step // self.every_n_steps

    def has_news(self, step: int) -> bool:
        """Whether :meth:`log` gives values at this optimizer step, also without an accuracy."""
        return self.is_due(step) or not self._is_baseline_logged or self.collector.has_ended_validation

    def pass_over(self, step: int) -> None:
        """Take note of an optimizer step that has no values; :meth:`log` does so, too."""
        self._increment, self._step = max(step - self._step, 1), step

    # A logging step.

    def log(
        self,
        step: int,
        accuracy: float | Tensor | None = None,
        num_examples: int | None = None,
        *,
        x: int | None = None,
    ) -> dict[str, float]:
        """The values of this optimizer step, empty where nothing is due; the sinks get them, too.

        In a distributed run every process calls it at the same steps; an accuracy that comes between two steps at which
        values are due is logged with the next ones.

        Args:
            step: optimizer steps done. Values are due when ``step // every_n_steps`` has changed.
            accuracy: a fraction in [0, 1], only where it is fresh.
            num_examples: how many examples the accuracy stands for on this process, where that is known.
            x: where the sinks' x axis is, if that is not ``step``.

        Returns:
            ``{key: value}``. The first call also gives the ``baseline/`` values.
        """
        results = self.boundary.call("logging", self._log, step, accuracy, num_examples)
        return self._hand_out(results, step, x)

    def end_training(self, *, x: int | None = None) -> dict[str, float]:
        """Log the window of training that is still open: what the final table shows is of one moment, the end.

        In a distributed run every process calls it. In a run of one process :meth:`finish` does so itself.
        """
        if self._step == self._last_due:
            return {}
        results = self.boundary.call("logging", self._log, self._step, None, None, ends=True)
        return self._hand_out(results, self._step, x)

    def _hand_out(self, results: Results | None, step: int, x: int | None) -> dict[str, float]:
        if results is None or not results.values:
            return {}
        self.boundary.call("the history", self.history.append, step, results.values, x)
        self._to_sinks("log_values", results.values, step if x is None else x)
        self._num_rows += 1
        if overview_is_due(self._num_rows):
            self._to_sinks("log_chart", "overview", self.history.rows("x"), final=False)
        for alarm in self.alarms if self._alerts else ():
            self._to_sinks("alert", "routing/health", alarm)
        return results.values

    def _log(self, step: int, accuracy: Any, num_examples: int | None, *, ends: bool = False) -> Results | None:
        self.alarms = []
        due, first, has_news = ends or self.is_due(step), not self._is_baseline_logged, ends or self.has_news(step)
        self.pass_over(step)
        if due:
            self._last_due = step
        if not has_news and accuracy is None:
            return None
        if not has_news and is_distributed():  # another process may have none here: it waits for the next values
            self._held = accuracy, num_examples
            return None
        if accuracy is None:
            accuracy, num_examples = self._held
        self._held = None, None
        quality = self.boundary.call("the accuracy", Quality.of, accuracy, num_examples) or Quality(unusable=1)
        # A short window at the end says little of the routers: it is only read where there was no other.
        whole = not ends or self.facts.num_windows == 0
        window = self.collector.close(quality, due=due, first=first, routing=whole).reduced()
        self._report_failures(window)
        if first or window.has_validation or not window.validates:  # a walk over all modules
            self._count()
        self.facts = self.facts.after(window, step, data_is_new=self._data_is_new)
        results = evaluate(window, self.facts, self.selected, self.feeds, self.boundary, per_layer=self._per_layer)
        self._is_baseline_logged = True
        self.reports.take(results)
        if due and window.training:
            self.boundary.call("the verdict on the routers", self._judge, step, window.training)
        return results

    def _report_failures(self, window: Window) -> None:
        """A metric that failed on another process alone is reported here as well."""
        for name in window.failed & self.feeds.names:
            part = self.feeds.part(name)
            if part not in self.boundary.failed:
                error = RuntimeError("it failed on another process, or differs from what that measures")
                self.boundary.fail(part, error, off=functools.partial(self.feeds.disable, name))

    def _judge(self, step: int, routing: RoutingSums) -> None:
        """Keep the loads for the heatmap, and warn once about each newly unhealthy router."""
        if self.observer:
            self.observer.warn_about_unobserved_layers()
        self._last_routing = routing
        loads = {
            layer: load
            for group in routing.groups
            for layer, load in zip(group.layers, group.states()["load"].tolist(), strict=True)
        }
        self.heatmap.append(
            {"step": step, "loads": {layer: loads[layer] for layer in routing.layers}}, MAX_HEATMAP_STEPS
        )
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
        if not is_distributed():
            self.end_training()
        self.boundary.call("reporting what is absent", self.reports.never_came)
        table = self._table()
        self._to_sinks("log_table", "final_benchmark", table)
        self._to_sinks("log_chart", "overview", self.history.rows("x"))
        if snapshots := self.heatmap.kept():
            self._to_sinks("log_chart", "heatmap", snapshots)
        if verdict := self.boundary.call("the verdict on the routers", self.verdict):
            self._to_sinks("set_summary", "routing/health", verdict)
        self._to_sinks("close")
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
            benchmark=self.benchmark,
        )

    def use_sinks(self, sinks: Iterable[Sink]) -> None:
        """Hand everything to these sinks from here on."""
        self.sinks = list(sinks)
        self._failed_calls.clear()

    def _to_sinks(self, method: str, *arguments: Any, **settings: Any) -> None:
        call = "a preview" if settings.get("final") is False else method
        for place, sink in enumerate(self.sinks):
            if (place, call) not in self._failed_calls:
                off = functools.partial(self._failed_calls.add, (place, call))
                part = f"{sink.name}, {call}"
                self.boundary.call(part, getattr(sink, method), *arguments, off=off, **settings)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that history and final table go on where they were."""
        return {
            "history": self.history.state_dict(),
            "facts": self._facts_now().state_dict(),
            "errors": dict(self.reports.errors),
        }

    def _facts_now(self) -> ModelFacts:
        """With the examples and tokens that came since the last logging step, as if all processes had as many."""
        examples, tokens = self.collector.open_counts()
        seen = self.facts.seen_examples + examples * num_processes()
        return replace(self.facts, seen_examples=seen, seen_tokens=self.facts.seen_tokens + tokens * num_processes())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was; what it does not have begins anew."""
        missing = [name for name in ("history", "facts", "errors") if name not in state]
        if missing:
            warn(f"another version wrote the checkpoint: its state has no {', '.join(missing)}, which begin anew")
        with self.boundary.guard("the history of the checkpoint"):
            self.history.load_state_dict(state.get("history", {"series": []}))
        with self.boundary.guard("the facts of the checkpoint"):
            self.facts = self.facts.restored(state.get("facts", {}))
        with self.boundary.guard("the standard errors of the checkpoint"):
            self.reports.restored(state.get("errors", {}))


def check_options(every_n_steps: int, random_baseline: float | None, observe: str) -> None:
    """Raise ``ValueError`` for what can be told before there is a model."""
    if every_n_steps < 1:
        raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
    if random_baseline is not None:
        require_baseline(random_baseline)
    if observe not in ("sampled", "every_step"):
        raise ValueError(f'observe must be "sampled" or "every_step", got {observe!r}')
