"""Feetech STS servos: packets, registers, the port, and the arm made of them."""
