"""What the kernel keeps in its arrays: names of their places, and how its functions are compiled."""

from typing import Any

# _nrt=False: nothing here allocates, and counting references to arrays (an atomic operation each) took half the time.
# No cache: the disk holds `simulate` whole (see kernel.py), and a helper of its own there could be an old one.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False, "_nrt": False}
# Passing arrays costs more than most of the helpers do. Nobody calls them from Python.
INLINE: dict[str, Any] = OPTIONS | {"forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

ZERO_VARIANCE = 1e-12  # a variance below this times the mean square is rounding
ZERO_FALL = 1e-12  # so is a drawdown below this, and a downside below this times the root mean square return
RUINED = 1e-9  # an account at or below this times the starting cash is lost

# accounts, in float64 `a`: money and position
CASH, UNITS, ENTRY_PRICE = range(3)
# marks: equity at the last close; the one whose return to it is not summed up yet, else the same; sum over flat bars
EQUITY, BEFORE, SUM_EQUITY = range(3, 6)
# drawdown: peak so far, deepest fall; the lowest since the peak is the least of LOW, AFTER and LOWS_HELD (see marks.py)
PEAK, DEPTH, LOW, AFTER = range(6, 10)
# the position in which the peak was reached, while PEAK_BAR and LOW wait to be looked up
PEAK_CASH, PEAK_UNITS = range(10, 12)
ACCOUNTS = 12

# counts, in int64 `c`, which the processor adds and compares beside the arithmetic: the bar of the entry, bars held,
# returns summed up, and whether that from BEFORE to EQUITY waits (1) to be
ENTRY_BAR, HELD_BARS, MARKED_BARS, WAITS = range(4)
# the current block: its number, the bar at which it ends, closed trades before it
BLOCK, BLOCK_END, TRADES_BEFORE = range(4, 7)
# closed trades; trades written down
TRADES, RECORDED = range(7, 9)
# drawdown: bar of the peak, bars of the deepest fall; the bars of the position in which the peak was reached, from -1
# where PEAK_BAR is known
PEAK_BAR, DEPTH_BARS, PEAK_FROM, PEAK_TO = range(9, 13)
# the side of the position, LONG or SHORT
SIDE = 13
COUNTS = 14
NEVER = 2**62
LANES = 8
# what fills of a side are reckoned with, in float64 `terms` from LONG or SHORT on: its sign, the factors from a raw
# price to the fill of an entry and to that of an exit, that from the value at an exit to the cash, and 0 where nothing
# is left of the cash after an entry, as the account is all in, else 1
LONG, SHORT = 0, 5
SIGN, ENTER, LEAVE, PROCEEDS, REST = range(5)
# sums over the bars of returns r, r^2, r^3, r^4, and of min(r - free, 0)^2, in lanes (see lanes.py): eight places each
SUM1, SUM2, SUM3, SUM4, DOWNSIDE = range(0, 40, 8)
SUMS = 56  # the equity's come last, and the lowest equity of positions since the peak
HELD_EQUITY, LOWS_HELD = 40, 48
# closed trades, in float64 `deals`: those that are not booked yet, by their number modulo 8 (fills, units with their
# sign); then what is booked of them, in lanes by the same number
FILL_IN, FILL_OUT, FILL_UNITS = range(0, 24, 8)
FEES, TRADED, GAINS, LOSSES, WIN_RETURNS, LOSS_RETURNS, BEST, WORST, WINS = range(24, 96, 8)
DEALS = 96

# columns of a recorded trade
T_UNITS, T_ENTRY_BAR, T_EXIT_BAR, T_ENTRY_PRICE, T_EXIT_PRICE, T_FEES, T_PNL, T_RETURN, T_REASON = range(9)
TRADE_COLUMNS = 9
OPEN, SIGNAL, HOLD, STOP, TARGET, RUIN = range(6)
REASONS = ("open", "signal", "hold", "stop", "target", "ruin")

# rows of the inputs
OPENS, HIGHS, LOWS, CLOSES, RETURNS, TABLES = range(6)
ENTRIES, EXITS, SHORT_ENTRIES, SHORT_EXITS = range(4)
