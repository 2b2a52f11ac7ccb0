"""Data at rest: OHLCV, results and the providers that hold them. Imports neither `grid` nor `strategies`."""
