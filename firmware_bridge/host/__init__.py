"""Host side of the arm: messages, calibration, the `Arm` protocol, and one folder per kind of bus."""
