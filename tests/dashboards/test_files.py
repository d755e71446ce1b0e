import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from intensive_callbacks import BenchmarkTable
from intensive_callbacks.benchmark.row import BenchmarkRow
from intensive_callbacks.cards import CARDS
from intensive_callbacks.dashboards import generated, load
from intensive_callbacks.dashboards.presets import PRESETS, preset_name
from intensive_callbacks.dashboards.presets.benchmark import number_columns
from intensive_callbacks.dashboards.workspace import SECTIONS, filled

ROOT = Path(__file__).parents[2]


def test_the_files_are_what_the_key_cards_generate():
    files = generated()
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "dashboards").rglob("*.json")} == set(files)
    for path, text in files.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is not current: run `make generate`"


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(KeyError, match="overview"):
        load("overwiev")


@pytest.fixture(scope="module")
def vega_lite():
    """The schema of Vega-Lite 5.6.1, which altair ships; W&B's front end draws with 5.6."""
    package = find_spec("altair").submodule_search_locations[0]  # found, not imported: only its data is wanted
    path = Path(package) / "vegalite/v5/schema/vega-lite-schema.json"
    return Draft7Validator(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_vega_lite_5_6(name, vega_lite):
    vega_lite.validate(load(name))


def test_the_schema_refuses_what_came_after_5_6_or_never_was(vega_lite):
    broken = load("overview")
    broken["encoding"]["y"]["axis"]["title"] = {"expr": "'an expression is no axis title'"}
    assert not vega_lite.is_valid(broken)


@pytest.mark.parametrize("name", PRESETS)
def test_the_columns_that_a_preset_asks_for_are_the_ones_it_is_given(name):
    asked = set(re.findall(r"\$\{field:(\w+)", json.dumps(load(name))))
    assert asked == set(PRESETS[name].fields)


def test_the_benchmark_has_the_columns_that_frontier_and_table_draw():
    row = BenchmarkRow(
        model="tiny",
        task="digits",
        protocol="test split",
        source="this run",
        accuracy=0.9,
        measured={card.key: 1.5 for card in CARDS if card.metric},
    )
    columns = set(BenchmarkTable([row]).columns)
    assert {*PRESETS["frontier"].fields.values(), *PRESETS["benchmark"].fields.values()} <= columns
    drawn = {column["column"] for column in number_columns()}
    words = {"model", "task", "protocol", "FLOPs per", "best in", "source"}
    inputs = {"accuracy standard error", "examples", "training tokens", "accuracy of chance"}
    assert columns - words - inputs <= drawn


def test_the_workspace_is_what_wandb_workspaces_understands():
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    spec = filled(load("workspace"), "team")
    view = WorkspaceViewspec.model_validate_json(json.dumps(spec))
    assert json.loads(view.model_dump_json(by_alias=True, exclude_none=True)) == spec
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert tuple(section["name"] for section in sections) == SECTIONS
    plotted = [key for section in sections for panel in section["panels"] for key in panel["config"].get("metrics", ())]
    assert plotted == [
        card.key for name in SECTIONS for card in CARDS if card.key[:9] != "baseline/" and card.section == name
    ]


def test_the_workspace_shows_the_published_presets_under_their_owner():
    text = json.dumps(filled(load("workspace"), "team"))
    assert "${entity}" not in text
    assert {name for name in PRESETS if f'"team/{preset_name(name)}"' in text} == set(PRESETS)


def test_the_workspace_follows_the_loggers_prefix():
    sections = filled(load("workspace"), "team", "mine")["section"]["panelBankConfig"]["sections"]
    keys = [key for section in sections for panel in section["panels"] for key in panel["config"].get("metrics", ())]
    assert keys
    assert all(key.startswith("mine-") for key in keys)


def test_a_presets_name_says_its_content():
    content = json.dumps(load("overview"), sort_keys=True)
    assert preset_name("overview") == f"intensive-overview-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_the_table_that_wandb_hands_it(name):
    assert load(name)["data"] == {"name": "wandb"}
    assert "${string:title:" in load(name)["title"]["text"]
