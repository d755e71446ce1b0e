from generated import METRICS_PAGE, ROOT
from intensive_callbacks import cards

PAGE = (ROOT / METRICS_PAGE).read_text()


def test_page_says_when_to_use_each_metric():
    usage = PAGE.partition("## When to use which")[2].partition("\n## ")[0]
    explained = {line.split("|")[1].strip() for line in usage.splitlines() if line.startswith("|")}
    ours = {
        card.symbol
        for card in cards.CARDS
        if card.key.startswith("intensive/") and card.source in (cards.SEED_FRAMEWORKS, cards.SEED_DENSITY)
    }
    assert ours <= explained


def test_no_cell_of_the_table_breaks_it():
    rows = PAGE.partition("<!-- cards -->")[2].partition("<!-- /cards -->")[0].strip().splitlines()
    assert {row.count("|") for row in rows} == {11}
