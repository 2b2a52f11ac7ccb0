"""Markets that are known: random walks, and walks whose drift persists so that a trend can be followed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.ohlcv import OhlcvStore
from storage.providers import provider_for
from tests.e2e.desk import Desk

BARS, DAILY = 1400, 0.02
STAY = 1 - 1 / 60
"""How likely a planted drift lasts another day."""


def closes(seed: int, drift: float) -> NDArray[np.float64]:
    """Prices of BARS days. drift: in daily standard deviations, up or down for about 60 days at a time; 0 for none."""
    random = np.random.default_rng(seed)
    turns = np.where(random.random(BARS) < STAY, 1, -1)
    expected = drift * DAILY * np.cumprod(turns)
    return 100 * np.cumprod(1 + expected + DAILY * random.standard_normal(BARS))


def write_bars(folder: Path, close: NDArray[np.float64], symbol: str = "WALK") -> None:
    """Daily bars with these closes, each opening at the close before."""
    start = np.datetime64("2015-01-01", "ns")
    opened = np.concatenate((close[:1], close[:-1]))
    table = pa.table(
        {
            "timestamp": pa.array(start + np.arange(len(close)) * np.timedelta64(1, "D"), pa.timestamp("ns", tz="UTC")),
            "symbol": [symbol] * len(close),
            "timeframe": ["1D"] * len(close),
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": np.ones(len(close)),
        }
    )
    OhlcvStore(provider_for(str(folder))).write(table, "24/7", "no", replace=True)


def sweep_of(**changes: Any) -> dict[str, Any]:
    """64 crosses of averages, both sides, without costs: without an edge each of them earns nothing on average."""
    return {
        "name": "walk",
        "data": {"store": "walks", "symbols": ["WALK"], "timeframes": ["1D"]},
        "space": {"fast": [2, 3, 5, 7, 10, 14, 20, 28], "slow": [30, 40, 50, 65, 80, 100, 125, 150]},
        "execution": {"fee": 0.0, "side": "both"},
        "validation": {"blocks": 16},
        "results": {"store": "results", "keep_best": 5},
        **changes,
    }


@dataclass(frozen=True)
class Judged:
    """What `grid show` says of the best of a sweep on one market."""

    deflated: float
    spa: float
    pbo: float


def judged(desk: Desk, seed: int, drift: float) -> Judged:
    """Write a market, `grid run` the sweep on it, and `grid show` its session."""
    write_bars(desk.folder / "walks", closes(seed, drift))
    results = f"results-{seed}-{drift}"  # a store each, or the ledger would count all markets together
    desk.write_sweep(**sweep_of(results={"store": results, "keep_best": 5}))
    assert desk.run("--quiet").code == 0
    found = json.loads(desk.grid("show", "latest", "--store", results, "--json").out)["verdict"]
    reality = found["simulated"]["reality"]
    return Judged(found["luck"]["deflated_sharpe"], reality["spa"], found["overfitting"]["pbo"])
