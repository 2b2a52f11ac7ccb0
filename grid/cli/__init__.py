"""The command line. Data goes to stdout, messages and progress to stderr; exit codes are those of the README."""

import os
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from grid import logs
from grid.cli import bench, data, doctor, inspect, jobs, run, storage, strategies, verdict, verify, watch
from grid.cli.output import tell
from grid.errors import BadInput, Refused
from grid.resolve import ENGINE_VERSION
from storage.environment import load_environment
from storage.errors import StorageError
from strategies.errors import StrategyError

DONE, FAILED_TRIALS, USAGE, REFUSED, CRASHED, INTERRUPTED = 0, 1, 2, 3, 70, 130


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"backtest-grid {version('backtest-grid')}, engine {ENGINE_VERSION}")
        raise typer.Exit


app = typer.Typer(
    name="grid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Parameter sweeps of trading strategies, on this machine or on a Ray cluster."""


run.register(app)
inspect.register(app)
verdict.register(app)
watch.register(app)
verify.register(app)
jobs.register(app)
app.add_typer(strategies.strategies_app)
app.add_typer(data.data_app)
app.add_typer(storage.storage_app)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; what a user can mend is one paragraph, what we broke is a traceback."""
    try:
        sys.path.insert(0, str(Path.cwd()))  # so that module:Class finds a strategy beside the sweep file
    except FileNotFoundError:
        tell("error: the working directory is gone: change into one that is there.", "red")
        sys.exit(USAGE)
    with logs.console() as console:
        if os.environ.get(logs.VARIABLE) == "json":
            console.switch_to_json()
        _main()


def _main() -> None:
    try:
        load_environment(Path.cwd())
        app()
    except (BadInput, StorageError, StrategyError) as error:
        tell(f"error: {error}", "red")
        sys.exit(USAGE)
    except Refused as error:
        tell(f"refused: {error}", "yellow")
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(DONE)
    except Exception:  # noqa: BLE001 - ours to mend: the traceback, and a code no script takes for failed trials
        traceback.print_exc()
        sys.exit(CRASHED)
