"""What the kernel keeps in its arrays: names of their places, and how its functions are compiled."""

from typing import Any

# _nrt=False: nothing here allocates, and counting references to arrays (an atomic operation each) took half the time.
# No cache: the disk holds `simulate` whole (see kernel.py), and a helper of its own there could be an old one.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False, "_nrt": False}
INLINE: dict[str, Any] = OPTIONS | {"forceinline": True}  # passing arrays costs more than most of the helpers do

ZERO_VARIANCE = 1e-12  # a variance below this times the mean square is rounding
ZERO_FALL = 1e-12  # so is a drawdown below this, and a downside below this times the root mean square return
RUINED = 1e-9  # an account at or below this times the starting cash is lost

# accounts: money and position
CASH, UNITS, ENTRY_PRICE, ENTRY_FEE, ENTRY_BAR = range(5)
# marks: equity at the last close; the one whose return to it is not summed up yet, else the same; sums over bars
EQUITY, BEFORE, SUM_EQUITY, HELD_BARS, MARKED_BARS = range(5, 10)
# the current block: its number, the bar at which it ends, closed trades before it
BLOCK, BLOCK_END, TRADES_BEFORE = range(10, 13)
# drawdown: peak so far, its bar, lowest close since, deepest fall and its duration
PEAK, PEAK_BAR, LOW, DEPTH, DEPTH_BARS = range(13, 18)
# closed trades
TRADES, WINS, GAINS, LOSSES, WIN_RETURNS, LOSS_RETURNS, BEST, WORST, HOLD_BARS = range(18, 27)
FEES, TRADED, RECORDED = range(27, 30)
# the position in which the peak was reached, while PEAK_BAR and LOW wait to be looked up (see marks.py)
PEAK_FROM, PEAK_TO, PEAK_CASH, PEAK_UNITS, AFTER = range(30, 35)
ACCOUNTS = 35
# sums over the bars of returns r, r^2, r^3, r^4, and of min(r - free, 0)^2, in lanes (see lanes.py): eight places each
SUM1, SUM2, SUM3, SUM4, DOWNSIDE = range(0, 40, 8)
SUMS = 48  # the equity's come last
HELD_EQUITY = 40

# columns of a recorded trade
T_UNITS, T_ENTRY_BAR, T_EXIT_BAR, T_ENTRY_PRICE, T_EXIT_PRICE, T_FEES, T_PNL, T_RETURN, T_REASON = range(9)
TRADE_COLUMNS = 9
OPEN, SIGNAL, HOLD, STOP, TARGET, RUIN = range(6)
REASONS = ("open", "signal", "hold", "stop", "target", "ruin")

# rows of the inputs
OPENS, HIGHS, LOWS, CLOSES, RETURNS = range(5)
ENTRIES, EXITS, SHORT_ENTRIES, SHORT_EXITS = range(4)
