"""`python -m sefa_edge` is the command `sefa-edge`."""

from sefa_edge.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
