"""Whether code may be imported because a results store names it: anyone who may write there chose that name.

A registered strategy is of an installed package, and a folder of this machine is its user's own. A module:Class that
comes with a session on S3 or on a mount is imported when the user says --trust, or has imported the module already.
"""

import sys
from contextvars import ContextVar

from grid.errors import Refused

REMOTE = ("s3://", "nfs://")
TRUST: ContextVar[bool] = ContextVar("TRUST", default=False)
"""Set by --trust."""


def needs_trust(strategy: str, store: str) -> bool:
    """Whether a command that runs this strategy, as that store names it, needs --trust."""
    return ":" in strategy and store.startswith(REMOTE)


def lacks_trust(strategy: str, store: str) -> bool:
    """Whether it is needed and was not given, and the module is not the user's own already."""
    return needs_trust(strategy, store) and strategy.partition(":")[0] not in sys.modules and not TRUST.get()


def refuse_foreign_code(strategy: str, store: str) -> None:
    """Raises Refused for a strategy that would be imported by a path which a remote store holds, without --trust."""
    if not lacks_trust(strategy, store):
        return
    module = strategy.partition(":")[0]
    raise Refused(
        f"the session says that its strategy is {strategy}, and {store.partition('?')[0]} is a store that others may "
        f"write to: importing {module} runs whatever module of that name lies here. Say --trust if you know both, or "
        "register the strategy in a package."
    )
