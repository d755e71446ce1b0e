import os
import shutil

import pytest
from torchmetrics import MeanMetric

from intensive_callbacks import cards

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1300,1000"),
)


@pytest.fixture
def registered(monkeypatch):
    """A third party's card, registered for one test, in a section of its own."""
    monkeypatch.setattr(cards, "CARDS", cards.CARDS)
    monkeypatch.setattr(cards, "_REGISTERED", {})
    card = cards.Card(
        key="mine/gini",
        symbol="Gini",
        meaning="inequality of the load",
        unit="points",
        better="lower",
        size="intensive",
        source="theirs",
        section="Ours",
        fed_by="routing",
    )
    cards.register_card(card, MeanMetric)
    return card


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that logs its console and each request."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver) and os.environ.get("CI") != "true":
        pytest.skip("no chromium and chromedriver here; on Debian: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = chromium
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    yield chrome
    chrome.quit()
