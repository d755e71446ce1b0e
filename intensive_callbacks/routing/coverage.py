"""What it means if not every selection was counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intensive_callbacks.functional import routing_coverage_compute

if TYPE_CHECKING:
    from intensive_callbacks.routing.sums import RoutingSums

TOLERANCE = 1e-3


def describe_coverage(sums: RoutingSums) -> str | None:
    """The layers whose coverage is not 1 and the cause that fits; ``None`` where all is counted once."""
    wrong: dict[str, float] = {}
    for group in sums.groups:
        states = group.states()
        values = routing_coverage_compute(states["load"], states["num_dropped"], states["num_expected"]).tolist()
        invalid = states["num_invalid"].tolist()
        rows = zip(group.layers, values, invalid, strict=True)
        wrong |= {layer: value for layer, value, bad in rows if not bad and abs(value - 1) > TOLERANCE}
    if not wrong:
        return None
    layer, value = max(wrong.items(), key=lambda each: abs(each[1] - 1))
    others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f"routing/coverage of layer {layer!r}{others} is {value:.4g}, not 1: {_cause(value)}"


def _cause(coverage: float) -> str:
    if coverage == 0:
        return (
            "no selection was seen while other layers ran. The model was compiled before the hooks were registered, or "
            "a kernel replaces the layer: attach before the first compiled call, or pass a reader"
        )
    if coverage < 1:
        return (
            "some tokens have fewer selections than experts per token. The router drops some without a trace, or "
            "another number of experts per token holds; check the layer's num_experts_per_token, or pass a reader"
        )
    if coverage > 2 - TOLERANCE and abs(coverage - round(coverage)) < TOLERANCE:
        return (
            f"each selection is counted {round(coverage)} times. A forward that backward repeats is counted again (set "
            "observer.in_backward around backward), or processes that share a batch are added up"
        )
    return (
        "more selections were counted than the tokens that entered have. Padding that the experts compute is counted, "
        "or a token has more experts than the layer's num_experts_per_token"
    )
