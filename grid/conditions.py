"""What must be equal for a trial to come out, bit for bit, as one that was run before."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from grid.engine.metrics import METRICS
from grid.resolve import processor, versions
from grid.spec import Sweep

MARK = 16
"""So many digits of a dataset's conditions stand in the catalog; whoever finds them there compares all of them."""
_OF_A_DATASET = ("symbol", "timeframe", "calendar", "fingerprint", "block_bars")


def conditions(sweep: Sweep, engine: str, strategy_source: str, datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each dataset the sha256 over all that decides a row but its parameters and the machine.

    That is the engine's version and the metrics it keeps, the strategy's name and source, the execution model, and the
    bars: symbol, timeframe, calendar, fingerprint, and how many lie in each block, which tells where the hold-out
    begins. datasets: as the metadata of a session keeps them.
    """
    common = [engine, METRICS, sweep.strategy, strategy_source, sweep.execution.model_dump(mode="json")]
    return [_sha256([*common, *(facts[name] for name in _OF_A_DATASET)]) for facts in datasets]


@cache
def machine_kind() -> str:
    """A short name for what decides the last digit of a row here: package versions, Python's and the processor."""
    return _sha256([versions(), platform.python_version(), processor()])[:MARK]


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
