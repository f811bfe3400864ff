"""LeRobot datasets: reading them, choosing frames, and the observations of a policy."""
