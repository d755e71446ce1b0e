"""Monitor: watches a model while it trains and says, every N steps, what its configuration delivers for its cost.

It knows nothing of Lightning: a plain loop can drive it. What it knows of the model are *facts* (counts and costs that
metrics are built from); what hangs on the model fills sums, which are reduced over all processes in one go; what it
gives are values under the keys of :mod:`intensive_callbacks.cards`.
"""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from intensive_callbacks import batches
from intensive_callbacks.functional.checks import require_baseline
from intensive_callbacks.gatherer import Gatherer
from intensive_callbacks.history import History, Series
from intensive_callbacks.knowledge import Knowledge
from intensive_callbacks.routing.health import RoutingHealth
from intensive_callbacks.routing.observer import RouterObserver
from intensive_callbacks.selection import select, select_tap
from intensive_callbacks.taps import RouterTap, Tap
from intensive_callbacks.valuation import Valuation
from intensive_callbacks.values import to_floats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

    from torchmetrics import Metric

    from intensive_callbacks.benchmark.table import BenchmarkTable
    from intensive_callbacks.gathered import Gathered, Window

MAX_HEATMAP_STEPS = 100
GROUPS = {"cost": "counting the FLOPs"}  # what a failure of a group of sums is called


class Monitor:
    """Measures a model in training, driven by any loop.

    Args:
        model: the model that trains.
        every_n_steps: optimizer steps between two logged values.
        random_baseline: the accuracy of chance; what needs it is absent without it.
        num_tokens: ``num_tokens(batch)``; by default counted from ``input_ids`` and ``attention_mask`` where there are
            any.
        routers: which routers are watched, as :class:`RouterObserver` takes it; ``None`` for none.
        taps: :class:`Tap` and :class:`RouterTap` objects.
        metrics: ``"default"``, or a list of symbols, keys and Metric objects: exactly these. In a list ``"default"``
            stands for all of the default.
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
        taps: Sequence[Tap | RouterTap] = (),
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
        self.strict, self.every_step = strict, observe == "every_step"
        self.history = History()
        self.heatmap = Series()
        self.health = RoutingHealth()
        self.alarms: list[str] = []
        self.selected = select(metrics)
        self.known = Knowledge(random_baseline)
        self._warned: set[str] = set()
        with self.guard("counting the parameters"):
            self.known.count(model)
        self.observer = None if routers is None else RouterObserver(model, routers)
        self._require_what_was_asked_for()
        modules = dict(model.named_modules())
        self.tapped = [select_tap(tap.into) for tap in taps]
        layers = [layer.name for layer in self.observer.layers] if self.observer else []
        places = [tap.find(modules) if isinstance(tap, Tap) else tap.find(layers) for tap in taps]
        built = [selected.build(self.known.facts) for selected in self.tapped]
        tapped = list(zip(taps, places, built, strict=True))
        self.gatherer = Gatherer(model, self.observer, tapped, num_tokens or batches.num_tokens)
        self.valuation = Valuation(
            self.selected, self.tapped, self.known, self.gatherer, self.guard, per_layer=per_layer
        )
        self._last_window: Window = {}
        self._step, self._increment = 0, 1
        self._baseline_given = False

    def _require_what_was_asked_for(self) -> None:
        asked = [each for each in self.selected if each.asked]
        routed = [each.card.symbol for each in asked if each.card.fed_by == "routing"]
        if routed and not (self.observer and self.observer.layers):
            raise ValueError(f"{', '.join(routed)} need a router and the model shows none; name it with routers=")
        chance = [each.card.symbol for each in asked if "random_baseline" in each.missing(self.known.facts)]
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
        self.known.begin_pace(step)
        self.gatherer.forget()

    def measured_baseline(self, accuracy: float) -> None:
        """Take the untrained model's accuracy for that of chance, unless chance is known."""
        if "random_baseline" not in self.known.facts:
            with self.guard("the measured baseline"):
                self.known.facts["random_baseline"] = require_baseline(accuracy)

    def observe(self, batch: Any) -> None:
        """Call it with every training batch, before its forward pass; a RouterTap wants those of validation, too."""
        with self.guard("observing a batch"):
            feeds_a_value = self.is_due(self._step + self._increment) or not self._baseline_given
            self.gatherer.observe(batch, sampling=self.every_step or feeds_a_value)

    @property
    def wants_gradients(self) -> bool:
        """Whether a metric was asked for that :meth:`observe_gradients` feeds."""
        return any(selected.card.fed_by == "gradients" for selected in self.selected)

    def observe_gradients(
        self,
        small_norm_squared: Tensor,
        large_norm_squared: Tensor,
        small_batch_size: int,
        large_batch_size: int,
    ) -> None:
        """Call it at every optimizer step with the squared gradient norms that a critical batch size is formed from.

        Steps of other batch sizes than the metric's (those of the first call, unless it came with its own), such as the
        last of an epoch, are left out. :mod:`intensive_callbacks.gradients` takes the norms.
        """
        with self.guard("observing the gradients"):
            if self.gatherer.gradient_noise is None:
                self.known.facts |= {"small_batch_size": small_batch_size, "large_batch_size": large_batch_size}
                (selected,) = (each for each in self.selected if each.card.fed_by == "gradients")
                self.gatherer.gradient_noise = selected.build(self.known.facts).clone().to(small_norm_squared.device)
            noise: Any = self.gatherer.gradient_noise
            if (small_batch_size, large_batch_size) == (noise.small_batch_size, noise.large_batch_size):
                noise.update(small_norm_squared, large_norm_squared)

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
        with self.guard("watching the validation"):
            self.gatherer.begin_validation()

    def end_validation(self, *, keep: bool = True) -> None:
        """Training goes on; what the validation gave is kept for the next ``log``, or forgotten."""
        with self.guard("watching the validation"):
            self.gatherer.end_validation(keep=keep)

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
        self.alarms = []
        self._increment, self._step = max(step - self._step, 1), step
        if not (due or accuracy is not None or self.gatherer.validation is not None or not self._baseline_given):
            return {}
        values: dict[str, float] = {}
        with self.guard("logging"):
            training = due or not self._baseline_given
            gathered = self.gatherer.gather(accuracy, num_examples, training=training).reduce()
            self._report_failures(gathered)
            values = self._values(gathered, step, due=due)
            if values:
                self.history.append(step, values)
            if due and self.observer and self.observer.layers:
                self.observer.warn_of_silence()
                self._judge(step, gathered.window("training"))
        with self.guard("emptying the windows"):
            self.gatherer.empty(training=due)
        return values

    def _values(self, gathered: Gathered, step: int, *, due: bool) -> dict[str, float]:
        self.known.learn(gathered, self.observer.layers if self.observer else ())
        values = {} if self._baseline_given else self.known.baseline()
        self._baseline_given = True
        if due:
            self.known.take_pace(gathered, step)
            values |= self.known.pace
        values |= self.valuation.form(gathered, due=due)
        return self._explain(to_floats(values))

    def _judge(self, step: int, window: Window) -> None:
        """Keep the loads for the heatmap, and warn once of each router that has fallen ill."""
        self._last_window = window
        counts = iter(torch.cat([states["load"] for states in window.values()]).tolist())
        loads = {layer: list(islice(counts, len(states["load"]))) for layer, states in window.items()}
        self.heatmap.append({"step": step, "loads": loads}, MAX_HEATMAP_STEPS)
        self.alarms = [f"step {step}: {each.kind} in {each.layer}: {each.text}" for each in self.health.new(window)]
        for alarm in self.alarms:
            warnings.warn(alarm, stacklevel=4)

    def verdict(self) -> str | None:
        """The routers' health over the last window, in words; ``None`` where no router was seen."""
        return self.health.verdict(self._last_window) if self._last_window else None

    def finish(self) -> BenchmarkTable:
        """The final table: this model, with the newest values, and the published ones of ``benchmark``."""
        from intensive_callbacks.benchmark.baselines import load_baselines
        from intensive_callbacks.benchmark.row import BenchmarkRow
        from intensive_callbacks.benchmark.table import BenchmarkTable

        formed = {selected.card.key for selected in [*self.selected, *self.tapped]}
        measured = {
            key: value for key, value in self.history.newest().items() if key in formed or key.startswith("cost/")
        }
        row = BenchmarkRow(
            model=self.model_name,
            task=self.task or "this run",
            protocol="measured in this run",
            source="this run",
            measured=measured,
            measured_errors=self.valuation.errors,
            **self.known.row(),
        )
        automatic = "language" if self.known.has_tokens else "vision"
        benchmark = automatic if self.benchmark == "auto" else self.benchmark
        return BenchmarkTable([row, *(load_baselines(benchmark) if benchmark else [])])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that history and final table go on where they were."""
        return {
            "history": self.history.state_dict(),
            "known": self.known.state_dict(),
            "errors": dict(self.valuation.errors),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was."""
        self.history.load_state_dict(state["history"])
        self.known.load_state_dict(state["known"])
        self.valuation.errors = dict(state["errors"])

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
            name = self.tapped[int(group[3:])].card.symbol if group.startswith("tap") else GROUPS.get(group, group)
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
