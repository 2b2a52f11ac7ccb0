"""`python -m tests.benchmarks.memory [BARS]`: private memory of a worker over ten years of minutes, many windows."""

import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from grid.engine import METRICS, Engine, Execution
from grid.heap import keep_freed
from strategies import Bars, Strategy
from strategies.donchian_breakout import DonchianBreakout
from strategies.sma_cross import SmaCross
from strategies.volume_zone_breakout import VolumeZoneBreakout

TEN_YEARS = 5_300_000


def mapped_bars(folder: Path, count: int) -> Bars:
    """Minute bars in files, which a worker shares with others as it does Ray's object store."""
    rng = np.random.default_rng(7)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.0005, count)))
    opens = np.append(100.0, close[:-1])
    high, low = np.maximum(opens, close) * 1.0002, np.minimum(opens, close) * 0.9998
    rows = {"open": opens, "high": high, "low": low, "close": close, "volume": rng.uniform(1.0, 100.0, count)}
    rows["timestamp"] = np.arange(count, dtype=np.int64) * 60 * 10**9
    for name, row in rows.items():
        np.save(folder / name, row)
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in rows}
    return Bars("MADE", "1m", "24/7", 525_600.0, **columns)


def private_mb() -> float:
    """Anonymous memory of this process, which nobody shares."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def watch(over: threading.Event, seen: list[float]) -> None:
    while not over.wait(0.002):
        seen.append(private_mb())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TEN_YEARS
    points: list[Strategy] = [SmaCross(fast=f, slow=s) for f in (5, 10, 15, 20) for s in range(50, 250, 50)]
    points += [DonchianBreakout(window=w, exit_window=w // 2) for w in range(20, 100, 20)]
    points += [VolumeZoneBreakout(volume_window=w, hold_period_bars=60) for w in (60, 120)]
    with tempfile.TemporaryDirectory() as name:
        bars = mapped_bars(Path(name), count)
        row, blocks, seen = np.empty(len(METRICS)), np.empty((3, 16)), [0.0]
        engine = Engine(bars, Execution(), np.linspace(0, count, 17).astype(np.int64))
        keep_freed()
        before = private_mb()
        over = threading.Event()
        watcher = threading.Thread(target=watch, args=(over, seen))
        watcher.start()
        for point in points:
            engine.evaluate(point.signals(bars), row, blocks)
        over.set()
        watcher.join()
    sys.stdout.write(
        f"{count:,} bars, {len(points)} trials: private memory {max(seen):.0f} MB at most, {before:.0f} MB before "
        f"the first; indicators hold {bars.cache.bytes / 2**20:.0f} MB of at most {bars.cache_bytes / 2**20:.0f}.\n"
    )


if __name__ == "__main__":
    main()
