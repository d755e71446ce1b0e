"""Units in one table: in what a fact or a logged value is counted, and how tables and charts shorten it."""

from __future__ import annotations

from dataclasses import dataclass

from intensive_callbacks import cards

_SUFFIXES = {"_worst": " worst layer", "_standard_error": " standard error"}


@dataclass(frozen=True)
class Unit:
    """How a quantity is counted and written.

    Attributes:
        base: the unit of a stored or logged value; ``"1"`` for a plain number.
        shown: the unit of a table's cells.
        factor: base units in one shown unit.
        prefixes: the letters for 1e3, 1e6, 1e9 and 1e12 where a size is shortened; empty for a score.
    """

    base: str
    shown: str
    factor: float = 1.0
    prefixes: str = ""


_PARAMS = Unit("1", "B", 1e9, "kMBT")
_FLOPS = Unit("FLOP", "GFLOP", 1e9, "kMGT")
_FRACTION = Unit("fraction", "fraction")

UNITS = {
    "total_params": _PARAMS,
    "active_params": _PARAMS,
    "num_bytes": Unit("B", "GB", 1e9, "kMGT"),
    "num_flops": _FLOPS,
    "analytic_flops": _FLOPS,
    "analytic_p2f": Unit("points per TFLOP", "points per TFLOP"),
    "accuracy": _FRACTION,
    "random_baseline": _FRACTION,
}

# The fact that is logged under a key.
FACTS = {
    "baseline/random_accuracy": "random_baseline",
    "baseline/total_params": "total_params",
    "baseline/active_params": "active_params",
    "baseline/num_bytes": "num_bytes",
    "baseline/flops_per_token": "num_flops",
    "baseline/flops_per_example": "num_flops",
}


def unit_of(name: str) -> Unit:
    """The unit of a fact, such as ``num_bytes``, or of a logged key; a plain number where nothing is known of it.

    Example:
        >>> unit_of("num_bytes").shown, unit_of("intensive/p3_score").shown, unit_of("routing/load_cv2_worst").shown
        ('GB', 'points per 1e9 params', '1')
    """
    fact = FACTS.get(name, name)
    if fact in UNITS:
        return UNITS[fact]
    described = describe(name)
    unit = described[0].unit if described else "1"
    return Unit(unit, unit)


def describe(key: str) -> tuple[cards.Card, str] | None:
    """The card behind a logged key, and what a suffix of the key adds to its symbol; ``None`` without a card.

    Example:
        >>> card, suffix = describe("intensive/config_entropy_worst")
        >>> card.symbol + suffix
        'CES worst layer'
    """
    by_key = {card.key: card for card in cards.CARDS}
    if key in by_key:
        return by_key[key], ""
    for suffix, words in _SUFFIXES.items():
        if key.endswith(suffix) and key.removesuffix(suffix) in by_key:
            return by_key[key.removesuffix(suffix)], words
    return None
