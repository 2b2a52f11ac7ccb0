"""Measurements behind the claims in docs/benchmarks.md; `make bench` runs them. Nothing here asserts a time."""
