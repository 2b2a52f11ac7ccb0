"""Indicators and signals against the reference cases."""

import numpy as np
import pytest

from strategies import Bars
from strategies.donchian_breakout import DonchianBreakout
from strategies.rsi_reversion import RsiReversion
from strategies.sma_cross import SmaCross
from strategies.volume_long_candle import VolumeLongCandle
from strategies.volume_zone_breakout import VolumeZoneBreakout
from tests.goldens import case, case_bars, golden

pytestmark = pytest.mark.shared

INDICATORS = {
    "sma_20": lambda bars: bars.sma(20),
    "wma_20": lambda bars: bars.wma(20),
    "ema_20_sma_seed": lambda bars: bars.ema(20),
    "rsi_14": lambda bars: bars.rsi(14),
    "atr_14": lambda bars: bars.atr(14),
    "true_range": lambda bars: bars.true_range(),
    "bb_20_2.0_upper": lambda bars: bars.bollinger(20, 2.0)[0],
    "bb_20_2.0_middle": lambda bars: bars.bollinger(20, 2.0)[1],
    "bb_20_2.0_lower": lambda bars: bars.bollinger(20, 2.0)[2],
    "macd_12_26_9_line": lambda bars: bars.macd(12, 26, 9)[0],
    "macd_12_26_9_signal": lambda bars: bars.macd(12, 26, 9)[1],
    "macd_12_26_9_hist": lambda bars: bars.macd(12, 26, 9)[2],
    "donchian_20_upper_incl": lambda bars: bars.highest(20),
    "donchian_20_lower_incl": lambda bars: bars.lowest(20),
    "donchian_20_upper_prev": lambda bars: bars.previous_highest(20),
    "donchian_20_lower_prev": lambda bars: bars.previous_lowest(20),
    "adx_14": lambda bars: bars.adx(14),
    "plus_di_14": lambda bars: bars.plus_di(14),
    "minus_di_14": lambda bars: bars.minus_di(14),
    "stoch_14_3_3_k": lambda bars: bars.stochastic(14, 3, 3)[0],
    "stoch_14_3_3_d": lambda bars: bars.stochastic(14, 3, 3)[1],
    "obv": lambda bars: bars.obv(),
    "roc_20": lambda bars: bars.roc(20),
}


def bars_for(shared, entry) -> Bars:
    columns = case_bars(shared, entry)
    ohlcv = columns.open, columns.high, columns.low, columns.close, columns.volume
    return Bars("GOLDEN", entry["data"]["timeframe"], "24/7", 365.0, columns.timestamp, *ohlcv)


@pytest.mark.parametrize("case_id", ["btc_1d", "eth_4h_2023"])
def test_indicators(shared, case_id):
    entry = case(shared, "indicators", case_id)
    tolerance = golden(shared, "indicators")["tolerance"]
    limits = {"rtol": tolerance["rtol"], "atol": tolerance["atol"]}
    bars = bars_for(shared, entry)
    other_seeds = {name for name in entry["expected"] if name.endswith("first_value_seed")}
    assert set(INDICATORS) == set(entry["expected"]) - other_seeds
    for name, indicator in INDICATORS.items():
        expected, row = entry["expected"][name], indicator(bars)
        head = np.array(expected["head"], np.float64)
        np.testing.assert_allclose(row[: head.size], head, **limits, err_msg=name)
        np.testing.assert_allclose(row[expected["sample_index"]], expected["sample_value"], **limits)
        assert np.isnan(row).sum() == expected["nan_count"] == expected["first_valid_index"], name
        np.testing.assert_allclose(np.nansum(row), expected["sum_of_valid"], **limits)


@pytest.mark.parametrize(
    "case_id",
    ["btc_1d_w60_b20_p30", "btc_4h_w100_b50_p20_buf05", "eth_1h_w168_b24_p15_buf1", "eth_4h_bodies_w60_b25_p20"],
)
def test_volume_zone_breakout(shared, case_id):
    entry = case(shared, "volume_zone_breakout", case_id)
    bars, strategy = bars_for(shared, entry), VolumeZoneBreakout(**entry["params"])
    point = strategy.volume_window, strategy.top_percentile, strategy.num_bins, strategy.include_wicks
    sample, rtol = entry["resistance_sample"], golden(shared, "volume_zone_breakout")["tolerance"]
    np.testing.assert_allclose(bars.volume_zone(*point)[sample["index"]], sample["value"], rtol=rtol["resistance_rtol"])
    signals = strategy.signals(bars).normalised(len(bars))
    assert_same_bars(signals.entries, entry["signals"], entry["knife_edge_bars"])
    assert signals.hold == entry["params"]["hold_period_bars"]


@pytest.mark.parametrize("case_id", ["btc_4h_lc", "xrp_1d_lc"])
def test_volume_long_candle(shared, case_id):
    entry = case(shared, "volume_zone_breakout", case_id)
    bars = bars_for(shared, entry)
    signals = VolumeLongCandle(**entry["params"]).signals(bars).normalised(len(bars))
    assert_same_bars(signals.entries, entry["signals"], entry["knife_edge_bars"])


def assert_same_bars(mask, expected, undecided):
    assert set(mask.indices().tolist()) - set(undecided) == set(expected) - set(undecided)


@pytest.mark.parametrize(
    ("case_id", "strategy"),
    [
        ("btc_1d_sma_20_50_allin", SmaCross(fast=20, slow=50)),
        ("xrp_1d_sma_7_21_longshort_1unit_close", SmaCross(fast=7, slow=21)),
        ("eth_4h_rsi_allin_next_open", RsiReversion(window=14, lower=30, exit_level=60)),
        ("btc_4h_donchian_sl4_tp8_allin_slip", DonchianBreakout(window=30, exit_window=15)),
    ],
)
def test_signals_given_to_vectorbt(shared, case_id, strategy):
    entry = case(shared, "trades_vectorbt", case_id)
    bars = bars_for(shared, entry)
    signals = strategy.signals(bars).normalised(len(bars))
    assert signals.entries.indices().tolist() == entry["signals"]["entry_signal_bars"]
    assert signals.exits.indices().tolist() == entry["signals"]["exit_signal_bars"]


@pytest.mark.parametrize(
    ("case_id", "strategy"),
    [
        ("btc_1d_sma_10_30_longshort_on_close", SmaCross(fast=10, slow=30)),
        ("btc_4h_donchian20_sl3_tp6_longshort", DonchianBreakout(window=20)),
    ],
)
def test_signals_given_to_backtesting_py(shared, case_id, strategy):
    entry = case(shared, "trades_backtesting_py", case_id)
    bars = bars_for(shared, entry)
    signals = strategy.signals(bars).normalised(len(bars))
    assert signals.entries.indices().tolist() == entry["signals"]["long"]
    assert signals.short_entries.indices().tolist() == entry["signals"]["short"]
