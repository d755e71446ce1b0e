"""Charts without W&B: PNG, SVG, and one HTML page that needs no network."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intensive_callbacks.dashboards.fitting import fitted
from intensive_callbacks.dashboards.presets import PRESETS
from intensive_callbacks.dashboards.tables import overview_table
from intensive_callbacks.dashboards.templates import load
from intensive_callbacks.untrusted import printable, short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_VEGA_LITE = "5.8"  # the oldest that vl-convert has; W&B's front end has 5.6
_PAGE_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDTH, _HEIGHT = 960, 440
MAX_HEIGHT = 12_000
_MAX_NOTES = 100
_REFERENCE = re.compile(r"\$\{(field|string):(\w+):?([^}]*)\}")


@dataclass(frozen=True)
class Chart:
    """A preset with its data.

    Attributes:
        name: which preset of ``dashboards/``.
        rows: the rows of the table that W&B would give it, by column.
        strings: what replaces the preset's ``${string:...}``, such as the title.
        height: in pixels.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    strings: Mapping[str, str] = field(default_factory=dict)
    height: int = _HEIGHT

    def spec(self, width: int | str = _WIDTH) -> dict[str, Any]:
        """The chart as Vega-Lite, with its data."""
        filled: dict[str, Any] = _fill(load(self.name), PRESETS[self.name].fields, self.strings)
        return {
            **filled,
            "data": {"name": "wandb", "values": list(self.rows)},
            "width": width,
            "height": self.height,
            "background": "white",
        }


def overview_height(rows: Sequence[Mapping[str, Any]]) -> int:
    """A height that gives every metric's label a line of its own."""
    return min(max(_HEIGHT, 130 + 14 * len({row["metric"] for row in rows})), MAX_HEIGHT)


def render(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    out: str | Path,
    formats: Sequence[str] = ("png", "html"),
    *,
    title: str | None = None,
    run: str = "run",
) -> list[Path]:
    """Draw one of the prebuilt charts into files.

    Args:
        name: which chart, such as ``"overview"``.
        rows: for the overview a run's history (each row a ``step`` and values by key), otherwise the rows of the
            chart's own table.
        out: the folder to write into; it is created.
        formats: any of ``"png"``, ``"svg"`` and ``"html"``.
        title: the chart's title.
        run: the run's name, for the overview's legend.

    Returns:
        The files written, ``out/name.format`` in the order of ``formats``.

    Raises:
        ModuleNotFoundError: without vl-convert-python, which the extra ``render`` installs.
        ValueError: for a format that is none of the three.
    """
    unknown = set(formats) - {"png", "svg", "html"}
    if unknown:
        raise ValueError(f"formats are png, svg and html; got {', '.join(sorted(unknown))}")
    table = overview_table(rows, run) if name == "overview" else list(rows)
    height = overview_height(table) if name == "overview" else _HEIGHT
    chart = Chart(name, table, {"title": title} if title else {}, height)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    return [write(chart, folder / f"{name}.{form}", title or name) for form in formats]


def page(charts: Sequence[Chart], title: str, notes: Sequence[str] = ()) -> str:
    """One self-contained HTML page with the charts, their data and all code they need.

    A content security policy forbids every request, and no text of a run becomes markup or script. Where the data would
    make the page larger than 1.5 MB, rows are left out and a note says so.
    """
    import vl_convert

    tables, left_out = fitted([(chart.name, chart.rows) for chart in charts])
    charts = [replace(chart, rows=rows) for chart, rows in zip(charts, tables, strict=True)]
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    # The page bundles vl-convert's newest Vega-Lite, which fits the version of Vega that it bundles.
    specs = [{**chart.spec("container"), "$schema": _PAGE_SCHEMA} for chart in charts]
    parts = {
        "title": html.escape(short_name(title)),
        "notes": "".join(
            f"<p class=note>{html.escape(printable(note, 500))}</p>" for note in [*notes[:_MAX_NOTES], *left_out]
        ),
        "charts": "".join(f'<figure style="height:{chart.height}px"></figure>' for chart in charts),
        "specs": json.dumps(specs, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "library": vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def write(chart: Chart, path: Path, title: str) -> Path:
    """Draw a chart into a file; the suffix is the format."""
    import vl_convert

    if path.suffix == ".html":
        path.write_text(page([chart], title), encoding="utf-8")
    elif path.suffix == ".svg":
        path.write_text(vl_convert.vegalite_to_svg(chart.spec(), vl_version=_VEGA_LITE), encoding="utf-8")
    else:
        path.write_bytes(vl_convert.vegalite_to_png(chart.spec(), vl_version=_VEGA_LITE, scale=2))
    return path


def _fill(node: Any, fields: Mapping[str, str], strings: Mapping[str, str]) -> Any:
    """Fill in columns and strings, as W&B's front end does."""
    if isinstance(node, dict):
        return {key: _fill(value, fields, strings) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, fields, strings) for value in node]
    if not isinstance(node, str):
        return node
    return _REFERENCE.sub(
        lambda match: fields[match[2]] if match[1] == "field" else strings.get(match[2], match[3]), node
    )
