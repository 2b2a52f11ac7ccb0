"""Break-even costs: the fee and the slippage at which nothing is left of a trial's return."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grid.engine import METRICS, Engine
from grid.engine.execution import Execution
from grid.verdict.evidence import Evidence

STEPS = 40
HIGHEST = 0.5
"""Costs a side beyond which nobody looks."""
RETURN = METRICS.index("total_return")


@dataclass(frozen=True)
class BreakEven:
    """Fractions a side at which the total return reaches 0, the other cost staying as it is.

    None where it is not positive even without that cost; HIGHEST where it still is at that. return_without_costs: the
    total return at no fee and no slippage.
    """

    fee_now: float
    slippage_now: float
    fee: float | None
    slippage: float | None
    return_without_costs: float


def break_even(evidence: Evidence, trial: int) -> BreakEven:
    """Halve the range of a cost until the sign of the total return is found to 12 digits, trial by trial."""
    session = evidence.session
    dataset, point = session.resolved.plan.locate(trial)
    loaded, execution = session.loaded(dataset), session.sweep.execution
    signals = session.resolved.strategy(**session.resolved.points[point]).signals(loaded.bars)
    row, blocks = np.empty(len(METRICS)), np.empty((3, len(loaded.edges) - 1))

    def earned(**costs: float) -> float:
        changed: Execution = execution.model_copy(update=costs)
        Engine(loaded.bars, changed, loaded.edges).evaluate(signals, row, blocks)
        return float(row[RETURN])

    return BreakEven(
        execution.fee,
        execution.slippage,
        _root(lambda cost: earned(fee=cost)),
        _root(lambda cost: earned(slippage=cost)),
        earned(fee=0.0, slippage=0.0),
    )


def _root(earned: Callable[[float], float]) -> float | None:
    low, high = 0.0, HIGHEST
    if not earned(low) > 0:
        return None
    if earned(high) > 0:
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if earned(middle) > 0 else (low, middle)
    return low
