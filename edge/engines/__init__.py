"""OWNS THE ENGINE: what a file is, whether it fits its card, running it."""
