"""Made bars for measuring: a seeded geometric Brownian motion, in a store of its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.ohlcv import OHLCV_SCHEMA, OhlcvStore
from storage.providers import provider_for
from storage.timeframes import seconds_of

START_NS = 1_577_836_800_000_000_000  # 2020-01-01


def store_bars(folder: Path, timeframe: str, count: int, symbol: str = "MADE") -> None:
    """Write `count` bars of one timeframe from 2020-01-01 on."""
    rng = np.random.default_rng(7)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.005, count)))
    opens = np.append(100.0, close[:-1])
    spread = np.abs(rng.normal(0.0, 0.002, count))
    table = pa.table(
        {
            "timestamp": pa.array(START_NS + np.arange(count) * seconds_of(timeframe) * 1_000_000_000).cast(
                pa.timestamp("ns", "UTC")
            ),
            "symbol": [symbol] * count,
            "timeframe": [timeframe] * count,
            "open": opens,
            "high": np.maximum(opens, close) * (1 + spread),
            "low": np.minimum(opens, close) * (1 - spread),
            "close": close,
            "volume": rng.uniform(1.0, 100.0, count),
        },
        schema=OHLCV_SCHEMA,
    )
    OhlcvStore(provider_for(str(folder))).write(table, calendar="24/7", adjusted="no")


def cross_sweep(
    folder: Path, timeframe: str, fast: int, slow: int, symbols: Sequence[str] = ("MADE",)
) -> dict[str, object]:
    """sma_cross over fast x slow windows, fast below slow, on the made bars."""
    return {
        "name": f"bench-{timeframe}",
        "strategy": "sma_cross",
        "data": {"store": str(folder / "data"), "symbols": list(symbols), "timeframes": [timeframe]},
        "space": {"fast": {"range": [5, 4 + fast, 1]}, "slow": {"range": [5 + fast, 4 + fast + slow, 1]}},
        "execution": {"cash": 1_000_000, "fee": 0.0005, "slippage": 0.0002},
        "results": {"store": str(folder / "results"), "keep_best": 5, "reuse": False},
    }
