import io
import json
import math
import re
from itertools import pairwise

import pytest
from PIL import Image

from dashboards.scenes import labels, marks, scenegraph
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


def test_each_format_is_written_to_the_folder(tmp_path):
    paths = render("overview", history(), tmp_path / "new", formats=("png", "svg", "html"), title="Ten metrics")
    assert [path.name for path in paths] == ["overview.png", "overview.svg", "overview.html"]
    with Image.open(io.BytesIO(paths[0].read_bytes())) as image:
        assert image.width >= 1900
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100
    assert "Ten metrics" in paths[1].read_text(encoding="utf-8")


def test_an_unknown_format_raises_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="gif"):
        render("overview", history(), tmp_path / "new", formats=("png", "gif"))
    assert not (tmp_path / "new").exists()


def test_no_text_of_a_run_becomes_markup_or_script():
    rows = overview_table([{"step": 0, WORDS: 1.0}, {"step": 1, WORDS: 2.0}], run=WORDS)
    text = page([Chart("overview", rows, {"title": WORDS})], title=WORDS, notes=[WORDS])
    assert WORDS not in text
    assert text.count("<script") == text.count("</script>") == 3
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', text, re.DOTALL)[1])
    assert specs[0]["title"]["text"] == WORDS
    assert specs[0]["data"]["values"][0]["run"] == WORDS


@pytest.mark.parametrize("view", ["relative", "normalized", "absolute"])
@pytest.mark.parametrize("num_metrics", [3, 10, 25])
def test_every_series_has_a_label_and_no_labels_overlap(num_metrics, view):
    scene = scenegraph(Chart("overview", overview_table(history(num_metrics)), {"view": view}))
    heights = sorted(item["y"] for item in labels(scene).values())
    assert len(heights) == num_metrics
    assert all(below - above >= 12 for above, below in pairwise(heights))
    assert len({item["fill"] for item in labels(scene).values()}) == num_metrics


def test_series_that_start_at_zero_or_below_are_drawn():
    rows = [{"step": t, "zero": float(t), "negative": t - 5.0, "constant": 0.0} for t in range(10)]
    scene = scenegraph(Chart("overview", overview_table(rows)))
    assert set(labels(scene)) == {"zero  9", "negative  4", "constant  0"}
    lines = list(marks(scene, "line"))
    assert [len(line) for line in lines] == [10, 10, 10]
    assert all(math.isfinite(point["y"]) for line in lines for point in line)


def test_the_relative_view_shows_changes_since_the_first_value():
    rows = [{"step": 0, "a": 200.0, "b": -4.0}, {"step": 1, "a": 210.0, "b": -3.0}, {"step": 2, "a": 100.0, "b": 36.0}]
    scene = scenegraph(Chart("overview", overview_table(rows)))
    shown = {
        line[0]["description"].split("metric: ")[1][0]: [y_of(point) for point in line] for line in marks(scene, "line")
    }
    # Within 10 % one unit is 10 %; beyond, one unit more is a factor of ten: +5 %, -50 %; +25 %, +1000 %.
    assert shown["a"] == pytest.approx([0, 0.5, -1 - math.log10(5)])
    assert shown["b"] == pytest.approx([0, 1 + math.log10(2.5), 3])


def test_runs_differ_in_dash_and_metrics_in_color():
    table = [row for run in "ab" for row in overview_table(history(2), run)]
    lines = list(marks(scenegraph(Chart("overview", table)), "line"))
    looks = {(tuple(line[0]["strokeDash"]), line[0]["stroke"]) for line in lines}
    assert len(lines) == len(looks) == 4
    assert len({dash for dash, _ in looks}) == len({color for _, color in looks}) == 2


def test_the_height_grows_with_the_number_of_metrics():
    (chart,) = charts_of([RunRecord("run", history(60))])
    heights = sorted(item["y"] for item in labels(scenegraph(chart)).values())
    assert len(heights) == 60
    assert all(below - above >= 12 for above, below in pairwise(heights))


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("intensive/config_entropy", "CES"),
        ("intensive/config_entropy_worst", "CES, worst layer"),
        ("intensive/config_entropy_standard_error", "CES, standard error"),
        ("routing_by_layer/config_entropy/h.0", "CES, h.0"),
        ("routing_by_layer/max_violation/h.10/moe", "MaxVio, h.10/moe"),
        ("routing_by_layer/dead_experts/h_worst", "dead, h_worst"),
        # the keys of runs logged by earlier versions
        ("routing/max_violation/worst", "MaxVio, worst layer"),
        ("routing/max_violation/standard_error", "MaxVio, standard error"),
        ("x/max_violation", "x/max_violation"),
        ("x_worst", "x_worst"),
        ("routing_by_layer/x/h.0", "routing_by_layer/x/h.0"),
    ],
)
def test_a_label_is_the_cards_symbol_and_the_keys_part(key, label):
    rows = overview_table([{"step": 0, key: 0.25}])
    assert set(labels(scenegraph(Chart("overview", rows)))) == {f"{label}  0.25"}


def test_the_overview_labels_a_registered_card(registered):
    rows = overview_table([{"step": 0, "mine/gini": 0.25, "mine/gini_worst": 0.5, "routing_by_layer/gini/h.1": 0.75}])
    expected = {"Gini  0.25", "Gini, worst layer  0.5", "Gini, h.1  0.75"}
    assert set(labels(scenegraph(Chart("overview", rows)))) == expected


def test_the_table_shows_a_registered_card(registered):
    rows = [{**benchmark_row("A", 1.0, 0.5, source="this run"), "Gini measured (points)": 0.125}]
    scene = scenegraph(Chart("benchmark", rows, {"shown": "measured"}))
    assert "0.125" in {item["text"] for items in marks(scene, "text") for item in items if item["text"] != ["Gini"]}


def test_the_table_shows_measured_columns_on_request():
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


def test_the_frontier_joins_models_that_no_cheaper_one_reaches():
    amounts = {"A": (1.0, 0.5), "B": (2.0, 0.4), "C": (3.0, 0.7), "D": (3.0, 0.6), "E": (9.0, 0.7)}
    rows = [benchmark_row(model, params, accuracy) for model, (params, accuracy) in amounts.items()]
    rows += [*rows, benchmark_row("mine", 0.5, 0.3, source="this run")]  # a second run brings the same published rows
    scene = scenegraph(Chart("frontier", rows))
    (line,) = marks(scene, "line")
    assert [round(float(word(point, "accuracy")[:-1])) for point in line] == [30, 50, 70]
    symbols = [item for items in marks(scene, "symbol") for item in items if "accuracy" in item.get("description", "")]
    assert sorted(word(item, "model") for item in symbols) == ["A", "B", "C", "D", "E", "mine"]


def test_the_frontier_is_drawn_against_each_cost():
    rows = [benchmark_row("A", 1.0, 0.5), benchmark_row("B", 2.0, 0.4)]
    for cost in ("active params", "total params", "FLOPs", "bytes"):
        scene = scenegraph(Chart("frontier", rows, {"cost": cost}))
        assert (
            len([item for items in marks(scene, "symbol") for item in items if "model" in item.get("description", "")])
            == 2
        )


def test_the_table_shows_values_dashes_and_the_best():
    rows = [benchmark_row("A", 1.0, 0.5, best="accuracy"), benchmark_row("B", 2.0, None)]
    cells = [item for items in marks(scenegraph(Chart("benchmark", rows)), "text") for item in items]
    words = {item["text"]: item["fill"] for item in cells if isinstance(item.get("text"), str)}
    assert {"A", "B", "50.0%", "1B", "2B", "\u2014", "task · protocol"} <= set(words)
    assert words["50.0%"] == "#0a6b2d"
    assert words["1B"] == "#222"


def test_the_heatmap_shows_the_last_step_with_dead_experts_black():
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
    """The value that a mark's description gives for a title."""
    return dict(part.split(": ", 1) for part in item["description"].split("; ") if ": " in part)[title]


def y_of(point):
    return float(re.search(r"shown: (\S+);", point["description"])[1].replace("\u2212", "-"))
