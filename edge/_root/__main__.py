"""The command `sefa-edge`, also as `python -m sefa_edge`. Loads next to nothing before stop signals are handled."""

import signal


def main() -> int:
    """Perform the command line; returns the exit code."""
    from sefa_edge.stopping import ENDING, leave_when_stopped

    leave_when_stopped()
    from sefa_edge.cli import main as perform

    try:
        return perform()
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # the interpreter tidies up, and would complain


if __name__ == "__main__":
    raise SystemExit(main())
