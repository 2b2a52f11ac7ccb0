"""`grid storage`: what a store is, and whether it does what the grid needs."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from grid.cli.output import emit
from grid.cli.tables import counted, print_facts
from storage.errors import StorageError
from storage.probing import Trial, describe_store, try_all
from storage.providers import provider_for

storage_app = typer.Typer(name="storage", help="Look at a store, and try what it can do.", no_args_is_help=True)

Uri = Annotated[
    str, typer.Argument(help="A folder, nfs:///mount/folder, s3://bucket/prefix or a configured name.", metavar="URI")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@storage_app.command("info")
def info(uri: Uri, as_json: Json = False) -> None:
    """What a store is, how it is reached, and how many objects it holds. Writes nothing."""
    told = describe_store(provider_for(uri))
    shown = {name.replace("_", " "): "-" if value is None else str(value) for name, value in told.items()}
    emit(told, as_json, lambda console: print_facts(console, shown))


@storage_app.command("test")
def try_out(uri: Uri, as_json: Json = False) -> None:
    """Try to write, read, create, list, stat and delete, each apart; what fails comes with what to do."""
    provider = provider_for(uri)
    trials = try_all(provider)
    payload = {"uri": provider.uri, "ok": all(t.ok for t in trials), "checks": [asdict(t) for t in trials]}
    emit(payload, as_json, lambda console: _render(console, trials))
    bad = [t.name for t in trials if not t.ok]
    if bad:
        raise StorageError(f"{provider.uri} fails {counted(len(bad), 'check')}: {', '.join(bad)}.")


def _render(console: Console, trials: list[Trial]) -> None:
    for trial in trials:
        word, style = ("ok ", None) if trial.ok else ("BAD", "red")
        told = f"{word} {trial.name:>16}  {trial.found} ({1000 * trial.seconds:.0f} ms)"
        console.print(told, style=style, soft_wrap=True)
        if trial.remedy:
            console.print(f"{'':>20}  {trial.remedy}", soft_wrap=True)
