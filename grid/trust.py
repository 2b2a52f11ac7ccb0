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


def refuse_foreign_code(strategy: str, store: str) -> None:
    """Raises Refused for a strategy that would be imported by a path which a remote store holds, without --trust."""
    module, colon, _ = strategy.partition(":")
    if not colon or not store.startswith(REMOTE) or module in sys.modules or TRUST.get():
        return
    raise Refused(
        f"the session says that its strategy is {strategy}, and {store.partition('?')[0]} is a store that others may "
        f"write to: importing {module} runs whatever module of that name lies here. Say --trust if you know both, or "
        "register the strategy in a package."
    )
