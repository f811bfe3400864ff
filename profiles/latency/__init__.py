"""Latency: the machine-readable report, and the page for a person."""
