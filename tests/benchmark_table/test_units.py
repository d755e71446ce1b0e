import dataclasses

import pytest

from intensive_callbacks import cards
from intensive_callbacks.cards.units import FACTS, UNITS, describe, unit_of


def test_units_of_facts():
    # 7e9 parameters are 7 B, 14e9 bytes are 14 GB of 1e9 bytes, 3e9 FLOPs are 3 GFLOP.
    for fact, shown, base in (("active_params", "B", "1"), ("num_bytes", "GB", "B"), ("num_flops", "GFLOP", "FLOP")):
        unit = unit_of(fact)
        assert (unit.shown, unit.base, unit.factor, len(unit.prefixes)) == (shown, base, 1e9, 4)
    assert unit_of("accuracy").shown == "fraction"


@pytest.mark.parametrize("card", cards.CARDS, ids=lambda card: card.key)
def test_base_unit_is_that_of_the_card(card):
    assert unit_of(card.key).base == card.unit


@pytest.mark.parametrize(("key", "fact"), FACTS.items())
def test_logged_fact_has_the_unit_of_the_fact(key, fact):
    assert cards.card(key)
    assert unit_of(key) is UNITS[fact]


@pytest.mark.parametrize(
    ("key", "symbol", "unit"),
    [
        ("intensive/config_entropy", "CES", "fraction"),
        ("intensive/config_entropy_worst", "CES worst layer", "fraction"),
        ("routing/specialization_worst", "I(token;E) worst layer", "bit"),
        ("intensive/p3_score_standard_error", "P3 standard error", "points per 1e9 params"),
        ("my/own_worst", None, "1"),
        ("_worst", None, "1"),
        ("", None, "1"),
    ],
)
def test_derived_keys(key, symbol, unit):
    found = describe(key)
    assert (found and found[0].symbol + found[1]) == symbol
    assert unit_of(key).shown == unit


def test_registered_card_has_its_unit(monkeypatch):
    own = dataclasses.replace(cards.card("P3"), key="mine/watts", symbol="watts", unit="W", metric=None)
    monkeypatch.setattr(cards, "CARDS", (*cards.CARDS, own))
    assert unit_of("mine/watts").shown == "W"
    assert unit_of("mine/watts_worst").shown == "W"
