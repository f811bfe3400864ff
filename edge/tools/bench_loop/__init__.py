"""`sefa-edge bench-loop`: measures the control loop on this device."""
