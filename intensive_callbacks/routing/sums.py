"""The routing sums of all layers of a model in one piece: a row per layer, one table per number of experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from intensive_callbacks.routing.kept import count_kept
from intensive_callbacks.routing.statistics import COUNTS, PER_EXPERT, row_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from intensive_callbacks.routing.statistics import RoutingStatistics


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """The sums of the layers that have the same number of experts.

    Attributes:
        layers: their names, in order of depth.
        num_experts: E, the classes of their routers.
        values: ``[L, W]`` float64, a row per layer.
    """

    layers: tuple[str, ...]
    num_experts: int
    values: Tensor

    def states(self) -> dict[str, Tensor]:
        """Views of the sums by name: ``[L, E]`` of load, importance and probability, ``[L]`` of the others."""
        return self._states

    @cached_property
    def _states(self) -> dict[str, Tensor]:
        return {
            name: self.values[:, columns] if name in PER_EXPERT else self.values[:, columns.start]
            for name, columns in row_columns(self.num_experts).items()
        }


@dataclass(frozen=True, eq=False)
class RoutingSums:
    """What :class:`RoutingStatistics` counted, for all layers of a model; false where there is no layer.

    Attributes:
        layers: the names of all layers, in order of depth.
        groups: their sums, grouped by the number of experts.

    Example:
        >>> from intensive_callbacks.routing.statistics import RoutingStatistics
        >>> statistics = {"0.mlp": RoutingStatistics(num_experts=4), "1.mlp": RoutingStatistics(num_experts=4)}
        >>> statistics["0.mlp"].count(torch.tensor([[0, 1], [2, -1]]), mask=None)
        >>> sums = RoutingSums.of(statistics)
        >>> sums.groups[0].states()["load"].int().tolist(), sums.num_tokens
        ([[1, 1, 1, 0], [0, 0, 0, 0]], 2.0)
        >>> sums.with_packed(2 * sums.packed()).by_layer()["0.mlp"]["num_dropped"]  # two processes added up
        tensor(2., dtype=torch.float64)
    """

    layers: tuple[str, ...]
    groups: tuple[LayerGroup, ...]

    @classmethod
    def of(cls, statistics: Mapping[str, RoutingStatistics], device: torch.device | str = "cpu") -> RoutingSums:
        """A copy of the sums of each layer, by its name: two concatenations and one transfer per group and device."""
        with torch.inference_mode(mode=False):  # what is read in a validation is added to after it
            return cls(
                tuple(statistics),
                tuple(
                    LayerGroup(names, num_experts, _read([statistics[name] for name in names], device))
                    for num_experts, names in _grouped(statistics).items()
                ),
            )

    def __bool__(self) -> bool:
        return bool(self.layers)

    @property
    def num_tokens(self) -> float:
        """The tokens of all layers together."""
        return sum(float(group.states()["num_tokens"].sum()) for group in self.groups)

    def packed(self) -> Tensor:
        """All sums in one flat float64 tensor, to be added up over processes."""
        parts = [group.values.flatten() for group in self.groups]
        return torch.cat(parts).double() if parts else torch.zeros(0, dtype=torch.float64)

    def with_packed(self, packed: Tensor) -> RoutingSums:
        """These layers with the sums that a tensor like :meth:`packed` has."""
        parts = torch.split(packed, [group.values.numel() for group in self.groups])
        pairs = zip(self.groups, parts, strict=True)
        return self._with([part.view_as(group.values) for group, part in pairs])

    def to(self, device: torch.device | str) -> RoutingSums:
        """The same sums on another device."""
        return self._with([group.values.to(device) for group in self.groups])

    def without(self, layers: Collection[str]) -> RoutingSums:
        """These sums with nothing but ``num_invalid`` = 1 in the given layers: what is formed of them is NaN."""
        values = [group.values.clone() for group in self.groups]
        for group, rows in zip(self.groups, values, strict=True):
            invalid = row_columns(group.num_experts)["num_invalid"]
            for number in [i for i, name in enumerate(group.layers) if name in layers]:
                rows[number] = 0
                rows[number, invalid] = 1
        return self._with(values)

    def expecting(self, layers: Collection[str]) -> RoutingSums:
        """These sums with layers that never ran expecting as many selections as the others do on average."""
        numbers = torch.cat([group.states()["num_expected"] for group in self.groups])
        others = numbers[numbers > 0]
        if not len(others):
            return self
        values = [group.values.clone() for group in self.groups]
        for group, rows in zip(self.groups, values, strict=True):
            expected = row_columns(group.num_experts)["num_expected"]
            for number in [i for i, name in enumerate(group.layers) if name in layers]:
                rows[number, expected] = others.mean().round()
        return self._with(values)

    def by_layer(self) -> dict[str, dict[str, Tensor]]:
        """The sums by layer, in order of depth, and by name."""
        rows: dict[str, dict[str, Tensor]] = {}
        for group in self.groups:
            states = {name: state.unbind() for name, state in group.states().items()}
            rows |= {
                layer: {name: state[number] for name, state in states.items()}
                for number, layer in enumerate(group.layers)
            }
        return {layer: rows[layer] for layer in self.layers}

    def write(self, statistics: Mapping[str, RoutingStatistics]) -> None:
        """Overwrite the sums of the layers, in place, with these."""
        for group in self.groups:
            num_integers = row_columns(group.num_experts)[COUNTS[-1]].stop
            for device, rows in _by_device([statistics[name] for name in group.layers]).items():
                values = group.values[list(rows)].to(device)
                integers, reals = _accumulators(rows.values())
                _copy(integers, values[:, :num_integers].to(torch.int64))
                _copy(reals, values[:, num_integers:].to(reals[0].dtype))
                for each in rows.values():
                    each.forget_waiting()

    def _with(self, values: list[Tensor]) -> RoutingSums:
        groups = (replace(group, values=rows) for group, rows in zip(self.groups, values, strict=True))
        return replace(self, groups=tuple(groups))


def reset(statistics: Iterable[RoutingStatistics]) -> None:
    """Set the sums of all layers to zero, in place."""
    layers = list(statistics)
    for rows in _by_device(layers).values():
        for tensors in _accumulators(rows.values()):
            torch._foreach_zero_(tensors)
    for each in layers:
        each.forget_waiting()


def _grouped(statistics: Mapping[str, RoutingStatistics]) -> dict[int, tuple[str, ...]]:
    """The layers' names by their number of experts."""
    groups: dict[int, list[str]] = {}
    for name, each in statistics.items():
        groups.setdefault(each.num_experts, []).append(name)
    return {num_experts: tuple(names) for num_experts, names in groups.items()}


def _by_device(layers: list[RoutingStatistics]) -> dict[torch.device, dict[int, RoutingStatistics]]:
    """Layers by their device, each with its row."""
    devices: dict[torch.device, dict[int, RoutingStatistics]] = {}
    for number, each in enumerate(layers):
        devices.setdefault(each.device, {})[number] = each
    return devices


def _accumulators(layers: Iterable[RoutingStatistics]) -> tuple[list[Tensor], list[Tensor]]:
    """All tensors that are added to, layer after layer: integers and floating-point ones."""
    layers = list(layers)
    return [t for each in layers for t in each.integers], [t for each in layers for t in each.reals]


def _read(layers: list[RoutingStatistics], device: torch.device | str) -> Tensor:
    """The rows ``[L, W]`` of layers with equally many experts."""
    count_kept(layers)
    devices = _by_device(layers)
    parts = []
    for rows in devices.values():
        integers, reals = (torch.cat(tensors).view(len(rows), -1) for tensors in _accumulators(rows.values()))
        parts.append(torch.cat([integers.to(reals.dtype), reals], dim=1).to(device))
    values = parts[0]
    if len(parts) > 1:
        order = torch.tensor(list(chain(*devices.values())), device=device)
        values = torch.cat(parts).index_select(0, order.argsort())
    values = values if values.device.type == "mps" else values.double()
    columns = row_columns(layers[0].num_experts)
    waiting = torch.tensor([each.waiting() for each in layers], dtype=values.dtype, device=device)
    values[:, columns["num_tokens"].start : columns["num_logits"].stop] += waiting
    return values


def _copy(tensors: list[Tensor], values: Tensor) -> None:
    """Copy the rows of ``values`` over tensors that stand in their order."""
    parts = torch.split(values.flatten(), [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, parts)
