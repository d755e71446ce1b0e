"""Monitor: watches a model while it trains and says, every N steps, what its configuration delivers for its cost.

It knows nothing of Lightning: a plain loop can drive it. What it knows of the model are *facts* (counts and costs that
metrics are built from); what hangs on the model fills sums, which are reduced over all processes in one go; what it
gives are values under the keys of :mod:`intensive_callbacks.keys`.
"""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from intensive_callbacks import batches
from intensive_callbacks.footprint.parameters import count_parameters
from intensive_callbacks.functional.checks import require_baseline
from intensive_callbacks.gatherer import Gatherer
from intensive_callbacks.history import History
from intensive_callbacks.routing.observer import RouterObserver
from intensive_callbacks.selection import select, select_tap
from intensive_callbacks.values import Values, named, routing_values, signal_values, to_floats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

    from torchmetrics import Metric

    from intensive_callbacks.benchmark.table import BenchmarkTable
    from intensive_callbacks.gathered import Gathered, Window
    from intensive_callbacks.selection import Selected
    from intensive_callbacks.taps import Tap


class Monitor:
    """Measures a model in training, driven by any loop.

    Args:
        model: the model that trains.
        every_n_steps: optimizer steps between two logged values.
        random_baseline: the accuracy of chance; what needs it is absent without it.
        num_tokens: ``num_tokens(batch)``; by default counted from ``input_ids`` and ``attention_mask`` where there are
            any.
        routers: which routers are watched, as :class:`RouterObserver` takes it; ``None`` for none.
        taps: :class:`Tap` objects.
        metrics: ``"default"``, or a list of symbols, keys and Metric objects: exactly these.
        benchmark: baselines of the final table: ``"auto"``, ``"language"``, ``"vision"``, a path or ``None``.
        model_name: the model's name in the final table; its class by default.
        task: the task's name in the final table.
        per_layer: also give the routing values of every layer.
        observe: ``"sampled"`` takes what needs logits on the steps that feed a logged value, ``"every_step"`` on all.
        strict: raise instead of warning when something cannot be measured.

    Raises:
        KeyError: if a metric's name is not known.
        ValueError: if another argument cannot be used. Nothing is attached then.

    Example:
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
        taps: Sequence[Tap] = (),
        metrics: str | Iterable[str | Metric] = "default",
        benchmark: str | None = "auto",
        model_name: str | None = None,
        task: str | None = None,
        per_layer: bool = False,
        observe: str = "sampled",
        strict: bool = False,
    ) -> None:
        check_options(every_n_steps, random_baseline, observe)
        self.model = model
        self.every_n_steps = every_n_steps
        self.benchmark, self.model_name, self.task = benchmark, model_name or type(model).__name__, task
        self.per_layer, self.strict, self.every_step = per_layer, strict, observe == "every_step"
        self.history = History()
        self.selected = select(metrics)
        self.facts: dict[str, float] = {}
        if random_baseline is not None:
            self.facts["random_baseline"] = random_baseline
        self._warned: set[str] = set()
        with self.guard("counting the parameters"):
            count = count_parameters(model)
            self.facts |= {"total_params": count.total, "active_params": count.active, "num_bytes": count.num_bytes}
        self.observer = None if routers is None else RouterObserver(model, routers)
        if metrics != "default":
            self._require_what_was_asked_for()
        modules = dict(model.named_modules())
        self.tapped = [select_tap(tap.into) for tap in taps]
        metrics_of_taps = [selected.build(self._all_facts()) for selected in self.tapped]
        tapped = [(tap, tap.find(modules), metric) for tap, metric in zip(taps, metrics_of_taps, strict=True)]
        self.gatherer = Gatherer(model, self.observer, tapped, num_tokens or batches.num_tokens)
        self._seen = {"examples": 0, "tokens": 0}
        self._accuracy: tuple[float, int | None] = (math.nan, None)
        self._step, self._increment = 0, 1
        self._baseline_given = False

    def _require_what_was_asked_for(self) -> None:
        routed = [each.card.symbol for each in self.selected if each.card.fed_by == "routing"]
        if routed and not (self.observer and self.observer.layers):
            raise ValueError(f"{', '.join(routed)} need a router and the model shows none; name it with routers=")
        chance = [each.card.symbol for each in self.selected if "random_baseline" in each.missing(self.facts)]
        if chance:
            raise ValueError(f"{', '.join(chance)} need the accuracy of chance; pass random_baseline=")

    def attach(self) -> None:
        """Register the hooks. Harmless where they are there already."""
        self.gatherer.attach()

    def detach(self) -> None:
        """Remove every hook."""
        with self.guard("removing the hooks"):
            self.gatherer.detach()

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def begin_training(self, step: int) -> None:
        """Count from this optimizer step on, and forget what has run before."""
        self._step = step
        self.gatherer.forget()

    def measured_baseline(self, accuracy: float) -> None:
        """Take the untrained model's accuracy for that of chance."""
        with self.guard("the measured baseline"):
            self.facts["random_baseline"] = require_baseline(accuracy)

    def observe(self, batch: Any) -> None:
        """Call it with every training batch, before its forward pass."""
        with self.guard("observing a batch"):
            feeds_a_value = self.is_due(self._step + self._increment) or not self._baseline_given
            self.gatherer.observe(batch, sampling=self.every_step or feeds_a_value)

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Around a validation in a plain loop, so that it fills a window of its own."""
        self.gatherer.begin_validation()
        try:
            yield
        finally:
            self.gatherer.end_validation()

    def begin_backward(self) -> None:
        """The forward pass is over; what fires from here on is recomputation. A plain loop need not say so."""
        with self.guard("counting the FLOPs"):
            self.gatherer.begin_backward()

    def end_backward(self) -> None:
        """The backward pass is over."""
        self.gatherer.end_backward()

    def is_due(self, step: int) -> bool:
        """Whether values are due at this optimizer step."""
        return step // self.every_n_steps != self._step // self.every_n_steps

    def log(
        self, step: int, accuracy: float | Tensor | None = None, num_examples: int | None = None
    ) -> dict[str, float]:
        """The values of this optimizer step, empty where nothing is due.

        In a distributed run every process calls it at the same steps.

        Args:
            step: optimizer steps done. Values are due when ``step // every_n_steps`` has changed.
            accuracy: a fraction in [0, 1], only where it is fresh.
            num_examples: how many examples the accuracy stands for on this process, where that is known.

        Returns:
            ``{key: value}``. The first call also gives the ``baseline/`` values.
        """
        due = self.is_due(step)
        self._increment, self._step = max(step - self._step, 1), step
        if not (due or accuracy is not None or self.gatherer.validation is not None or not self._baseline_given):
            return {}
        values: dict[str, float] = {}
        with self.guard("logging"):
            training = due or not self._baseline_given
            gathered = self.gatherer.gather(accuracy, num_examples, training=training).reduce()
            self._report_failures(gathered)
            values = self._values(gathered, due=due)
            if values:
                self.history.append(step, values)
        with self.guard("emptying the windows"):
            self.gatherer.empty(training=due)
        return values

    def _values(self, gathered: Gathered, *, due: bool) -> dict[str, float]:
        self._learn(gathered)
        values: Values = {} if self._baseline_given else self._baseline()
        self._baseline_given = True
        facts, signals = self._all_facts(), self._signals(gathered)
        for selected in self.selected:
            with self.guard(selected.card.symbol):
                if selected.card.fed_by == "routing":
                    window = self._window(selected, gathered, due=due)
                    if window:
                        values |= routing_values(selected, window, facts, per_layer=self.per_layer)
                elif self._is_fed(selected, signals, due=due) and not selected.missing(facts):
                    values |= signal_values(selected.card.key, selected.build(facts), signals)
        if self.gatherer.taps_are_due(training=due):
            for index, selected in enumerate(self.tapped):
                if f"tap{index}" not in gathered.failed:
                    with self.guard(selected.card.symbol):
                        values |= self._tap_values(index, gathered)
        return self._explain(to_floats(values))

    def _learn(self, gathered: Gathered) -> None:
        """Take up what the reduced sums say of the model: counts seen, the cost of a forward pass, the active share."""
        for name in self._seen:
            self._seen[name] += int(gathered.number(f"new/{name}"))
        if gathered.number("cost/flops") > 0:
            self.facts["num_flops"] = gathered.number("cost/flops") / gathered.number("cost/positions")
        window = gathered.window("validation") or gathered.window("training")
        if window and self.observer and "total_params" in self.facts:
            active = self.facts["total_params"]
            for layer in self.observer.layers:
                states = window[layer.name]
                if states["num_tokens"] > 0:
                    num_selected = float(states["load"][: layer.num_experts].sum() / states["num_tokens"])
                    num_params = sum(parameter.numel() for parameter in layer.expert_parameters())
                    active -= num_params * (1 - num_selected / layer.num_experts)
            self.facts["active_params"] = active
        if gathered.number("accuracy/weight") > 0:
            weight = gathered.number("accuracy/weight")
            counted = gathered.number("accuracy/uncounted") == 0
            self._accuracy = gathered.number("accuracy/correct") / weight, int(weight) if counted else None

    def _all_facts(self) -> dict[str, float]:
        active = {"num_params": self.facts["active_params"]} if "active_params" in self.facts else {}
        return {**self.facts, **active}

    def _signals(self, gathered: Gathered) -> dict[str, float | None]:
        accuracy, num_examples = self._accuracy if gathered.number("accuracy/weight") > 0 else (None, None)
        return {"accuracy": accuracy, "num_examples": num_examples, "num_tokens": self._seen["tokens"]}

    def _is_fed(self, selected: Selected, signals: dict[str, float | None], *, due: bool) -> bool:
        if selected.card.fed_by == "tokens":
            return due and self.gatherer.has_tokens
        return signals["accuracy"] is not None

    def _window(self, selected: Selected, gathered: Gathered, *, due: bool) -> Window:
        if selected.card.key.startswith("intensive/") and self.gatherer.has_validation:
            validation = gathered.window("validation")
            # An evaluation that never ran this model leaves only what training has seen.
            if not validation or any(states["num_tokens"] > 0 for states in validation.values()):
                return validation
        return gathered.window("training") if due else {}

    def _baseline(self) -> Values:
        per = "token" if self.gatherer.has_tokens else "example"
        known = {
            "random_accuracy": self.facts.get("random_baseline"),
            "total_params": self.facts.get("total_params"),
            "active_params": self.facts.get("active_params"),
            "num_bytes": self.facts.get("num_bytes"),
            f"flops_per_{per}": self.facts.get("num_flops"),
        }
        return {
            f"baseline/{name}": torch.tensor(value, dtype=torch.float64)
            for name, value in known.items()
            if value is not None
        }

    def _tap_values(self, index: int, gathered: Gathered) -> Values:
        metric = self.gatherer.taps[index][2]
        gathered.load_metric(f"tap{index}", metric)
        return named(self.tapped[index].card.key, metric.compute())

    def finish(self) -> BenchmarkTable:
        """The final table: this model, with the newest values, and the published ones of ``benchmark``."""
        from intensive_callbacks.benchmark.baselines import load_baselines
        from intensive_callbacks.benchmark.row import BenchmarkRow
        from intensive_callbacks.benchmark.table import BenchmarkTable

        per: Any = "token" if self.gatherer.has_tokens else "example"
        accuracy, num_examples = self._accuracy
        formed = {selected.card.key for selected in [*self.selected, *self.tapped]}
        row = BenchmarkRow(
            model=self.model_name,
            task=self.task or "this run",
            protocol="measured in this run",
            source="this run",
            accuracy=accuracy,
            num_examples=num_examples,
            total_params=self.facts.get("total_params"),
            active_params=self.facts.get("active_params"),
            num_bytes=self.facts.get("num_bytes"),
            num_flops=self.facts.get("num_flops"),
            per=per,
            num_tokens=self._seen["tokens"] or None,
            random_baseline=self.facts.get("random_baseline"),
            measured={key: value for key, value in self.history.newest().items() if key in formed},
        )
        benchmark = ("language" if per == "token" else "vision") if self.benchmark == "auto" else self.benchmark
        return BenchmarkTable([row, *(load_baselines(benchmark) if benchmark else [])])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that history and final table go on where they were."""
        return {
            "history": self.history.state_dict(),
            "random_baseline": self.facts.get("random_baseline"),
            "seen": dict(self._seen),
            "accuracy": self._accuracy,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was."""
        self.history.load_state_dict(state["history"])
        if state["random_baseline"] is not None:
            self.facts["random_baseline"] = state["random_baseline"]
        self._seen, self._accuracy = dict(state["seen"]), tuple(state["accuracy"])

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Nothing that fails here ends a training run: it is one warning that names it."""
        try:
            yield
        except Exception as error:
            if self.strict:
                raise
            self._warn(name, f"{name} failed: {error!r}. Training and the rest of what is measured go on.")

    def _warn(self, name: str, message: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _report_failures(self, gathered: Gathered) -> None:
        for group, error in gathered.failed.items():
            name = self.tapped[int(group[3:])].card.symbol if group.startswith("tap") else group
            with self.guard(name):
                raise error or RuntimeError("it failed on another process")

    def _explain(self, values: dict[str, float]) -> dict[str, float]:
        """One warning for each key that is undefined."""
        for selected in [*self.selected, *self.tapped]:
            key = selected.card.key
            if math.isnan(values.get(key, 0.0)):
                self._warn(key, f"{key} is undefined (NaN): {selected.undefined}")
        return values


def check_options(every_n_steps: int, random_baseline: float | None, observe: str) -> None:
    """Raise ``ValueError`` for what can be told before there is a model."""
    if every_n_steps < 1:
        raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
    if random_baseline is not None:
        require_baseline(random_baseline)
    if observe not in ("sampled", "every_step"):
        raise ValueError(f'observe must be "sampled" or "every_step", got {observe!r}')
