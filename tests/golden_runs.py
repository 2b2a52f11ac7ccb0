"""The reference cases as runs of one backtest: bars, masks and execution model, in the conventions' words.

Used for the naive twin and for the engine alike. A `Run` says what to simulate, the golden's own entry says
what must come out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.goldens import Mask, Ohlcv, case, case_bars, mask

CASH = 1e8  # of the surfaces and of volume_zone_breakout, which state relative figures only


@dataclass(frozen=True)
class Run:
    golden: dict[str, Any]
    bars: Ohlcv
    masks: tuple[Mask, Mask, Mask, Mask]  # entries, exits, short entries, short exits
    execution: dict[str, Any]  # keyword arguments of naive.simulate
    periods_per_year: float


def vectorbt_run(shared: Path, case_id: str) -> Run:
    entry = case(shared, "trades_vectorbt", case_id)
    bars, params, signals = case_bars(shared, entry), entry["params"], entry["signals"]
    up, down = (mask(signals[key], len(bars)) for key in ("entry_signal_bars", "exit_signal_bars"))
    never = mask([], len(bars))
    masks = (up, down, down, up) if params["short_side"] else (up, down, never, never)
    execution = {
        "cash": params["start_cash"],
        "fee": params["fee_each_side"],
        "slippage": params["slippage"],
        "fill": _fill(params["fill"]),
        "side": "both" if params["short_side"] else "long",
        "size": ("units", 1.0) if params["sizing"] == "1 unit" else 1.0,
        "stop_loss": params["stop_loss_pct_of_fill"],
        "take_profit": params["take_profit_pct_of_fill"],
        "preset": "vectorbt",
    }
    return Run(entry, bars, masks, execution, params["periods_per_year"])


def backtesting_py_run(shared: Path, case_id: str) -> Run:
    entry = case(shared, "trades_backtesting_py", case_id)
    bars, params, signals = case_bars(shared, entry), entry["params"], entry["signals"]
    up, down, flat = (mask(signals[key], len(bars)) for key in ("long", "short", "flat"))
    execution = {
        "cash": params["start_cash"],
        "fee": params["fee_each_side"],
        "fill": _fill(params["fill"]),
        "side": "both" if params["short"] else "long",
        "size": ("units", float(params["units"])),
        "stop_loss": params["stop_loss_pct_of_signal_close"],
        "take_profit": params["take_profit_pct_of_signal_close"],
        "preset": "backtesting_py",
        "opposite": "ignore" if params["signals_ignored_while_in_position"] else "reverse",
    }
    return Run(entry, bars, (up, flat, down, flat), execution, 365.0)


def _fill(text: str) -> str:
    return {"open of the next bar": "next_open", "close of the signal bar": "close"}[text]


def surface_runs(shared: Path, case_id: str) -> Iterator[Run]:
    """One run for each row of a surface; its signals are computed here, by the rule's definition."""
    entry = case(shared, "sweep_surface", case_id)
    bars = case_bars(shared, entry)
    never = mask([], len(bars))
    for row in entry["rows"]:
        up, down = _sma_cross(bars, row) if entry["rule"] == "sma_cross" else _donchian(bars, row)
        execution = {
            "cash": CASH,
            "fee": entry["fee_each_side"],
            "slippage": entry["slippage"],
            "stop_loss": row["stop_loss"],
            "take_profit": row["take_profit"],
            "preset": "vectorbt",
        }
        yield Run(row, bars, (up, down, never, never), execution, entry["periods_per_year"])


def _sma_cross(bars: Ohlcv, row: dict[str, Any]) -> tuple[Mask, Mask]:
    fast, slow = _sma(bars, row["fast"]), _sma(bars, row["slow"])
    n = len(bars)
    up = [i for i in range(1, n) if fast[i - 1] <= slow[i - 1] and fast[i] > slow[i]]
    down = [i for i in range(1, n) if fast[i - 1] >= slow[i - 1] and fast[i] < slow[i]]
    return mask(up, n), mask(down, n)


def _sma(bars: Ohlcv, window: int) -> list[float]:
    close = bars.close.tolist()
    means = [math.fsum(close[i - window + 1 : i + 1]) / window for i in range(window - 1, len(close))]
    return [math.nan] * (window - 1) + means


def _donchian(bars: Ohlcv, row: dict[str, Any]) -> tuple[Mask, Mask]:
    high, low, close = bars.high.tolist(), bars.low.tolist(), bars.close.tolist()
    n, entry_n, exit_n = len(bars), row["n"], row["exit_n"]
    up = [i for i in range(entry_n, n) if close[i] > max(high[i - entry_n : i])]
    down = [i for i in range(exit_n, n) if close[i] < min(low[i - exit_n : i])]
    return mask(up, n), mask(down, n)


def volume_zone_run(shared: Path, case_id: str, fill: str) -> Run:
    entry = case(shared, "volume_zone_breakout", case_id)
    bars = case_bars(shared, entry)
    never = mask([], len(bars))
    execution = {
        "cash": CASH,
        "fee": entry["fee_each_side"],
        "fill": fill,
        "hold": entry["params"]["hold_period_bars"],
    }
    return Run(entry, bars, (mask(entry["signals"], len(bars)), never, never, never), execution, 365.0)


VECTORBT = (
    "btc_1d_sma_20_50_allin",
    "eth_4h_rsi_allin_next_open",
    "btc_4h_donchian_sl4_tp8_allin_slip",
    "xrp_1d_sma_7_21_longshort_1unit_close",
)
BACKTESTING_PY = (
    "btc_1d_sma_10_30_long",
    "btc_1d_sma_10_30_longshort_on_close",
    "eth_4h_rsi_long",
    "btc_4h_donchian20_sl3_tp6_long",
    "btc_4h_donchian20_sl3_tp6_longshort",
)
VOLUME_ZONE = (
    "btc_1d_w60_b20_p30",
    "btc_4h_w100_b50_p20_buf05",
    "eth_1h_w168_b24_p15_buf1",
    "eth_4h_bodies_w60_b25_p20",
)

METRICS = (
    "btc_1d_2021_2024_ppy365",
    "btc_1d_2021_2024_ppy252",
    "eth_1d_2022_2024_ppy365_rf3pct",
    "btc_1d_sma20_50_ppy365",
    "eth_4h_2023_ppy2190",
)
