"""Frames of a run: sampled while it runs, drawn once the arm is at rest."""
