"""The values of a run, kept small enough to be drawn and saved however long the run is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from intensive_callbacks.routing.sums import RoutingSums

AXES = {"step", "x"}
MAX_SNAPSHOTS = 100


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
        return self.rows if self.rows[-1] == self.newest else [*self.rows, self.newest]

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """As a checkpoint saved it; what this version does not know is ignored."""
        return cls(**{each.name: state[each.name] for each in fields(cls) if each.name in state})


class Heatmap:
    """The load of each expert, window after window."""

    def __init__(self) -> None:
        self._series = Series()

    def append(self, step: int, x: int, routing: RoutingSums) -> None:
        """Add the loads of the window that ends at this step, which stands at ``x`` in charts."""
        loads = {
            layer: load
            for group in routing.groups
            for layer, load in zip(group.layers, group.states()["load"].tolist(), strict=True)
        }
        row = {"step": step, "x": x, "loads": {layer: loads[layer] for layer in routing.layers}}
        self._series.append(row, MAX_SNAPSHOTS)

    def rows(self, axis: str = "step") -> list[dict[str, Any]]:
        """The windows kept: ``{"step": ..., "loads": {layer: [load of each expert]}}``; ``axis`` as in a History."""
        return [{"step": row.get(axis, row["step"]), "loads": row["loads"]} for row in self._series.kept()]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return asdict(self._series)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from a checkpoint."""
        self._series = Series.restored(state)


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
        row = {"step": step, "x": step if x is None else x, **values}
        self._series.setdefault(tuple(sorted(values)), Series()).append(row, self.max_rows)
        self._newest |= values

    def rows(self, axis: str = "step") -> list[dict[str, float]]:
        """The rows kept, in order: ``{"step": ..., key: value, ...}``.

        Args:
            axis: ``"step"``, the optimizer step, or ``"x"``, where the loggers' x axis was: what ``step`` then is.
        """
        rows = [
            {"step": row.get(axis, row["step"]), **{key: value for key, value in row.items() if key not in AXES}}
            for series in self._series.values()
            for row in series.kept()
        ]
        return sorted(rows, key=lambda row: row["step"])

    def newest(self) -> dict[str, float]:
        """The newest value of every key, in the order of their first appearance."""
        return dict(self._newest)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on."""
        return {"series": [asdict(series) for series in self._series.values()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        restored = map(Series.restored, state["series"])
        self._series = {tuple(sorted(set(series.newest) - AXES)): series for series in restored}
        self._newest = {}
        for row in self.rows():
            self._newest |= {key: value for key, value in row.items() if key != "step"}
