"""Loading of the reference cases in ../shared/golden and of the bars they were computed on."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Ohlcv:
    """The columns of a case's bars, in the order of time."""

    timestamp: npt.NDArray[np.int64]  # ns since the epoch
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.close)

    @property
    def prices(self) -> tuple[Floats, Floats, Floats, Floats]:
        return self.open, self.high, self.low, self.close


@lru_cache
def golden(shared: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "golden" / f"{name}.json").read_text())
    return loaded


def case(shared: Path, name: str, case_id: str) -> dict[str, Any]:
    found = [entry for entry in golden(shared, name)["cases"] if entry["id"] == case_id]
    assert len(found) == 1, f"{name}.json has {len(found)} cases called {case_id}"
    chosen: dict[str, Any] = found[0]
    return chosen


def case_bars(shared: Path, entry: dict[str, Any]) -> Ohlcv:
    """The bars of a case by its `row_rule`; asserts that they are the ones it was computed on."""
    data = entry["data"]
    bars = _bars(shared, data["symbol_dir"], data["timeframe"], data["start_inclusive"], data["end_exclusive"])
    assert len(bars) == data["rows"]
    assert sha256(bars) == data["ohlcv_sha256"]
    return bars


@lru_cache(maxsize=8)
def _bars(shared: Path, symbol_dir: str, timeframe: str, start: str | None, end: str | None) -> Ohlcv:
    files = sorted((shared / "data" / symbol_dir / timeframe).glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files]).sort_by("timestamp")
    if start is not None:
        table = table.filter(pc.greater_equal(table["timestamp"], _instant(start)))
    if end is not None:
        table = table.filter(pc.less(table["timestamp"], _instant(end)))
    stamps = table["timestamp"].cast(pa.int64()).to_numpy()
    return Ohlcv(stamps, *(table[name].to_numpy() for name in COLUMNS))


def _instant(day: str) -> pa.Scalar:
    return pa.scalar(datetime.fromisoformat(day).replace(tzinfo=UTC), pa.timestamp("ns", "UTC"))


def sha256(bars: Ohlcv) -> str:
    digest = hashlib.sha256()
    for name in COLUMNS:
        digest.update(np.ascontiguousarray(getattr(bars, name), dtype="<f8").tobytes())
    return digest.hexdigest()


def mask(positions: list[int], n: int) -> Mask:
    """True at the given bars of n."""
    flags = np.zeros(n, dtype=bool)
    flags[positions] = True
    return flags
