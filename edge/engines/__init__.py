"""OWNS THE ENGINE: identifying its file, checking it against its card, running it."""
