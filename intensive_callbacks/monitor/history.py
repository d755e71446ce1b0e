"""The values of a run, kept small enough to be drawn and saved however long the run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from intensive_callbacks.monitor.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from intensive_callbacks.routing.sums import RoutingSums

AXES = {"step", "x"}
BY_LAYER = "routing_by_layer/"
# Of numbers with a layer's name, and of the experts of all layers, so many are kept for a chart and a checkpoint.
MAX_NUMBERS, MAX_CELLS = 24_000, 100_000
MAX_SNAPSHOTS, MIN_ROWS = 100, 8


@dataclass
class Series:
    """Rows of one kind: thinned by themselves, so that frequent rows cannot crowd out rare ones."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    newest: dict[str, Any] = field(default_factory=dict)
    stride: int = 1
    num_appended: int = 0

    def append(self, row: dict[str, Any], max_rows: int) -> None:
        """Add a row; above ``max_rows`` drop every second one."""
        if self.num_appended % self.stride == 0:
            self.rows.append(row)
            if len(self.rows) >= max_rows:
                self.rows = self.rows[::2]
                self.stride *= 2
        self.newest = row
        self.num_appended += 1

    def kept(self) -> list[dict[str, Any]]:
        """The rows there are, the newest among them."""
        if not self.rows:
            return []
        has_newest = (self.num_appended - 1) % self.stride == 0
        return self.rows if has_newest else [*self.rows, self.newest]

    def packed(self, names: list[str]) -> dict[str, Any]:
        """What a checkpoint keeps of rows whose numbers have these names: the newest row is the last one."""
        rows = [*self.rows, self.newest]
        numbers = torch.tensor([[row[name] for name in names] for row in rows], dtype=torch.float64)
        return {**self.axes(), "names": names, "numbers": pack(numbers)}

    def axes(self) -> dict[str, Any]:
        """Where its rows stand, the newest last, and how they are thinned."""
        axes = [[row["step"], row["x"]] for row in [*self.rows, self.newest]]
        return {"axes": axes, "stride": self.stride, "num_appended": self.num_appended}

    @classmethod
    def unpacked(cls, state: Mapping[str, Any]) -> Series:
        """As a checkpoint saved it, this version's or one with whole rows; what is not known is ignored."""
        known = {name: state[name] for name in ("rows", "newest", "stride", "num_appended") if name in state}
        if "numbers" in state:
            names, axes = state["names"], state["axes"]
            numbers = unpack(state["numbers"], (len(axes), len(names))).tolist()
            *rows, newest = (
                {"step": step, "x": x, **dict(zip(names, row, strict=True))}
                for (step, x), row in zip(axes, numbers, strict=True)
            )
            known |= {"rows": rows, "newest": newest}
        return cls(**known)


class Heatmap:
    """The load of each expert, window after window: fewer windows of many experts."""

    def __init__(self) -> None:
        self._series = Series()

    def append(self, step: int, x: int, routing: RoutingSums) -> None:
        """Add the loads of the window that ends at this step, which stands at ``x`` in charts."""
        loads = {
            layer: load
            for group in routing.groups
            for layer, load in zip(group.layers, group.states()["load"].clone(), strict=True)
        }
        row = {"step": step, "x": x, "loads": {layer: loads[layer] for layer in routing.layers}}
        num_cells = max(sum(map(len, loads.values())), 1)
        self._series.append(row, max(min(MAX_SNAPSHOTS, MAX_CELLS // num_cells), MIN_ROWS))

    def rows(self, axis: str = "step") -> list[dict[str, Any]]:
        """The windows kept: ``{"step": ..., "loads": {layer: [load of each expert]}}``; ``axis`` as in a History."""
        return [
            {"step": row.get(axis, row["step"]), "loads": {name: _listed(each) for name, each in row["loads"].items()}}
            for row in self._series.kept()
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        rows = [*self._series.rows, self._series.newest] if self._series.rows else []
        layers = [[[name, len(load)] for name, load in row["loads"].items()] for row in rows]
        kept = [torch.as_tensor(load, dtype=torch.float64) for row in rows for load in row["loads"].values()]
        packed = {"layers": layers, "loads": pack(torch.cat(kept))} if rows else {}
        return {**(self._series.axes() if rows else {}), **packed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from a checkpoint."""
        if "layers" not in state:
            self._series = Series.unpacked(state)
            return
        sizes = [size for row in state["layers"] for _, size in row]
        loads = iter(torch.split(unpack(state["loads"], (sum(sizes),)), sizes))
        *rows, newest = (
            {"step": step, "x": x, "loads": {name: next(loads) for name, _ in row}}
            for (step, x), row in zip(state["axes"], state["layers"], strict=True)
        )
        self._series = Series(rows, newest, state["stride"], state["num_appended"])


def _listed(load: Tensor | list[float]) -> list[float]:
    numbers: list[float] = torch.as_tensor(load).tolist()
    return numbers


class History:
    """One row per logging event, thinned so that its size is bounded.

    Above ``max_rows`` rows of the same keys every second one is dropped, and from then on only every second, fourth,
    ... new one is kept; the newest is always there.

    Args:
        max_rows: the most rows kept of each set of keys, at least 2.

    Example:
        >>> history = History(max_rows=4)
        >>> for step in range(1, 12):
        ...     history.append(step, {"intensive/p3_score": step / 10})
        >>> [row["step"] for row in history.rows()]
        [1, 5, 9, 11]
    """

    def __init__(self, max_rows: int = 2000) -> None:
        if max_rows < 2:
            raise ValueError(f"max_rows must be at least 2, got {max_rows}")
        self.max_rows = max_rows
        self._series: dict[tuple[str, ...], Series] = {}
        self._newest: dict[str, float] = {}

    def append(self, step: int, values: dict[str, float], x: int | None = None) -> None:
        """Add the values of one logging event, which stands at ``x`` in charts, if that is not the step."""
        axes = {"step": step, "x": step if x is None else x}
        of_layers = {key: value for key, value in values.items() if key.startswith(BY_LAYER)}
        others = {key: value for key, value in values.items() if key not in of_layers}
        self._series_of(others).append({**axes, **others}, self.max_rows)
        if of_layers:
            limit = max(min(self.max_rows, MAX_NUMBERS // len(of_layers)), MIN_ROWS)
            self._series_of(of_layers).append({**axes, **of_layers}, limit)
        self._newest |= values

    def _series_of(self, values: Mapping[str, float]) -> Series:
        return self._series.setdefault(tuple(sorted(values)), Series())

    def rows(self, axis: str = "step") -> list[dict[str, float]]:
        """The rows kept, in order: ``{"step": ..., key: value, ...}``; fewer of them have the values of each layer.

        Args:
            axis: ``"step"``, the optimizer step, or ``"x"``, where the loggers' x axis was: what ``step`` then is.
        """
        kept: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for keys, series in self._series.items():
            kept[bool(keys) and keys[0].startswith(BY_LAYER)] += map(dict, series.kept())
        rows = kept[False]
        place = {(row["step"], row.get("x")): row for row in rows}
        for row in kept[True]:
            at = place.get((row["step"], row.get("x")))
            if at is None:
                rows.append(row)
            else:
                at.update(row)
        placed = (
            {"step": row.get(axis, row["step"]), **{key: value for key, value in row.items() if key not in AXES}}
            for row in rows
        )
        return sorted(placed, key=lambda row: row["step"])

    def newest(self) -> dict[str, float]:
        """The newest value of every key, in the order of their first appearance."""
        return dict(self._newest)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return {
            "series": [
                series.packed([key for key in series.newest if key not in AXES]) for series in self._series.values()
            ]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        restored = map(Series.unpacked, state["series"])
        self._series = {tuple(sorted(set(series.newest) - AXES)): series for series in restored}
        self._newest = {}
        for row in self.rows():
            self._newest |= {key: value for key, value in row.items() if key != "step"}
