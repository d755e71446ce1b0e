"""The saved view of a project: which chart stands in which section.

The file in ``dashboards/`` has ``${entity}`` where the published presets' owner belongs. It is built with
wandb-workspaces, which only building needs.
"""

from __future__ import annotations

import hashlib
import json
from itertools import count
from typing import Any

from intensive_callbacks.cards import CARDS
from intensive_callbacks.dashboards.presets import PRESETS, preset_name

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
    numbers = count()
    for section in spec["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            # The library draws lots for the ids; here the same panels always give the same file.
            panel["__id__"] = hashlib.sha256(f"{section['name']} {next(numbers)}".encode()).hexdigest()[:11]
    return spec


def _section(name: str) -> Any:
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports import v2

    charts = [_chart(chart) for chart in _CHARTS.get(name, ())]
    tables = [v2.WeavePanelSummaryTable(table_name="final_benchmark")] if name == "Final benchmark" else []
    lines = [
        v2.LinePlot(title=f"{card.symbol} ({card.unit})" if card.unit != "1" else card.symbol, y=[card.key])
        for card in CARDS
        if card.section == name and not card.key.startswith("baseline/")
    ]
    wide = name in ("Overview", "Final benchmark")
    return workspaces.Section(
        name=name,
        panels=[*tables, *charts, *lines],
        is_open=name in ("Overview", "Efficiency", "Coupling and routing", "Final benchmark"),
        layout_settings=workspaces.SectionLayoutSettings(columns=1 if wide else 3, rows=2),
    )


def _chart(name: str) -> Any:
    from wandb_workspaces.reports import v2

    preset = PRESETS[name]
    return v2.CustomChart(
        query={"summaryTable": {"tableKey": preset.table}},
        chart_name=f"${{entity}}/{preset_name(name)}",
        chart_fields=dict(preset.fields),
        chart_strings={"title": preset.title},
    )


def filled(spec: dict[str, Any], entity: str, prefix: str = "") -> dict[str, Any]:
    """The view for one entity and one logger's prefix of its keys."""
    text = json.dumps(spec).replace("${entity}", entity)
    result: dict[str, Any] = json.loads(text)
    for section in result["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            if panel["viewType"] == LINE_PLOT and prefix:
                panel["config"]["metrics"] = [f"{prefix}-{key}" for key in panel["config"]["metrics"]]
    return result
