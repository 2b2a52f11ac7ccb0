"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from grid.auth import use_token
from grid.errors import BadInput
from grid.logs import the_console
from grid.trust import TRUST
from storage.probing import missing_folder
from storage.providers import provider_for

DEFAULT_STORES = ("results", "data")


def _log_json(wanted: bool) -> bool:
    console = the_console()
    if wanted and console is not None:
        console.switch_to_json()
    return wanted


def _token_file(file: Path | None) -> Path | None:
    use_token(file)
    return file


def _trust(wanted: bool) -> bool:
    TRUST.set(wanted)
    return wanted


def held(uri: str) -> str:
    """`uri`; raises BadInput where it names a folder that is not there. The default ones may be made later."""
    missing = missing_folder(provider_for(uri))
    if missing and uri not in DEFAULT_STORES:
        raise BadInput(f"{missing}; name one that holds a store.")
    return uri


Id = Annotated[str, typer.Argument(help="A session id, the beginning of one, or latest.", metavar="SESSION")]
Store = Annotated[str, typer.Option(help="The results store.", metavar="PATH", callback=held)]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
N = Annotated[int, typer.Option("-n", help="How many.", min=1)]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Messages as JSON lines (or GRID_LOG=json).", callback=_log_json)
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="The cluster's token (or RAY_AUTH_TOKEN_PATH, RAY_AUTH_TOKEN).", callback=_token_file),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Import the module that a session in a remote store names.", callback=_trust),
]
JobsAddress = Annotated[str, typer.Option(help="The cluster's Dashboard, http://HOST:8265.", metavar="URL")]
