"""`sefa-edge verify`: two engines on the same observations."""
