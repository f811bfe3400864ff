"""`sefa-edge verify`: compares two engines on the same observations."""
