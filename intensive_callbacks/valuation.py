"""Valuation: from what was gathered to the values of one logging step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from intensive_callbacks.values import Values, feed, layer_values, named, over_layers, standard_errors, to_floats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torchmetrics import Metric

    from intensive_callbacks.gathered import Gathered, Window
    from intensive_callbacks.gatherer import Gatherer
    from intensive_callbacks.knowledge import Knowledge
    from intensive_callbacks.selection import Selected


class Valuation:
    """Forms each metric, by what feeds it, where there is something new for it.

    Args:
        selected: the metrics of the run.
        tapped: those that the gatherer's taps feed, in their order.
        known: facts to build metrics from, and signals to feed them with.
        gatherer: whose taps and windows they are.
        guard: a context in which what fails is told under a name.
        per_layer: also give the routing values of every layer.

    Attributes:
        errors: the newest standard error of each metric that has one, by key.
    """

    def __init__(
        self,
        selected: Sequence[Selected],
        tapped: Sequence[Selected],
        known: Knowledge,
        gatherer: Gatherer,
        guard: Callable[[str], AbstractContextManager[None]],
        *,
        per_layer: bool,
    ) -> None:
        self.selected, self.tapped, self.known, self.gatherer = selected, tapped, known, gatherer
        self.guard, self.per_layer = guard, per_layer
        self.errors: dict[str, float] = {}
        self._values: Values = {}
        self._errors: Values = {}

    def form(self, gathered: Gathered, *, due: bool) -> Values:
        """The values of one logging step; ``due`` where a window of training ends with it."""
        self._values, self._errors = {}, {}
        training, validation = gathered.window("training") if due else {}, gathered.window("validation")
        for selected in self.selected:
            with self.guard(selected.card.symbol):
                if selected.card.fed_by == "routing":
                    self._form_routing(selected, self._window(selected, training, validation))
                elif selected.card.fed_by == "gradients":
                    if due and any(name.startswith("gradients/") for name in gathered.sums):
                        metric = selected.build(self.known.facts)
                        gathered.load_metric("gradients", metric)
                        self._take(selected, metric)
                else:
                    signals = self.known.signals(selected.card.fed_by, gathered, due=due)
                    if signals and not selected.missing(self.known.facts):
                        self._take(selected, feed(selected.build(self.known.facts), signals))
        if self.gatherer.taps_are_due(training=due):
            for index, selected in enumerate(self.tapped):
                if f"tap{index}" not in gathered.failed:
                    with self.guard(selected.card.symbol):
                        self._form_tapped(selected, index, gathered)
        self.errors |= to_floats(self._errors)
        return self._values

    def _take(self, selected: Selected, metric: Metric) -> None:
        self._errors |= standard_errors(selected.card.key, metric)
        self._values |= named(selected.card.key, metric.compute())

    def _form_routing(self, selected: Selected, window: Window) -> None:
        if window:
            layers = layer_values(selected, window, self.known.facts)
            values, errors = over_layers(selected.card, layers, per_layer=self.per_layer)
            self._values |= values
            self._errors |= errors

    def _form_tapped(self, selected: Selected, index: int, gathered: Gathered) -> None:
        _, _, metric = self.gatherer.taps[index]
        gathered.load_metric(f"tap{index}", metric)
        if "accuracy" in inspect.signature(metric.update).parameters:
            # Labels come with batches, the accuracy when it is fresh: without it there is nothing new to say.
            signals = self.known.signals("accuracy", gathered, due=True)
            if signals is None:
                return
            feed(metric, signals)
        self._take(selected, metric)

    def _window(self, selected: Selected, training: Window, validation: Window) -> Window:
        # An evaluation that never ran this model leaves only what training has seen.
        ran = not validation or any(states["num_tokens"] > 0 for states in validation.values())
        if selected.card.key.startswith("intensive/") and self.gatherer.has_validation and ran:
            return validation
        return training
