"""Host side of the arm: messages, the port, the servo protocol, the Arm."""
