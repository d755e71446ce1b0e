"""Warnings issued once per run: values that are undefined, and metrics that were asked for and are absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intensive_callbacks import cards
from intensive_callbacks.monitor.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from intensive_callbacks.boundary import Boundary
    from intensive_callbacks.monitor.evaluate import Results
    from intensive_callbacks.monitor.selection import Selected


class Reports:
    """Keeps which keys were logged and the newest standard errors, and warns about what is missing.

    Args:
        selected: the metrics of the run.
        boundary: warns once about each topic; if it is strict, an absent metric raises.

    Attributes:
        errors: the newest standard error of each metric that has one, by key.
    """

    def __init__(self, selected: Sequence[Selected], boundary: Boundary) -> None:
        self.errors: dict[str, float] = {}
        self._selected, self._boundary = selected, boundary
        self._logged: set[str] = set()

    def take(self, results: Results) -> None:
        """Warn once about each key of a logging step that is undefined and each metric that is absent."""
        self.errors |= results.errors
        self._logged |= results.values.keys()
        for key, why in results.undefined.items():
            self._boundary.warn(key, f"{key} is undefined (NaN): {why}")
        for symbol, why in results.absent.items():
            self._report_absent(symbol, why)

    def warn_about_missing(self) -> None:
        """Warn once about each metric that was asked for and never got a value, in a run that logged others."""
        for each in self._selected:
            if each.asked and self._logged and not self._has_logged(each):
                self._report_absent(each.card.symbol, f"it needs {SIGNALS[str(each.card.fed_by)].needs}")

    def _report_absent(self, symbol: str, why: str) -> None:
        message = f"{symbol} was asked for and is not logged: {why}"
        if self._boundary.strict:
            raise RuntimeError(message)
        self._boundary.warn(f"{symbol} is absent", message)

    def _has_logged(self, selected: Selected) -> bool:
        if selected.card.symbol in self._boundary.failed:
            return True
        others = {card.key for card in cards.CARDS} - {selected.card.key}
        return any(f"{each}_".startswith(f"{selected.card.key}_") for each in self._logged - others)

    def restored(self, errors: Mapping[str, float], logged: Iterable[str]) -> None:
        """Restore the standard errors of a checkpoint, and the keys that its run has logged."""
        self.errors = {str(key): float(value) for key, value in errors.items()}
        self._logged = set(logged)
