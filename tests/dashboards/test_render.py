import io
import json
import math
import re
from itertools import pairwise

import pytest
import vl_convert
from PIL import Image

from intensive_callbacks.dashboards import Chart, RunRecord, charts_of, heatmap_table, overview_table, page, render

WORDS = "</script><script>window.evil=1</script>"


def history(num_metrics=10, num_steps=40):
    return [
        {
            "step": 50 * t,
            **{f"routing/m{n:02}": 10.0 ** (n % 7 - 3) * (1 + math.sin(n + t / 9)) for n in range(num_metrics)},
        }
        for t in range(num_steps)
    ]


def scenegraph(chart):
    return vl_convert.vegalite_to_scenegraph(chart.spec(), vl_version="5.8")["scenegraph"]


def marks(node, kind):
    """The items of each mark of a kind, wherever it lies in the scene."""
    if node.get("marktype") == kind:
        yield node["items"]
    for child in node.get("items", []):
        yield from marks(child, kind)


def labels(scene):
    """The labels right of the lines, by their words."""
    return {item["text"]: item for items in marks(scene, "text") for item in items if item.get("limit") == 140}


def test_the_formats_are_written_where_asked(tmp_path):
    paths = render("overview", history(), tmp_path / "new", formats=("png", "svg", "html"), title="Ten metrics")
    assert [path.name for path in paths] == ["overview.png", "overview.svg", "overview.html"]
    with Image.open(io.BytesIO(paths[0].read_bytes())) as image:
        assert image.width >= 1900
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100
    assert "Ten metrics" in paths[1].read_text(encoding="utf-8")


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="gif"):
        render("overview", history(), tmp_path / "new", formats=("png", "gif"))
    assert not (tmp_path / "new").exists()


def test_words_of_a_run_stay_words():
    rows = overview_table([{"step": 0, WORDS: 1.0}, {"step": 1, WORDS: 2.0}], run=WORDS)
    text = page([Chart("overview", rows, {"title": WORDS})], title=WORDS, notes=[WORDS])
    assert WORDS not in text
    assert text.count("<script") == text.count("</script>") == 3
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', text, re.DOTALL)[1])
    assert specs[0]["title"]["text"] == WORDS
    assert specs[0]["data"]["values"][0]["run"] == WORDS


@pytest.mark.parametrize("view", ["relative", "normalised", "absolute"])
@pytest.mark.parametrize("num_metrics", [3, 10, 25])
def test_every_series_has_its_label_and_no_two_labels_overlap(num_metrics, view):
    scene = scenegraph(Chart("overview", overview_table(history(num_metrics)), {"view": view}))
    heights = sorted(item["y"] for item in labels(scene).values())
    assert len(heights) == num_metrics
    assert all(below - above >= 12 for above, below in pairwise(heights))
    assert len({item["fill"] for item in labels(scene).values()}) == num_metrics


def test_zero_and_negative_first_values_stay():
    rows = [{"step": t, "zero": float(t), "negative": t - 5.0, "constant": 0.0} for t in range(10)]
    scene = scenegraph(Chart("overview", overview_table(rows)))
    assert set(labels(scene)) == {"zero  9", "negative  4", "constant  0"}
    lines = list(marks(scene, "line"))
    assert [len(line) for line in lines] == [10, 10, 10]
    assert all(math.isfinite(point["y"]) for line in lines for point in line)


def test_the_relative_view_shows_the_change_since_the_first_value():
    rows = [{"step": 0, "a": 200.0, "b": -4.0}, {"step": 1, "a": 210.0, "b": -3.0}, {"step": 2, "a": 100.0, "b": 36.0}]
    scene = scenegraph(Chart("overview", overview_table(rows)))
    shown = {
        line[0]["description"].split("metric: ")[1][0]: [shown_by(point) for point in line]
        for line in marks(scene, "line")
    }
    # Within 10 % one unit is 10 %; beyond, one unit more is a factor of ten: +5 %, -50 %; +25 %, +1000 %.
    assert shown["a"] == pytest.approx([0, 0.5, -1 - math.log10(5)])
    assert shown["b"] == pytest.approx([0, 1 + math.log10(2.5), 3])


def test_runs_are_told_apart_by_dash_and_metrics_by_colour():
    table = [row for run in "ab" for row in overview_table(history(2), run)]
    lines = list(marks(scenegraph(Chart("overview", table)), "line"))
    looks = {(tuple(line[0]["strokeDash"]), line[0]["stroke"]) for line in lines}
    assert len(lines) == len(looks) == 4
    assert len({dash for dash, _ in looks}) == len({colour for _, colour in looks}) == 2


def test_many_metrics_get_a_picture_high_enough_for_their_labels():
    (chart,) = charts_of([RunRecord("run", history(60))])
    heights = sorted(item["y"] for item in labels(scenegraph(chart)).values())
    assert len(heights) == 60
    assert all(below - above >= 12 for above, below in pairwise(heights))


def test_the_worst_layers_value_is_named_after_its_card():
    rows = overview_table(
        [{"step": 0, "intensive/config_entropy": 0.5, "intensive/config_entropy/worst": 0.25, "x/worst": 1}]
    )
    assert set(labels(scenegraph(Chart("overview", rows)))) == {"CES  0.5", "CES, worst layer  0.25", "x/worst  1"}


def test_the_table_shows_what_was_measured_on_request():
    rows = [
        {**benchmark_row("A", 1.0, 0.5, source="this run"), "CES measured (fraction)": 0.25},
        benchmark_row("B", 2.0, 0.4),
    ]
    for shown, expected, absent in (
        ("comparable", {"A", "B", "50.0%"}, {"0.25"}),
        ("measured", {"A", "0.25", "CES"}, {"B"}),
    ):
        items = [
            item for items in marks(scenegraph(Chart("benchmark", rows, {"shown": shown})), "text") for item in items
        ]
        words = {
            word for item in items for word in (item["text"] if isinstance(item["text"], list) else [item["text"]])
        }
        assert expected <= words
        assert not absent & words


def test_the_frontier_joins_what_no_cheaper_model_reaches():
    amounts = {"A": (1.0, 0.5), "B": (2.0, 0.4), "C": (3.0, 0.7), "D": (3.0, 0.6), "E": (9.0, 0.7)}
    rows = [benchmark_row(model, params, accuracy) for model, (params, accuracy) in amounts.items()]
    rows += [*rows, benchmark_row("mine", 0.5, 0.3, source="this run")]  # a second run brings the same published rows
    scene = scenegraph(Chart("frontier", rows))
    (line,) = marks(scene, "line")
    assert [round(float(word(point, "accuracy")[:-1])) for point in line] == [30, 50, 70]
    symbols = [item for items in marks(scene, "symbol") for item in items if "accuracy" in item.get("description", "")]
    assert sorted(word(item, "model") for item in symbols) == ["A", "B", "C", "D", "E", "mine"]


def test_the_frontier_is_drawn_over_each_cost():
    rows = [benchmark_row("A", 1.0, 0.5), benchmark_row("B", 2.0, 0.4)]
    for cost in ("active params", "total params", "FLOPs", "bytes"):
        scene = scenegraph(Chart("frontier", rows, {"cost": cost}))
        assert (
            len([item for items in marks(scene, "symbol") for item in items if "model" in item.get("description", "")])
            == 2
        )


def test_the_table_writes_values_dashes_and_the_best():
    rows = [benchmark_row("A", 1.0, 0.5, best="accuracy"), benchmark_row("B", 2.0, None)]
    cells = [item for items in marks(scenegraph(Chart("benchmark", rows)), "text") for item in items]
    words = {item["text"]: item["fill"] for item in cells if isinstance(item.get("text"), str)}
    assert {"A", "B", "50.0%", "1B", "2B", "\u2014", "task · protocol"} <= set(words)
    assert words["50.0%"] == "#0a6b2d"
    assert words["1B"] == "#222"


def test_the_heatmap_shows_the_last_moment_with_dead_experts_in_black():
    snapshots = [(0, {"a": [1, 1], "b": [1, 1]}), (9, {"a": [3, 1], "b": [0, 4]})]
    scene = scenegraph(Chart("heatmap", heatmap_table(snapshots)))
    (cells,) = [items for items in marks(scene, "rect") if "load" in items[0].get("description", "")]
    assert [word(cell, "load, 1 is even") for cell in cells] == ["1.5", "0.5", "0", "2"]
    assert [cell["fill"] for cell in cells].count("#111") == 1


def benchmark_row(model, params, accuracy, source="paper", best=""):
    amounts = dict.fromkeys(("active params (B)", "total params (B)", "FLOPs (GFLOP)", "weights (GB)"), params)
    words = {"model": model, "task": "task", "protocol": "protocol", "source": source, "best in": best}
    return {**words, **amounts, "accuracy (fraction)": accuracy}


def word(item, title):
    """What a mark's description says under a title."""
    return dict(part.split(": ", 1) for part in item["description"].split("; ") if ": " in part)[title]


def shown_by(point):
    return float(re.search(r"shown: (\S+);", point["description"])[1].replace("\u2212", "-"))
