"""What the Dashboard and `ps` call the tasks of a sweep.

One name for all units of a session: Ray makes a label of its own metrics of a task's name, and keeps up to 15 KB in the
driver for each name. The log of a worker, which the Dashboard shows too, has each unit.
"""

WORKERS = "backtest-grid-workers"
"""The namespace of workers: drivers list the names in their own every other second, and workers are many."""


def units_name(session_id: str) -> str:
    """Of the calls that evaluate units."""
    return f"{session_id} trials"


def bars_name(session_id: str) -> str:
    """Of the calls that load bars."""
    return f"{session_id} bars"
