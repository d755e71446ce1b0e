"""The saved view of a project: which chart stands in which section.

``dashboards/workspace.json`` has ``${entity}`` where the published presets' owner belongs, and ``${preset:...}`` where
a preset's name does. Its frame is built with wandb-workspaces, which only building needs.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from intensive_callbacks import cards
from intensive_callbacks.dashboards.presets import PRESETS, preset_name

if TYPE_CHECKING:
    from intensive_callbacks.cards import Card

VIEW_NAME = "Intensive metrics"
LINE_PLOT = "Run History Line Plot"
SECTIONS = (
    "Overview",
    "Efficiency",
    "Coupling and routing",
    "Compression",
    "Scaling",
    "Foundations",
    "Final benchmark",
)
_CHARTS = {
    "Overview": ("overview",),
    "Efficiency": ("frontier",),
    "Coupling and routing": ("heatmap",),
    "Final benchmark": ("benchmark", "frontier"),
}
_CLOSED = ("Compression", "Scaling", "Foundations")


def generated() -> dict[str, str]:
    """The text of each generated file of ``dashboards/``, by its path from the repository's top.

    Building needs the extra ``workspace``.
    """
    return {"dashboards/workspace.json": json.dumps(workspace(), indent=1, ensure_ascii=False) + "\n"}


def workspace() -> dict[str, Any]:
    """The view's specification, as W&B stores it."""
    from wandb_workspaces import workspaces

    view = workspaces.Workspace(
        entity="${entity}",
        project="project",
        name=VIEW_NAME,
        sections=[_section(name) for name in SECTIONS],
        settings=workspaces.WorkspaceSettings(max_runs=20),
        auto_generate_panels=False,
    )
    spec: dict[str, Any] = json.loads(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))  # noqa: SLF001  # the library has no public way to the JSON that it saves
    for section in _sections(spec):
        for panel in section["panels"]:
            # The library draws random ids; here a panel keeps its id, whichever others there are.
            panel["__id__"] = _id(f"{section['name']} {panel['config'].get('panelDefId', panel['viewType'])}")
    _add_lines(spec)
    return spec


def _section(name: str) -> Any:
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports import v2

    charts = [_chart(chart) for chart in _CHARTS.get(name, ())]
    tables = [v2.WeavePanelSummaryTable(table_name="final_benchmark")] if name == "Final benchmark" else []
    wide = name in ("Overview", "Final benchmark")
    return workspaces.Section(
        name=name,
        panels=[*tables, *charts],
        is_open=name not in _CLOSED,
        layout_settings=workspaces.SectionLayoutSettings(columns=1 if wide else 3, rows=2),
    )


def _chart(name: str) -> Any:
    from wandb_workspaces.reports import v2

    preset = PRESETS[name]
    return v2.CustomChart(
        query={"summaryTable": {"tableKey": preset.table}},
        chart_name=f"${{entity}}/${{preset:{name}}}",
        chart_fields=dict(preset.fields),
        chart_strings={"title": preset.title},
    )


def filled(spec: dict[str, Any], entity: str, prefix: str = "") -> dict[str, Any]:
    """The view for one entity and one logger's prefix of its keys, with a line chart for each registered card."""
    text = json.dumps(spec).replace("${entity}", entity)
    for name in PRESETS:
        text = text.replace(f"${{preset:{name}}}", preset_name(name))
    result: dict[str, Any] = json.loads(text)
    _add_lines(result)
    for section in _sections(result):
        for panel in section["panels"]:
            if panel["viewType"] == LINE_PLOT and prefix:
                panel["config"]["metrics"] = [f"{prefix}-{key}" for key in panel["config"]["metrics"]]
    return result


def _add_lines(spec: dict[str, Any]) -> None:
    """Add the line chart of each card that has none to the card's section; an unknown section is added at the end."""
    sections = {section["name"]: section for section in _sections(spec)}
    drawn = {
        key
        for section in sections.values()
        for panel in section["panels"]
        for key in panel["config"].get("metrics", ())
    }
    for card in cards.CARDS:
        if card.section not in sections:
            sections[card.section] = {**sections[_CLOSED[0]], "name": card.section, "panels": []}
            _sections(spec).append(sections[card.section])
        if card.key not in drawn and not card.key.startswith("baseline/"):
            sections[card.section]["panels"].append(_line(card))


def _line(card: Card) -> dict[str, Any]:
    title = f"{card.symbol} ({card.unit})" if card.unit != "1" else card.symbol
    return {
        "__id__": _id(card.key),
        "layout": {"x": 0, "y": 0, "w": 8, "h": 6},
        "viewType": LINE_PLOT,
        "config": {"chartTitle": title, "xAxis": "_step", "metrics": [card.key]},
    }


def _sections(spec: dict[str, Any]) -> list[dict[str, Any]]:
    sections: list[dict[str, Any]] = spec["section"]["panelBankConfig"]["sections"]
    return sections


def _id(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:11]
