"""`grid strategies`: what there is to run, and whether a strategy keeps the rules."""

from typing import Annotated, Any

import typer
from rich.console import Console

from grid.cli.output import emit
from grid.cli.tables import print_table
from grid.errors import BadInput
from strategies.check import find_faults
from strategies.registry import describe, get, names

strategies_app = typer.Typer(name="strategies", help="List strategies and check one.")

Json = Annotated[bool, typer.Option("--json", help="Write JSON (with a JSON Schema of the parameters) to stdout.")]


@strategies_app.callback(invoke_without_command=True)
def strategies(context: typer.Context, as_json: Json = False) -> None:
    """List the strategies with their parameters, bounds and docs."""
    if context.invoked_subcommand is None:
        found = [describe(get(name)) for name in names()]
        emit(found, as_json, lambda console: _render(console, found))


@strategies_app.command("show")
def show(name: Annotated[str, typer.Argument(help="A name, or module:Class.")], as_json: Json = False) -> None:
    """Show one strategy."""
    found = describe(get(name))
    emit(found, as_json, lambda console: _render(console, [found]))


@strategies_app.command("check")
def check(name: Annotated[str, typer.Argument(help="A name, or module:Class.")], as_json: Json = False) -> None:
    """Check that a strategy keeps the rules.

    No look-ahead, deterministic, signals of the right shapes, picklable, parameters with bounds.
    """
    faults = find_faults(get(name))
    payload = {"strategy": name, "ok": not faults, "faults": [vars(fault) for fault in faults]}
    if faults and not as_json:
        told = "; ".join(f"{fault.rule}: {fault.text}" for fault in faults)
        raise BadInput(f"the strategy {name} breaks the rules of strategies. {told}.")
    emit(payload, as_json, lambda console: console.print(f"{name} keeps the rules."))
    if faults:
        raise typer.Exit(2)


def _render(console: Console, found: list[dict[str, Any]]) -> None:
    for strategy in found:
        console.print(strategy["name"], style="bold")
        console.print("\n\n".join(" ".join(paragraph.split()) for paragraph in strategy["doc"].split("\n\n")))
        rows = [
            {"parameter": p["name"], "default": p.get("default"), "bounds": _bounds(p)} for p in strategy["parameters"]
        ]
        for row, parameter in zip(rows, strategy["parameters"], strict=True):
            row["meaning"] = parameter.get("description", "")
        print_table(console, "", rows)
        console.print()


def _bounds(parameter: dict[str, Any]) -> str:
    low = parameter.get("minimum", parameter.get("exclusiveMinimum"))
    high = parameter.get("maximum", parameter.get("exclusiveMaximum"))
    left = "(" if "exclusiveMinimum" in parameter else "["
    right = ")" if "exclusiveMaximum" in parameter else "]"
    if low is None and high is None:
        return str(parameter.get("type", ""))
    return f"{left}{'' if low is None else low}, {'' if high is None else high}{right}"
