"""`python -m grid` is `grid`."""

from grid.cli import main

main()
