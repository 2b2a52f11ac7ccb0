"""What the Dashboard calls the tasks of a sweep.

Ray makes a label of its own metrics of a task's name. So the tasks of a sweep share a hundred names, by session and
trials; the log of a worker, which the Dashboard shows too, has each unit.
"""

MOST_NAMES = 100
WORKERS = "backtest-grid-workers"
"""The namespace of workers: drivers list the names in their own every other second, and workers are many."""


def unit_name(session_id: str, start: int, total: int) -> str:
    """Of the unit that begins with trial number `start`: the hundredth of all `total` numbers in which that lies."""
    first, stop = _hundredth(start, total)
    return f"{session_id} trials [{first}, {stop})"


def bars_name(session_id: str, start: int, total: int) -> str:
    """Of the call that loads the bars of a dataset whose first trial number is `start`, likewise."""
    return f"{session_id} bars from trial {_hundredth(start, total)[0]}"


def _hundredth(start: int, total: int) -> tuple[int, int]:
    size = -(-total // MOST_NAMES)
    first = start // size * size
    return first, min(first + size, total)
