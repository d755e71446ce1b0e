"""The command line: what a model costs, without training it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from intensive_callbacks.benchmark.cli import leaderboard
from intensive_callbacks.command import Commands, one_line_errors
from intensive_callbacks.dashboards.cli import app as dashboard
from intensive_callbacks.untrusted import reason, short_name

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere, shows the traceback of an error.",
)


app.add_typer(dashboard, name="dashboard")
app.command()(leaderboard)


@app.callback()
def main() -> None:
    """What a model's configuration delivers for what it costs."""


@app.command()
@one_line_errors
def profile(
    target: Annotated[
        str, typer.Argument(help="module:factory, a transformers config file, or the name of its config class")
    ],
    sequence_length: Annotated[int, typer.Option(min=1, help="tokens that a language model reads at once")] = 2048,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    num_experts_per_token: Annotated[
        float | None, typer.Option(min=0, help="routed experts that a token is sent to; by default as the model says")
    ] = None,
) -> None:
    """Parameters by kind and convention, FLOPs per token or example, and bytes. Nothing is downloaded."""
    from intensive_callbacks.footprint.targets import resolve

    try:
        found = resolve(target, sequence_length)
        costs = _costs(found, num_experts_per_token)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        import json

        typer.echo(json.dumps(costs, indent=2))
    else:
        from rich.console import Console

        Console().print(_table(short_name(target), costs))


def _costs(target: Any, num_experts_per_token: float | None) -> dict[str, Any]:
    """What is printed, as plain data."""
    import dataclasses

    from intensive_callbacks.footprint.flops import flops_of_batch
    from intensive_callbacks.footprint.parameters import count_parameters

    per_token = target.experts_per_token() if num_experts_per_token is None else num_experts_per_token
    parameters = dataclasses.asdict(count_parameters(target.model, num_experts_per_token=per_token))
    del parameters["num_local_bytes"]  # a command is one process
    costs: dict[str, Any] = {"model": type(target.model).__name__, "num_bytes": parameters.pop("num_bytes")}
    costs |= {"parameters": parameters, "flops": None}
    if target.has_batch:
        try:
            count = flops_of_batch(target.model, target.args, target.kwargs, per_token)
        except Exception as error:  # noqa: BLE001 - the model's own code; the other figures stand without it
            typer.echo(f"FLOPs are not counted: {type(error).__name__}: {reason(error)}", err=True)
        else:
            costs["flops"] = {
                f"per_{target.unit}": count.total / target.num_units,
                f"num_{target.unit}s": target.num_units,
                "total": count.total,
                "causal_discount": count.causal_discount,
                "by_operator": count.by_operator,
                "uncounted": count.uncounted,
            }
    return costs


ROWS = {
    "total": "every element once",
    "active": "what one token touches, both embeddings in (as Mixtral and Qwen3 count)",
    "active_without_input_embedding": "the same without the input embedding (DeepSeek-V3, gpt-oss)",
    "active_without_embeddings": "the same without the output head too (MiniMax, GLM-4.5)",
    "routed": "all routed experts",
    "shared": "shared experts and what else every token uses in these blocks",
    "router": "what chooses the experts",
    "embedding": "input embedding and output head",
    "trainable": "with gradients",
}


def _table(name: str, costs: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", "", title=Text(f"{name} ({costs['model']})"), show_header=False)
    for kind, meaning in ROWS.items():
        table.add_row(f"{kind.replace('_', ' ')} parameters", _short(costs["parameters"][kind]), meaning)
    table.add_section()
    table.add_row("resident weights", _short(costs["num_bytes"]) + "B", "bytes of parameters and buffers")
    flops = costs["flops"]
    if flops is not None:
        unit = "token" if "per_token" in flops else "example"
        batch = f"one forward, {unit}s in it: {flops[f'num_{unit}s']}; 1 MAC = 2 FLOPs"
        table.add_row(f"FLOPs per {unit}", _short(flops[f"per_{unit}"]), batch)
        if flops["uncounted"]:
            table.add_row("not counted", ", ".join(flops["uncounted"]), "operators without a formula")
    return table


def _short(number: float) -> str:
    """Four digits and a decimal prefix: 671.0 G for 671,026,419,200."""
    for factor, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= factor:
            return f"{number / factor:.4g}{prefix}"
    return f"{number:.4g} "


if __name__ == "__main__":
    app()
