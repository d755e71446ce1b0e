import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import vl_convert
from jsonschema import Draft7Validator

from dashboards.scenes import marks
from intensive_callbacks import BenchmarkTable, cards
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.dashboards import load, templates
from intensive_callbacks.dashboards.placeholders import card_rows, column_rows
from intensive_callbacks.dashboards.presets import PRESETS, preset_name

FOLDER = Path(__file__).parents[2] / "dashboards"


def written(name):
    """A template as it stands in its file."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def names_of_data(node):
    """The name of every data source that a template refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("data"), dict) and "name" in node["data"]:
            yield node["data"]["name"]
        for value in node.values():
            yield from names_of_data(value)
    elif isinstance(node, list):
        for item in node:
            yield from names_of_data(item)


@pytest.fixture(scope="module")
def vega_lite():
    """The schema of Vega-Lite 5.6.1, which altair ships; W&B's front end draws with 5.6."""
    package = find_spec("altair").submodule_search_locations[0]  # found, not imported: only its data is needed
    path = Path(package) / "vegalite/v5/schema/vega-lite-schema.json"
    return Draft7Validator(json.loads(path.read_text(encoding="utf-8")))


def test_each_dashboard_has_a_file_and_no_file_is_without():
    assert {path.stem for path in FOLDER.glob("*.json")} == {*PRESETS, "workspace"}


def test_an_unknown_name_raises_and_lists_the_known_ones():
    with pytest.raises(KeyError, match="overview"):
        load("overwiev")


@pytest.mark.parametrize("name", PRESETS)
def test_file_and_filled_template_are_valid_vega_lite_5_6(name, vega_lite):
    vega_lite.validate(written(name))
    vega_lite.validate(load(name))


def test_the_schema_rejects_what_vega_lite_5_6_does_not_have(vega_lite):
    broken = load("overview")
    broken["encoding"]["y"]["axis"]["title"] = {"expr": "'an expression is no axis title'"}
    assert not vega_lite.is_valid(broken)


@pytest.mark.parametrize("name", PRESETS)
def test_no_placeholder_is_left_in_a_filled_template(name):
    assert '"@' not in json.dumps(load(name))
    assert "datasets" not in load(name)
    assert set(names_of_data(load(name))) == {"wandb"}


def test_an_unknown_placeholder_raises(tmp_path, monkeypatch):
    (tmp_path / "_dashboards").mkdir()
    (tmp_path / "_dashboards" / "chart.json").write_text('{"data": {"name": "@colums"}}')
    monkeypatch.setattr(templates, "_PACKAGE", tmp_path)
    with pytest.raises(KeyError, match=r"'@colums'.*there are @cards, @columns"):
        load("chart")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("overview", {"P3  55", "MaxVio, worst layer  1.75", "change since the first value; logarithmic beyond ±10 %"}),
        ("heatmap", {"at step 100; 1 is an even share, black a dead expert"}),
        ("frontier", {"small", "large", "mine"}),
        ("benchmark", {"digits · test split", "mine", "500M", "60.0%", "120", "large", "8B", "70.0%", "8.75"}),
    ],
)
def test_a_file_draws_its_samples_in_a_vega_lite_editor(name, expected):
    spec = {**written(name), "width": 800, "height": 300}
    scene = vl_convert.vegalite_to_scenegraph(spec, vl_version="5.8")["scenegraph"]
    texts = [item["text"] for items in marks(scene, "text") for item in items]
    assert expected <= {text for text in texts if isinstance(text, str)}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_asks_for_the_columns_that_it_is_given(name):
    asked = set(re.findall(r"\$\{field:(\w+)", json.dumps(load(name))))
    assert asked == set(PRESETS[name].fields)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_the_table_that_wandb_provides(name):
    assert load(name)["data"] == {"name": "wandb"}
    assert "${string:title:" in load(name)["title"]["text"]


def test_a_presets_name_contains_the_hash_of_its_content():
    content = json.dumps(load("overview"), sort_keys=True)
    assert preset_name("overview") == f"intensive-overview-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def test_the_benchmark_has_the_columns_that_its_charts_draw():
    row = BenchmarkRow(
        model="tiny",
        task="digits",
        protocol="test split",
        source="this run",
        accuracy=0.9,
        measured={card.key: 1.5 for card in cards.CARDS if card.metric},
    )
    columns = set(BenchmarkTable([row]).columns)
    assert {*PRESETS["frontier"].fields.values(), *PRESETS["benchmark"].fields.values()} <= columns
    drawn = {column["column"] for column in column_rows()}
    words = {"model", "task", "protocol", "FLOPs per", "best in", "source", "undefined", "record"}
    inputs = {"accuracy standard error", "examples", "training tokens", "accuracy of chance"}
    assert columns - words - inputs <= drawn


def test_no_cards_key_looks_like_a_part_of_another_ones():
    assert [card.key for card in cards.CARDS if re.search(r"_(worst|standard_error)$|_by_layer/", card.key)] == []
    keys = [row["key"] for row in card_rows()]
    assert len(keys) == len(set(keys))


def test_a_registered_card_gets_a_label_and_columns(registered):
    row = next(row for row in card_rows() if row["key"] == registered.key)
    assert (row["symbol"], row["unit"], row["reading"]) == ("Gini", "points", "lower is better")
    assert '"mine/gini"' in json.dumps(load("overview"))
    titles = {column["column"] for column in column_rows() if column["title"] == "Gini"}
    assert titles == {"Gini (points)", "Gini measured (points)"}
    assert titles <= set(load("benchmark")["transform"][11]["fold"])
