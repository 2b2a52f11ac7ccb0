"""Servers that tests start on this machine, on free ports of the loopback, and end by their own pid."""
