"""The command `sefa-edge`, also as `python -m sefa_edge`. Loads nothing before Ctrl-C has a handler of its own."""

import os
import signal

CTRL_C_EXIT_CODE = 128 + signal.SIGINT


def main() -> int:
    """Perform the command line; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)  # nothing has begun that would have to be undone
    from sefa_edge.cli import main as perform

    try:
        return perform()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter tidies up, and would complain


def _leave(*_: object) -> None:
    """While modules are loaded: an exception there could come out of anything as anything."""
    try:
        os.write(2, b"stopped by Ctrl-C\n")
    finally:
        os._exit(CTRL_C_EXIT_CODE)


if __name__ == "__main__":
    raise SystemExit(main())
