"""The metrics that are fed as the model runs: from taps, from gradients, and from every decision of the routers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intensive_callbacks.boundary import Refused
from intensive_callbacks.monitor.selection import select_tap
from intensive_callbacks.monitor.taps import Feeder, RouterTap, Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn
    from torchmetrics import Metric

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.monitor.selection import Selected
    from intensive_callbacks.monitor.states import States
    from intensive_callbacks.routing.observer import RouterObserver
    from intensive_callbacks.routing.sample import RouterSample

    Facts = Callable[[], Mapping[str, float]]


class Feeds:
    """Feeders of all metrics that no logging step feeds, each with its states under a name of its own.

    Attributes:
        tapped: the metrics that taps feed, by the name of their states.
        gradients: those of gradients.
        sampled: those that see every decision of a router, with its layer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        taps: Sequence[Tap | RouterTap],
        selected: Sequence[Selected],
        layers: Mapping[str, int],
        facts: Facts,
        boundary: Boundary,
    ) -> None:
        self._boundary, self._num_experts = boundary, dict(layers)
        self._batch: Any = None
        self._modules: dict[str, list[nn.Module]] = {}
        self._taps: dict[str, Tap | RouterTap] = {}
        self._layers_of: dict[str, list[str]] = {}
        self._feeders: dict[str, Feeder] = {}
        self.tapped: dict[str, Selected] = {}
        self.gradients: dict[str, Selected] = {}
        self._batch_sizes: dict[str, tuple[float, float] | None] = {}
        self.sampled: dict[str, tuple[Selected, str]] = {}
        named = dict(model.named_modules()) if taps else {}
        for index, tap in enumerate(taps):
            if isinstance(tap, RouterTap) and boundary.failed:
                boundary.warn(f"tap {index}", f"the tap on {tap.layer!r} is left out, since routers could not be found")
                continue
            name, chosen = f"tap{index}", select_tap(tap.into)
            _refuse_unknown_baseline(chosen, facts())
            if isinstance(tap, Tap):
                self._modules[name] = tap.find(named)
            else:
                self._layers_of[name] = tap.find(layers)
            self._taps[name], self.tapped[name] = tap, chosen
            place = (
                tap.module
                if isinstance(tap, Tap) and isinstance(tap.module, str)
                else getattr(tap, "layer", "a module")
            )
            self._add(name, f"the tap on {place!r} into {chosen.card.symbol}", _built(chosen, facts))
        for index, chosen in enumerate(selected):
            if chosen.card.fed_by == "gradients":
                name = f"gradients{index}"
                self.gradients[name] = chosen
                self._batch_sizes[name] = _batch_sizes(chosen.given)
                self._add(name, chosen.card.symbol, _built(chosen, facts))
            elif chosen.card.fed_by == "routing" and _needs_samples(chosen, facts(), layers):
                for layer, num_experts in layers.items():
                    name = f"routing{index}:{layer}"
                    self.sampled[name] = chosen, layer
                    self._add(
                        name, f"{chosen.card.symbol} of {layer!r}", _built(chosen, facts, num_experts=num_experts)
                    )

    def _add(self, name: str, part: str, build: Callable[..., Metric | None]) -> None:
        self._feeders[name] = Feeder(part, build, self._boundary)

    def attach(self, observer: RouterObserver | None) -> None:
        """Register the hooks of the taps, and subscribe to the routers' samples where a metric needs them."""
        for name, modules in self._modules.items():
            feeder = self._feeders[name]
            self._boundary.call(feeder.name, feeder.register, modules, self._taps[name].read, off=feeder.disable)
        if observer and (self._layers_of or self.sampled):
            observer.switch(on_sample=self._router_decided)

    def detach(self) -> None:
        """Remove the hooks."""
        for feeder in self._feeders.values():
            feeder.remove()

    def see(self, batch: Any) -> None:
        """Keep the batch that comes for router taps, which read it beside what is decided for it."""
        if self._layers_of:
            self._batch = batch

    def listen(self, on: bool) -> None:
        """Enable or disable reading the taps in the next forward passes."""
        for name in self.tapped:
            feeder = self._feeders[name]
            (feeder.open if on else feeder.shut)()

    def _router_decided(self, sample: RouterSample) -> None:
        for name, layers in self._layers_of.items():
            if sample.layer in layers:
                self._feeders[name].feed_safely(self._taps[name].read, sample, self._batch)
        for name, (chosen, layer) in self.sampled.items():
            if layer == sample.layer:
                self._feeders[name].open()
                self._feeders[name].feed_safely(_arguments, sample, chosen.accepted)

    def observe_gradients(self, small: Tensor, large: Tensor, batch_sizes: tuple[float, float]) -> None:
        """Feed the metrics of gradients with the squared norms of one optimizer step.

        A step of other batch sizes than a metric's, those of its first step unless it came with its own, is left out.
        """
        for name in self.gradients:
            if self._batch_sizes[name] is None:
                self._batch_sizes[name] = batch_sizes
            if self._batch_sizes[name] == batch_sizes:
                self._feeders[name].open()
                self._feeders[name].feed_safely(lambda: {"small_norm_squared": small, "large_norm_squared": large})

    def close(self, *, taps: bool, steps: bool) -> tuple[dict[str, States], dict[str, States], frozenset[str]]:
        """The states of the metrics whose windows end, and the names of those that failed.

        Args:
            taps: whether the window of the taps ends.
            steps: whether that of the training steps ends.
        """
        ending = [*(self.tapped if taps else ()), *((*self.gradients, *self.sampled) if steps else ())]
        sums: dict[str, States] = {}
        samples: dict[str, States] = {}
        for name in ending:
            feeder = self._feeders[name]
            if feeder.has_failed:
                continue
            # The noise of the gradient is an average over the whole training.
            reset = name not in self.gradients
            taken = self._boundary.call(feeder.name, feeder.take, reset=reset, off=feeder.disable)
            if taken is not None:
                sums[name], samples[name] = taken
        self._batch = None
        return sums, samples, frozenset(name for name in ending if self._feeders[name].has_failed)

    @property
    def names(self) -> frozenset[str]:
        """The names of the metrics that are fed."""
        return frozenset(self._feeders)

    def disable(self, name: str) -> None:
        """Stop feeding a metric for the rest of the run."""
        self._feeders[name].disable()

    def part(self, name: str) -> str:
        """What a feeder is called in warnings."""
        return self._feeders[name].name

    def num_experts(self, layer: str) -> int:
        """How many experts the router of a layer chooses from."""
        return self._num_experts[layer]

    def state_dict(self) -> dict[str, Any]:
        """The states of every metric that was fed, on this process, and the sizes that were learned."""
        saved: dict[str, Any] = {}
        for name, feeder in self._feeders.items():
            if feeder.was_fed and (states := feeder.take(reset=False)):
                learned = self.tapped[name].learned if name in self.tapped else {}
                saved[name] = {"sums": states[0], "samples": states[1], "learned": dict(learned)}
        return saved

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the metrics from a checkpoint; one that is not in it begins anew."""
        self.reset()
        for name in state.keys() & self._feeders.keys():
            if name in self.tapped:
                self.tapped[name].restore(state[name]["learned"])
            feeder, states = self._feeders[name], (state[name]["sums"], state[name]["samples"])
            self._boundary.call(feeder.name, feeder.restore, *states)

    def reset_taps(self) -> None:
        """Reset the metrics that taps feed."""
        for name in self.tapped:
            self._boundary.call(self._feeders[name].name, self._feeders[name].reset)

    def reset(self) -> None:
        """Reset the metrics."""
        for feeder in self._feeders.values():
            self._boundary.call(feeder.name, feeder.reset)


def _built(chosen: Selected, facts: Facts, **more: float) -> Callable[..., Metric | None]:
    def build(*args: Any, **kwargs: Any) -> Metric | None:
        if chosen.learnable and not chosen.learned:
            if not (args or kwargs):
                return None
            chosen.learn(*args, **kwargs)
        return chosen.fresh({**facts(), **more})

    return build


def _needs_samples(chosen: Selected, facts: Mapping[str, float], layers: Mapping[str, int]) -> bool:
    """Whether a metric of routing cannot be computed from the sums that every router has."""
    known = {**facts, "num_experts": max(layers.values(), default=1)}
    return not chosen.missing(known) and not chosen.reads_routing_sums(known)


def _refuse_unknown_baseline(chosen: Selected, facts: Mapping[str, float]) -> None:
    if "random_baseline" in chosen.required and "random_baseline" not in facts:
        raise Refused(f"{chosen.card.symbol} needs the accuracy of chance; pass random_baseline=")


def _batch_sizes(metric: Any) -> tuple[Any, Any] | None:
    """The batch sizes that a user's own metric came with, if it did."""
    sizes = getattr(metric, "small_batch_size", None), getattr(metric, "large_batch_size", None)
    return None if None in sizes else sizes


def _arguments(sample: RouterSample, accepted: set[str]) -> dict[str, Any]:
    """What an ``update`` takes of a sample."""
    return {name: value for name in accepted if (value := getattr(sample, name, None)) is not None}
