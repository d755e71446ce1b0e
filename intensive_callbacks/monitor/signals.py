"""What feeds a metric: one registry, open to metrics of any kind.

A signal gives, at a logging step, the arguments of ``update`` that it has news of. Four kinds of data are not given at
a logging step but added up as the model runs; they are named here so that cards and metrics can ask for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from intensive_callbacks.monitor.facts import ModelFacts
    from intensive_callbacks.monitor.window import Window

    Read = Callable[[Window, ModelFacts], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Signal:
    """One kind of data that feeds metrics.

    Attributes:
        name: what a card's ``fed_by`` says.
        provides: the arguments of ``update`` that it can give.
        read: ``read(window, facts)`` gives them at a logging step, ``None`` where there is nothing new; ``None`` for
            data that is added up as the model runs.
        needs: what a run must have for it, in words.
    """

    name: str
    provides: tuple[str, ...]
    read: Read | None
    needs: str


SIGNALS: dict[str, Signal] = {}


def register_signal(name: str, provides: tuple[str, ...], read: Read | None, needs: str = "its signal") -> None:
    """Add a kind of data that can feed metrics; a card asks for it by ``fed_by=name``.

    Args:
        name: its name.
        provides: the names of the arguments of ``update`` that it gives. A Metric object without a card is fed by the
            first signal that gives all the arguments its ``update`` requires.
        read: ``read(window, facts)`` gets the reduced :class:`Window` and the :class:`ModelFacts` of a logging step and
            returns the arguments by name, or ``None`` where there is nothing new; the same on every process.
        needs: what a run must have for it, in words, for the warning about a metric that never got data.

    Example:
        >>> register_signal("loss_scale", ("loss_scale",), lambda window, facts: {"loss_scale": 1.0})
        >>> SIGNALS.pop("loss_scale").provides
        ('loss_scale',)
    """
    SIGNALS[name] = Signal(name, tuple(provides), read, needs)


def _accuracy(window: Window, facts: ModelFacts) -> Mapping[str, Any] | None:
    if not window.quality.is_fresh:
        return None
    return {"accuracy": facts.accuracy, "num_examples": facts.num_examples}


def _tokens(window: Window, facts: ModelFacts) -> Mapping[str, Any] | None:
    is_known = facts.has_tokens and math.isfinite(facts.seen_tokens)  # a process may have failed to count its own
    return {"num_tokens": int(facts.seen_tokens)} if window.is_due and is_known else None


def _energy(window: Window, facts: ModelFacts) -> Mapping[str, Any] | None:
    return facts.energy if window.is_due else None


def _learning_curve(window: Window, facts: ModelFacts) -> Mapping[str, Any] | None:
    """The accuracies so far and the training examples before each, once the number of these has doubled."""
    if not (window.quality.is_fresh and facts.data_is_new and facts.curve):
        return None
    sizes, accuracies = torch.tensor(facts.curve, dtype=torch.float64).unbind(-1)
    return {"num_examples": sizes, "accuracy": accuracies} if sizes.min() <= sizes.max() / 2 else None


register_signal("accuracy", ("accuracy", "num_examples"), _accuracy, "an accuracy, a fraction in [0, 1]")
register_signal("tokens", ("num_tokens",), _tokens, "tokens: batches with input_ids, or num_tokens=")
register_signal("energy", ("joules", "bits_erased"), _energy, "a GPU that counts energy, and the extra 'energy' (NVML)")
register_signal(
    "data",
    ("num_examples", "accuracy"),
    _learning_curve,
    "accuracies at two numbers of training examples, one at most half the other, while each example is new",
)
register_signal(
    "gradients",
    ("small_norm_squared", "large_norm_squared"),
    None,
    "gradients of two batch sizes: DDP or accumulate_grad_batches of at least 2, or observe_gradients() in a loop",
)
register_signal(
    "routing",
    ("expert_ids", "weights", "dispatch", "probabilities", "logits", "mask"),
    None,
    "a router that is observed",
)
register_signal("tap", (), None, "a signal from inside the model: pass taps=[Tap(module, read, metric)]")
