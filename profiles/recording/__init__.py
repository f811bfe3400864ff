"""Recordings: LeRobot datasets read, windows chosen, observations as a policy sees them."""
