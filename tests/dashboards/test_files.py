import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from intensive_callbacks.dashboards import generated, load
from intensive_callbacks.dashboards.presets import PRESETS

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
def test_a_preset_reads_the_table_that_wandb_hands_it(name):
    assert load(name)["data"] == {"name": "wandb"}
    assert "${string:title:" in load(name)["title"]["text"]
