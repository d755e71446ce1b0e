"""``intensive-callbacks dashboard``: draw offline runs, publish charts and workspace to W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intensive_callbacks.command import Commands, one_line_errors
from intensive_callbacks.untrusted import printable

app = typer.Typer(
    cls=Commands,
    help="Draw offline runs without W&B, or publish charts and workspace view to W&B.",
    no_args_is_help=True,
)


@app.command("render")
@one_line_errors
def render_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of offline runs, such as wandb/offline-run-…")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("dashboard.html"),
    png: Annotated[bool, typer.Option("--png", help="Also a PNG per chart, beside the page.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Also an SVG per chart, beside the page.")] = False,
) -> None:
    """Write one self-contained page with the charts of one or several offline runs."""
    from intensive_callbacks.dashboards.comparison import charts_of
    from intensive_callbacks.dashboards.render import page, write
    from intensive_callbacks.dashboards.runs import read_run

    records = [read_run(folder) for folder in runs]
    notes = [note for record in records for note in record.notes]
    charts = charts_of(records)
    for note in notes:
        typer.echo(printable(note), err=True)
    if not charts:
        raise ValueError("nothing to draw: none of the runs holds values of intensive_callbacks")
    title = ", ".join(record.name for record in records)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(charts, title, notes), encoding="utf-8")
        typer.echo(out)
        for suffix in [".png"] * png + [".svg"] * svg:
            for chart in charts:
                typer.echo(write(chart, out.with_name(f"{out.stem}-{chart.name}{suffix}"), title))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"drawing needs {error.name}: pip install 'intensive-callbacks[render]'") from None


@app.command("publish")
@one_line_errors
def publish_command(
    entity: Annotated[str, typer.Option(help="The W&B user or team.")],
    project: Annotated[str, typer.Option(help="The W&B project.")],
    prefix: Annotated[str, typer.Option(help="The prefix of the logged keys, as in WandbLogger(prefix=…).")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be published, and publish nothing.")
    ] = False,
) -> None:
    """Create or update the chart presets and the saved workspace view."""
    from intensive_callbacks.dashboards.publish import publish, published_names

    if dry_run:
        for name in published_names(entity):
            typer.echo(f"would publish chart {name}")
        typer.echo(f"would save the view in {entity}/{project}")
        return
    published = publish(entity, project, prefix)
    for name, created in published.charts.items():
        typer.echo(f"chart {printable(name)} {'created' if created else 'is there already'}")
    typer.echo(printable(published.url))
