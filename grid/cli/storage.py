"""`grid storage`: what a store is, whether it does what the grid needs, and what of it nobody needs."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from grid.cli.options import held
from grid.cli.output import emit, print_wrapped, tell
from grid.cli.tables import counted, print_facts
from grid.heartbeat import read_beat
from storage.clock import StoreClock
from storage.errors import StorageError
from storage.probing import Trial, describe_store, try_all
from storage.providers import provider_for
from storage.pruning import OLD_S, Litter, prune
from storage.sessions import SessionFolder

storage_app = typer.Typer(
    name="storage", help="Look at a store, try what it can do, and clean it up.", no_args_is_help=True
)

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
    payload = {"uri": provider.uri, "ok": all(t.ok is True for t in trials), "checks": [asdict(t) for t in trials]}
    emit(payload, as_json, lambda console: _render(console, trials))
    bad = [t.name for t in trials if t.ok is False]
    if bad:
        raise StorageError(f"{provider.uri} fails {counted(len(bad), 'check')}: {', '.join(bad)}.")


@storage_app.command("prune")
def prune_(
    uri: Annotated[
        str, typer.Argument(help="The results store, or a store of bars.", metavar="URI", callback=held)
    ] = "results",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is only listed.")] = False,
    older_than: Annotated[
        float, typer.Option(help="Only what is at least so many seconds old.", min=0, metavar="SECONDS")
    ] = OLD_S,
    as_json: Json = False,
) -> None:
    """Temporary files of writers that died, and parts that no commit record names.

    Sessions that a driver works on are left alone, and so is everything that a commit record names.
    """
    provider = provider_for(uri)
    clock = StoreClock(provider)
    if warning := clock.warning():
        tell(f"note: {warning}")

    def alive(session_id: str) -> bool:
        beat = read_beat(SessionFolder(provider, session_id))
        return beat is not None and beat.alive(clock.now())

    litter = prune(provider, older_than, alive, delete)
    payload = {"uri": provider.uri, "deleted": delete, **asdict(litter)}
    emit(payload, as_json, lambda console: _render_litter(console, litter, delete))


def _render_litter(console: Console, litter: Litter, deleted: bool) -> None:
    for path in [*litter.temporary, *litter.parts]:
        console.print(path, soft_wrap=True)
    for session_id, reason in litter.kept.items():
        console.print(f"{session_id} keeps its parts: {reason.rstrip('.')}.", soft_wrap=True)
    found = f"{counted(len(litter.temporary), 'temporary file')} and {counted(len(litter.parts), 'nameless part')}"
    advice = "" if deleted or not (litter.temporary or litter.parts) else "; --delete removes them"
    console.print(f"{found} {'removed' if deleted else 'found'}{advice}.", soft_wrap=True)


def _render(console: Console, trials: list[Trial]) -> None:
    words = {True: "ok ", False: "BAD", None: "-  "}
    for trial in trials:
        took = "" if trial.ok is None else f" ({1000 * trial.seconds:.0f} ms)"
        style = "red" if trial.ok is False else None
        print_wrapped(console, f"{words[trial.ok]} {trial.name:>16}  {trial.found}{took}", 22, style)
        if trial.remedy:
            print_wrapped(console, f"{'':>20}  {trial.remedy}", 22)
