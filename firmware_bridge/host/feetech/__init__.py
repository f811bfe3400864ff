"""Feetech STS servos: packets, registers, transactions, and the arm built from them."""
