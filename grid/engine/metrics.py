"""The performance numbers of a trial: names, order and definitions.

N is the number of bars, r the simple bar returns (flat bars included, the first against the starting cash),
ppy the bars a year. What is undefined is NaN, never an infinity.

| metric | definition | NaN when |
|---|---|---|
| total_return | final equity / cash - 1 | |
| cagr | (1 + total_return)^(ppy / N) - 1 | the account is below zero, or the power overflows |
| volatility | std(r, ddof=1) x sqrt(ppy) | N < 2 |
| sharpe | mean(r - rf / ppy) / std(r, ddof=1) x sqrt(ppy) | no variance |
| sortino | mean(r - rf / ppy) / sqrt(mean(min(r - rf / ppy, 0)^2)) x sqrt(ppy), over all N bars | no downside |
| calmar | cagr / max_drawdown | no drawdown |
| max_drawdown | largest fall from a peak of the equity at closes, as a positive fraction; the cash is a peak | |
| max_drawdown_bars | bars from that peak to its recovery, or to the last bar | |
| win_rate | closed trades with pnl > 0 after fees / closed trades | no closed trade |
| profit_factor | sum of gains / sum of losses, in money | no loss |
| expectancy | mean of pnl / entry value | no closed trade |
| avg_win, avg_loss | mean of pnl / entry value over the winning, the other trades | no such trade |
| best_trade, worst_trade | largest, smallest pnl / entry value | no closed trade |
| total_trades | closed trades | |
| avg_hold_bars | mean of exit bar - entry bar | no closed trade |
| exposure | closes at which a position is held / N | |
| turnover | traded value of all fills / mean equity | mean equity is not positive |
| fees | paid, in money | |
| final_equity | equity at the last close | |
| skew, kurtosis | population moments of r, kurtosis not excess (a normal has 3) | no variance |

A variance below 1e-12 times the mean square is rounding and counts as none; so do a drawdown below 1e-12 and a downside
below 1e-12 times the root mean square return.
Sources: Sharpe (1994); Sortino and van der Meer (1991); Young (1991) for Calmar.
"""

METRICS: tuple[str, ...] = (
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sortino",
    "calmar",
    "max_drawdown",
    "max_drawdown_bars",
    "win_rate",
    "profit_factor",
    "expectancy",
    "avg_win",
    "avg_loss",
    "best_trade",
    "worst_trade",
    "total_trades",
    "avg_hold_bars",
    "exposure",
    "turnover",
    "fees",
    "final_equity",
    "skew",
    "kurtosis",
)
