"""What is said once about layers that could not be observed, or whose ids or probabilities are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.routing.sums import RoutingSums


def warn_about_unread_layers(boundary: Boundary, layers: Sequence[str]) -> None:
    """Warn about layers whose forward ran without a selection that could be read."""
    if layers:
        boundary.warn(
            "unread layers",
            f"the routing of {_listing(layers)} could not be read: the layer ran, but no selection of experts was "
            "seen. Pass a reader: routers={'name.of.the.router': read}",
            UserWarning,
        )


def warn_about_silent_layers(boundary: Boundary, layers: Sequence[str]) -> None:
    """Warn about layers whose hooks never fired."""
    if layers:
        boundary.warn(
            "silent layers",
            f"the routers of {_listing(layers)} never fired: the model was compiled before the hooks were "
            "registered, or its forward does not call these modules. Attach before the first compiled call",
            UserWarning,
        )


def warn_about_lookalikes(boundary: Boundary, found: Sequence[tuple[str, str]]) -> None:
    """Warn about modules that look like a mixture of experts and are not observed."""
    if found:
        (name, sign), others = found[0], len(found) - 1
        boundary.warn(
            "lookalikes",
            f"module {name!r}{f' (and {others} more)' if others else ''} looks like a mixture of experts ({sign}), but "
            "no router was found in it, so its routing is not observed and all its parameters count as active. Pass a "
            "reader: routers={'name.of.the.router': read}; or leave it out: routers=None",
            UserWarning,
        )


def warn_about_invalid_ids(boundary: Boundary, sums: RoutingSums, failed: Collection[str]) -> None:
    """Warn about each router that gave ids outside its range; ``failed`` layers have been reported before."""
    for group in sums.groups:
        num_invalid = group.states()["num_invalid"].tolist()
        for layer, number in zip(group.layers, num_invalid, strict=True):
            if number and layer not in failed:
                boundary.warn(
                    f"invalid ids of {layer}",
                    f"the router of layer {layer!r} gave {number:.0f} expert ids outside [-1, {group.num_experts}), "
                    "or ids that were overwritten before they were counted, and what is formed of its routing is NaN. "
                    "Expert ids count from 0, and -1 is an unused slot",
                    UserWarning,
                )


def warn_about_improbable_scores(boundary: Boundary, sums: RoutingSums) -> None:
    """Warn about each router whose probabilities are none."""
    for group in sums.groups:
        states = group.states()
        improbable = (states["entropy"].isnan() & (states["num_probabilities"] > 0)).tolist()
        for layer in (layer for layer, is_nan in zip(group.layers, improbable, strict=True) if is_nan):
            boundary.warn(
                f"probabilities of {layer}",
                f"the router of layer {layer!r} gave probabilities that are negative, NaN or do not sum to 1, and what "
                "is formed of them is NaN. Have the reader return scores before the softmax as logits, or normalize "
                "them",
                UserWarning,
            )


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
