"""What is refused before training starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from intensive_callbacks.boundary import Refused
from intensive_callbacks.functional.checks import require_baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor
    from torchmetrics import Metric

    from intensive_callbacks.monitor.selection import Selected
    from intensive_callbacks.monitor.taps import RouterTap, Tap


class MonitorOptions(TypedDict, total=False):
    """The arguments of :class:`Monitor` that an adapter hands on as they are."""

    every_n_steps: int
    num_tokens: Callable[[Any], int | None] | None
    num_examples: Callable[[Any], int] | None
    mask: Callable[[Any], Tensor | None] | None
    routers: Any
    taps: Sequence[Tap | RouterTap]
    metrics: str | Iterable[str | Metric]
    benchmark: str | None
    model_name: str | None
    task: str | None
    per_layer: bool
    observe: str
    strict: bool
    alert: bool
    process_group: Any


def check_options(every_n_steps: int, random_baseline: float | None, observe: str) -> None:
    """Raise ``ValueError`` for what can be told before there is a model."""
    if every_n_steps < 1:
        raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
    if random_baseline is not None:
        require_baseline(random_baseline)
    if observe not in ("sampled", "every_step"):
        raise ValueError(f'observe must be "sampled" or "every_step", got {observe!r}')


def split_baseline(random_baseline: float | str | None) -> tuple[float | None, bool]:
    """The accuracy of chance as far as it is given, and whether an adapter is to measure it.

    Raises:
        ValueError: if it is a text other than ``"measure"``.
    """
    if not isinstance(random_baseline, str):
        return random_baseline, False
    if random_baseline != "measure":
        raise ValueError(f'random_baseline must be a fraction, "measure" or None, got {random_baseline!r}')
    return None, True


def refuse_what_cannot_be_measured(
    selected: Sequence[Selected], facts: Mapping[str, float], *, has_router: bool
) -> None:
    """Raise ``ValueError`` for a metric that was asked for and that this model, or what is known, cannot give."""
    asked = [each for each in selected if each.asked]
    routed = [each.card.symbol for each in asked if each.card.fed_by == "routing"]
    if routed and not has_router:
        raise Refused(f"{', '.join(routed)} need a router and the model shows none; name it with routers=")
    chance = [each.card.symbol for each in asked if "random_baseline" in each.missing(facts)]
    if chance:
        raise Refused(f"{', '.join(chance)} need the accuracy of chance; pass random_baseline=")
