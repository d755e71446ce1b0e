"""The page of the foundations names every class, function and key there is, and none that is not."""

import re
from pathlib import Path

import intensive_callbacks
from intensive_callbacks import cards, functional

PAGE = (Path(intensive_callbacks.__file__).parent / "metrics" / "FOUNDATIONS.md").read_text()
CARDS = [card for card in cards.CARDS if card.section == "Foundations"]


def test_every_foundation_has_its_row():
    table = PAGE.partition("## What the document says")[0]
    for card in CARDS:
        row = next(line for line in table.splitlines() if f"`{card.key}`" in line)
        assert f"`{card.metric.partition('.')[2]}`" in row
        assert ("| tap" in row) == (card.fed_by == "tap")
        assert ("| accuracy" in row) == (card.fed_by == "accuracy")


def test_every_name_exists():
    table = PAGE.partition("## What the document says")[0]
    names = set(re.findall(r"`(\w+)`", "".join(line.split("|")[2] for line in table.splitlines() if line[:1] == "|")))
    assert len(names) > 25
    assert {name for name in names if not hasattr(intensive_callbacks, name) and not hasattr(functional, name)} == set()
