"""What a card says about one logged key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SEED_FRAMEWORKS = "Intensive Intelligence: Measurement Frameworks"
SEED_FOUNDATIONS = "Intensive Intelligence: Mathematical Foundations"
SEED_DENSITY = "The Intelligence Density Metric"


@dataclass(frozen=True)
class Card:
    """One logged key.

    Attributes:
        key: the name under which it is logged.
        symbol: its short name, in tables and legends.
        meaning: one sentence, the definition in words or as a formula.
        unit: the unit, or ``"1"`` for a plain number.
        better: the direction a reader should hope for; ``"neither"`` where there is none.
        size: how it moves under function-preserving widening, that is, when a model doubles with its behavior and its
            training data unchanged, and its share of active parameters too: stays (``"intensive"``), falls about as
            1/size (``"ratio"``) or grows (``"extensive"``). How it moves along families of real models, which also
            differ in what they can do, is another number: the page of the metrics has it.
        source: the paper or document that defines it.
        section: the dashboard's section it is shown in.
        metric: ``module.Class`` below ``intensive_callbacks.metrics``; ``None`` for a key that is no metric, or whose
            class was given to :func:`register_card`.
        fed_by: the signal that feeds the metric, by its name in :mod:`intensive_callbacks.monitor.signals`; ``"tap"``
            for one that a :class:`Tap` feeds, ``None`` for one that is formed by call.
        band: a range that its source recommends, shown as the source's opinion.
        default: whether ``metrics="default"`` logs it.
        takes: for arguments of the constructor, the fact of a run that each takes where it is not that of its name.
    """

    key: str
    symbol: str
    meaning: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    size: Literal["intensive", "ratio", "extensive"]
    source: str
    section: str
    metric: str | None = None
    fed_by: str | None = None
    band: tuple[float, float] | None = None
    default: bool = True
    takes: tuple[tuple[str, str], ...] = ()

    @property
    def logged(self) -> str:
        """How a run comes to log it: by default, by name in ``metrics=``, by a tap, or not at all but by call."""
        if self.fed_by == "tap":
            return "by tap"
        if self.metric and self.fed_by is None:
            return "by call"
        return "default" if self.default else "by name"
