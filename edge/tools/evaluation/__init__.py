"""`sefa-edge eval`: an engine in the lock-step simulated world."""
