"""The commands that messages tell to type next: each works as it stands, from here."""

import os
from typing import TYPE_CHECKING

from grid.heartbeat import read_beat
from grid.trust import needs_trust
from storage.providers import store_option

if TYPE_CHECKING:
    from grid.session import Session

AGAIN_VARIABLE = "GRID_JOB_AGAIN"
"""Set by `grid submit`: the command, as its user has to type it, that sends the job again."""


def at_store(session: "Session") -> str:
    """What a command on this session needs to find its store from here: nothing for ./results."""
    return store_option(session.folder.provider.uri)


def with_code(session: "Session") -> str:
    """`at_store`, for a command that runs the session's strategy."""
    asked = needs_trust(session.sweep.strategy, session.folder.provider.uri)
    return f"{at_store(session)}{' --trust' if asked else ''}"


def resume_command(session: "Session") -> str:
    """What goes on with a session; where its driver is, or was, a job of a cluster, what sends that job again."""
    if AGAIN_VARIABLE not in os.environ:
        beat = read_beat(session.folder)
        if beat is not None and beat.job is not None:
            return f"grid submit SWEEP --address http://HEAD:8265 --session-id {session.id}"
    return own_resume_command(session)


def own_resume_command(session: "Session") -> str:
    """The same for the session's own driver, which need not ask the store."""
    return os.environ.get(AGAIN_VARIABLE) or f"grid resume {session.id}{with_code(session)}"
