"""Daily returns by calendar year and by the market's regime."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Floats, sharpe

TREND, TURBULENCE = 200, 20
"""Days of the average that tells up from down, and of the volatility that tells calm from rough."""


def by_year(days: NDArray[np.int64], returns: Floats, periods: float) -> list[dict[str, Any]]:
    """Total return and annual Sharpe ratio of each calendar year (UTC); periods: days with bars a year."""
    years = days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    return [{"year": int(y), **_told(returns[years == y], periods)} for y in np.unique(years)]


def by_regime(market: Floats, returns: Floats, periods: float) -> list[dict[str, Any]]:
    """The same for days in an up or down trend, and in calm or rough days, of the market.

    market: float64[n], its daily returns. A day's regime is what the days before it show: up where the market stood
    above its average of 200 days; rough where its volatility of 20 days was above the median of all such. Days before
    there is enough history belong to none.
    """
    level = np.cumprod(1 + market)
    up, rough = np.full(len(level), np.nan), np.full(len(level), np.nan)
    if len(level) > TREND:
        mean = np.lib.stride_tricks.sliding_window_view(level, TREND).mean(axis=1)
        up[TREND:] = (level[TREND - 1 :] > mean)[:-1]
        volatility = np.lib.stride_tricks.sliding_window_view(market, TURBULENCE).std(axis=1)
        rough[TURBULENCE:] = (volatility > np.median(volatility))[:-1]
    names = {"up": up == 1, "down": up == 0, "calm": rough == 0, "rough": rough == 1}
    return [{"regime": name, "days": int(on.sum()), **_told(returns[on], periods)} for name, on in names.items()]


def _told(returns: Floats, periods: float) -> dict[str, float]:
    n = np.float64(len(returns))
    ratio = float(sharpe(n, returns.sum(), (returns**2).sum(), periods)) if n else float("nan")
    return {"total_return": float(np.prod(1 + returns) - 1), "sharpe": ratio}
