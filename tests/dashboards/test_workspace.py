import dataclasses
import json
from pathlib import Path

import pytest

from intensive_callbacks import cards
from intensive_callbacks.dashboards import generated, load
from intensive_callbacks.dashboards.presets import PRESETS, preset_name
from intensive_callbacks.dashboards.workspace import SECTIONS, filled, workspace

PATH = "dashboards/workspace.json"


def sections_of(spec):
    return spec["section"]["panelBankConfig"]["sections"]


def names_of(spec):
    return tuple(section["name"] for section in sections_of(spec))


def panels_of(spec):
    return [panel for section in sections_of(spec) for panel in section["panels"]]


def plotted(spec):
    return [key for panel in panels_of(spec) for key in panel["config"].get("metrics", ())]


@pytest.fixture(scope="module")
def viewspec():
    """W&B's own model of a view, as wandb-workspaces has it."""
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    return WorkspaceViewspec


def test_the_workspace_is_the_only_generated_file_and_current():
    assert list(generated()) == [PATH]
    text = (Path(__file__).parents[2] / PATH).read_text(encoding="utf-8")
    assert text == generated()[PATH], "run `make generate`"


def test_wandb_workspaces_reads_the_workspace_without_a_loss(viewspec):
    spec = filled(load("workspace"), "team")
    view = viewspec.model_validate_json(json.dumps(spec))
    assert json.loads(view.model_dump_json(by_alias=True, exclude_none=True)) == spec


def test_each_card_has_a_line_chart_in_its_section():
    spec = filled(load("workspace"), "team")
    assert names_of(spec) == SECTIONS
    assert plotted(spec) == [
        card.key
        for name in SECTIONS
        for card in cards.CARDS
        if card.section == name and not card.key.startswith("baseline/")
    ]


def test_the_workspace_shows_the_published_presets_of_its_owner():
    text = json.dumps(filled(load("workspace"), "team"))
    assert "${entity}" not in text
    assert "${preset:" not in text
    assert {name for name in PRESETS if f'"team/{preset_name(name)}"' in text} == set(PRESETS)


def test_the_workspace_follows_the_prefix_of_the_logger():
    keys = plotted(filled(load("workspace"), "team", "mine"))
    assert keys
    assert all(key.startswith("mine-") for key in keys)


def test_every_panel_has_an_id_of_its_own():
    ids = [panel["__id__"] for panel in panels_of(workspace())]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("place", [0, 12, 40])
def test_a_new_card_leaves_the_ids_of_all_other_panels(place, monkeypatch):
    before = panels_of(workspace())
    new = dataclasses.replace(cards.card("P3"), key="intensive/new", symbol="NEW")
    monkeypatch.setattr(cards, "CARDS", (*cards.CARDS[:place], new, *cards.CARDS[place:]))
    after = panels_of(workspace())
    assert [panel for panel in after if panel["config"].get("metrics") != ["intensive/new"]] == before
    assert len(after) == len(before) + 1


def test_a_changed_order_of_the_cards_leaves_the_ids(monkeypatch):
    before = {panel["__id__"] for panel in panels_of(workspace())}
    monkeypatch.setattr(cards, "CARDS", cards.CARDS[::-1])
    assert {panel["__id__"] for panel in panels_of(workspace())} == before


def test_a_registered_card_gets_a_panel_when_published(registered, viewspec):
    spec = filled(load("workspace"), "team", "run")
    last = sections_of(spec)[-1]
    assert last["name"] == "Ours"
    (panel,) = last["panels"]
    assert panel["config"] == {"chartTitle": "Gini (points)", "xAxis": "_step", "metrics": ["run-mine/gini"]}
    assert json.dumps(spec).count('"run-mine/gini"') == 1
    view = viewspec.model_validate_json(json.dumps(spec))
    assert json.loads(view.model_dump_json(by_alias=True, exclude_none=True)) == spec


def test_published_and_generated_panels_of_a_card_are_the_same(registered):
    published, built = filled(load("workspace"), "team"), workspace()
    assert panels_of(published)[-1] == panels_of(built)[-1]
    assert names_of(published) == names_of(built)
