"""Cameras: frames and their sources; each camera runs in a separate process."""
