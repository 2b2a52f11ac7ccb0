"""What the Dashboard calls the tasks of a sweep.

Ray makes a label of its own metrics of a task's name. So the tasks of a sweep share a hundred names, by session and
trials; the log of a worker, which the Dashboard shows too, has each unit.
"""

MOST_NAMES = 100


def unit_name(session_id: str, start: int, total: int) -> str:
    """Of the unit that begins with trial number `start`: the hundredth of all `total` numbers in which that lies."""
    return f"{session_id} {_hundredth(start, total)}"


def bars_name(session_id: str, start: int, total: int) -> str:
    """Of the task that loads the bars of a dataset whose first trial number is `start`."""
    return f"{session_id} bars for {_hundredth(start, total)}"


def _hundredth(start: int, total: int) -> str:
    size = -(-total // MOST_NAMES)
    first = start // size * size
    return f"trials [{first}, {min(first + size, total)})"
