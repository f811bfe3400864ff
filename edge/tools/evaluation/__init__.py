"""`sefa-edge eval`: measures an engine's success in the lock-step simulated world."""
