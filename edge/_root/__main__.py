"""The command `sefa-edge`, also as `python -m sefa_edge`. Handles stop signals before it loads anything large."""

import signal


def main() -> int:
    """Run the command line; returns the exit code."""
    from sefa_edge.stopping import ENDING, leave_when_stopped

    leave_when_stopped()
    from sefa_edge.cli import main as run_command

    try:
        return run_command()
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # during shutdown it would print a traceback


if __name__ == "__main__":
    raise SystemExit(main())
