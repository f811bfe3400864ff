"""Selective Flow Alignment: networks, training in three stages, checkpoints."""
