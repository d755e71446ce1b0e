"""The page in a real browser: what is drawn, clicked and requested."""

import json
import math

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from intensive_callbacks.dashboards import RunRecord, charts_of, page

EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"


def record(name="run", num_metrics=5, num_steps=50):
    """A run with all four charts, each of whose strings contains a script."""
    rows = [
        {"step": t, **{f"routing/m{n:02}": 1.5 + math.sin(n + t / 20) for n in range(num_metrics)}}
        for t in range(num_steps)
    ]
    heat = [{"run": name, "step": t, "layer": EVIL, "expert": e, "load": e / 2} for t in (0, 9) for e in range(5)]
    words = {"model": EVIL, "task": EVIL, "protocol": "test", "source": "this run", "best in": ""}
    amounts = {"active params (B)": 1.0, "total params (B)": 2.0, "FLOPs (GFLOP)": 2.0, "weights (GB)": 4.0}
    benchmark = [{**words, **amounts, "accuracy (fraction)": 0.9}]
    return RunRecord(name, rows, {"routing_heatmap_table": heat, "final_benchmark": benchmark})


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a page of runs and waits until every chart is drawn."""

    def open_page(*records, title="title", notes=()):
        path = tmp_path / "page.html"
        path.write_text(page(charts_of(records), title, notes), encoding="utf-8")
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(path.as_uri())
        failed = browser.execute_async_script(
            "const done = arguments[0]; window.views.then(() => done(null), error => done(String(error)))"
        )
        assert failed is None
        return path

    return open_page


def signal(browser, name, chart=0):
    script = "const [chart, name] = arguments; return window.views.then(views => views[chart].signal(name))"
    return browser.execute_script(script, chart, name)


def isolated(browser, chart=0):
    """The number of lines that are not faded."""
    script = """return window.views.then(views => {
        const lines = [], walk = node => {
            if (node.marktype === "line") lines.push(node.items[0].opacity);
            (node.items || []).forEach(walk);
        };
        walk(views[arguments[0]].scenegraph().root);
        return lines.filter(opacity => opacity > 0.5).length;
    })"""
    return browser.execute_script(script, chart)


def place_of_text(browser, words, chart=0):
    """The position of a text in a chart, from the upper left corner of the canvas."""
    script = """const [chart, words] = arguments;
    return window.views.then(views => {
        let place = null;
        const walk = (node, x, y) => {
            if (node.marktype === "group") node.items.forEach(group =>
                group.items.forEach(mark => walk(mark, x + (group.x || 0), y + (group.y || 0))));
            else if (node.marktype === "text") node.items.forEach(item => {
                if (item.text === words) place = [x + item.x + 12, y + item.y];
            });
        };
        const [left, top] = views[chart].origin(), padding = views[chart].padding();
        walk(views[chart].scenegraph().root, left + padding.left, top + padding.top);
        return place;
    })"""
    return browser.execute_script(script, chart, words)


def click_text(browser, words):
    canvas = browser.find_element(By.TAG_NAME, "canvas")
    x, y = place_of_text(browser, words)
    size = canvas.size
    ActionChains(browser).move_to_element_with_offset(
        canvas, x - size["width"] / 2, y - size["height"] / 2
    ).click().perform()


def test_names_of_runs_cause_no_script_request_or_message(browser, opened):
    path = opened(record(EVIL), record("other"), title=EVIL, notes=[EVIL])
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {entry["params"]["request"]["url"] for entry in sent if entry["method"] == "Network.requestWillBeSent"}
    assert urls == {path.as_uri()}
    assert browser.execute_script("return window.evil") is None
    assert browser.find_element(By.TAG_NAME, "h1").text == EVIL
    assert len(browser.find_elements(By.TAG_NAME, "canvas")) == 4


def test_a_click_isolates_a_labels_metric_or_a_runs_lines(browser, opened):
    opened(record("first run"), record("second run"))
    assert isolated(browser) == 10
    click_text(browser, "routing/m03")
    assert isolated(browser) == 2
    click_text(browser, "routing/m01")
    assert isolated(browser) == 4
    click_text(browser, "second run")
    assert isolated(browser) == 2


def test_the_view_can_be_selected(browser, opened):
    opened(record())
    choice = Select(browser.find_element(By.CSS_SELECTOR, "select[name=view]"))
    assert [option.text for option in choice.options] == ["relative", "normalized", "absolute"]
    choice.select_by_visible_text("absolute")
    assert signal(browser, "view") == "absolute"
    assert browser.get_log("browser") == []


def test_the_page_shows_notes(browser, opened):
    opened(record(), notes=["run: skipped corrupt data"])
    assert browser.find_element(By.CSS_SELECTOR, ".note").text == "run: skipped corrupt data"


def test_the_page_of_five_long_runs_is_below_5_mb(browser, opened):
    path = opened(*(record(f"run {n}", num_metrics=25, num_steps=2000) for n in range(5)))
    assert path.stat().st_size < 5e6  # at most 20,000 points however long the runs are
    assert isolated(browser) == 125
