"""`sefa-edge replay`: recomputes a recorded run and compares it bit for bit."""
