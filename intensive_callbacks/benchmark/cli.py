"""``intensive-callbacks leaderboard``: runs, results files and published models in one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intensive_callbacks.command import one_line_errors
from intensive_callbacks.untrusted import printable, read_json

if TYPE_CHECKING:
    from intensive_callbacks.benchmark.row import BenchmarkRow
    from intensive_callbacks.benchmark.table import BenchmarkTable


class Format(str, Enum):
    """How the table is written."""

    RICH = "rich"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"


@one_line_errors
def leaderboard(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Folders of W&B runs (or entity/project/run of one online), results.json of lm-evaluation-harness, "
            "CSV files, tables saved as CSV or JSON.",
        ),
    ] = None,
    *,
    baselines: Annotated[
        str | None,
        typer.Option(help="Published models beside them: language, vision, vision-language, density or a CSV file."),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Column that orders each group, best first, such as p3.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="Score of results.json, such as acc_norm or exact_match,strict-match.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How the table is written.")] = Format.RICH,
    featured: Annotated[bool, typer.Option("--featured", help="Only a few published models.")] = False,
    confidence: Annotated[
        bool,
        typer.Option("--compare", help="Compare the first model of each group with the others."),
    ] = False,
) -> None:
    """Compare models within their task and protocol: what each costs, scores, and delivers for its cost."""
    from intensive_callbacks.benchmark.baselines import load_baselines
    from intensive_callbacks.benchmark.table import BenchmarkTable

    rows = _distinct([(source, row) for source in sources or [] for row in load_source(source, metric)])
    table = BenchmarkTable([*rows, *(load_baselines(baselines) if baselines else [])], sort=sort)
    _write(table.featured() if featured else table, output)
    if confidence:
        for comparison in _comparisons(rows):
            typer.echo("\n".join(map(printable, comparison.splitlines())))


def load_source(source: str, metric: str | None = None) -> list[BenchmarkRow]:
    """The rows of a run, of a results file, or of a table in a CSV or JSON file."""
    from intensive_callbacks.benchmark.baselines import load_baselines, rows_of_saved
    from intensive_callbacks.benchmark.harness import load_harness_results
    from intensive_callbacks.benchmark.runs import load_online_run, load_run

    path = Path(source)
    if path.suffix == ".csv":
        return load_baselines(path)
    if path.suffix == ".json" and path.is_file():
        content = read_json(path)
        if isinstance(content, dict) and "convention" in content:
            return rows_of_saved(content, source)
    if path.suffix == ".json" or (path.is_dir() and any(path.rglob("results*.json"))):
        return load_harness_results(path, metric=metric)
    if not path.exists() and source.count("/") == 2:
        return [load_online_run(source)]
    return [load_run(path)]


def _distinct(sourced: list[tuple[str, BenchmarkRow]]) -> list[BenchmarkRow]:
    """The rows; where several of a group have one name, each also gets the name of its source."""
    counts = Counter((row.model, row.group) for _, row in sourced)
    return [
        replace(row, model=f"{row.model} ({Path(source).name})") if counts[row.model, row.group] > 1 else row
        for source, row in sourced
    ]


def _write(table: BenchmarkTable, output: Format) -> None:
    if not table.groups:
        raise ValueError("nothing to show: name runs, results files or --baselines language")
    if output is Format.RICH:
        from rich.console import Console

        console = Console()
        # Without a terminal rich assumes 80 columns, which would cut the numbers off.
        (console if console.is_terminal else Console(width=120)).print(table)
        return
    text = {Format.MARKDOWN: table.to_markdown, Format.CSV: table.to_csv, Format.JSON: table.to_json}[output]()
    typer.echo(text, nl=not text.endswith("\n"))


def _comparisons(rows: list[BenchmarkRow]) -> list[str]:
    groups: dict[tuple[str, str], list[BenchmarkRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    lines = [_comparison(first, other) for first, *others in groups.values() for other in others]
    if not lines:
        raise ValueError("--compare needs two models of one task and protocol; name two runs or results files")
    return lines


def _comparison(first: BenchmarkRow, second: BenchmarkRow) -> str:
    from intensive_callbacks.benchmark.compare import compare

    try:
        return str(compare(first, second))
    except ValueError as reason:
        return str(reason)
