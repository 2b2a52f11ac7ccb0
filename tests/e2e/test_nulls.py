"""Does the verdict tell the truth? Markets without an edge and with one, from `grid run` to `grid show`.

The slow version is the evidence: seeds are fixed, and none was chosen for what it gives.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.e2e.desk import Desk
from tests.e2e.walks import Judged, judged

DRIFT = 0.3
"""Of the planted markets, in daily standard deviations."""


def rates(found: Sequence[Judged]) -> tuple[float, float, float]:
    """How often the deflated Sharpe ratio and SPA say skill at 5 %, and the mean PBO."""
    deflated = float(np.mean([one.deflated >= 0.95 for one in found]))
    spa = float(np.mean([one.spa <= 0.05 for one in found]))
    return deflated, spa, float(np.mean([one.pbo for one in found]))


def test_luck_is_called_luck_and_an_edge_an_edge(desk: Desk) -> None:
    deflated, spa, _ = rates([judged(desk, seed, 0.0) for seed in range(100, 106)])
    assert (deflated, spa) == (0, 0)
    deflated, spa, _ = rates([judged(desk, seed, DRIFT) for seed in range(4)])
    assert min(deflated, spa) >= 0.75


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_200_random_walks(desk: Desk) -> None:
    deflated, spa, pbo = rates([judged(desk, seed, 0.0) for seed in range(100, 300)])
    assert deflated <= 0.07
    assert spa <= 0.07
    assert pbo == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_50_planted_edges(desk: Desk) -> None:
    deflated, spa, _ = rates([judged(desk, seed, DRIFT) for seed in range(50)])
    assert min(deflated, spa) >= 0.8
