"""Host side of the arm: messages, calibration, the Arm, and one room per kind of arm."""
