"""`sefa-edge bench-loop`: proves the control loop on this very unit."""
