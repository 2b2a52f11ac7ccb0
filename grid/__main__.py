"""What `grid` and `python -m grid` start."""

import sys


def main() -> None:
    """Run the command line. Loading it takes a moment, in which Ctrl-C is no more of an accident than later."""
    try:
        from grid.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
